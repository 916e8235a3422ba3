//go:build !crashpoints || !unix

package crashpoint

// Here does nothing: the compiler removes the call.
func Here(Label) {}
