// Package crashpoint names the places at which a test may make a worker die, stop or panic; it must never do anything in a build
// without the tag "crashpoints", and it decides nothing.
package crashpoint

// Label names one place on the way of a query.
type Label string

// The places, in the order in which a query passes them.
const (
	// AfterFetch is a message that was pulled and not looked at yet.
	AfterFetch Label = "after_fetch"
	// AfterDecode is a query that was read and whose card data was opened.
	AfterDecode Label = "after_decode"
	// AfterPermit is a query that was given a call by the pace and has not made it.
	AfterPermit Label = "after_permit"
	// AfterRequestWritten is a call whose request is on the wire.
	AfterRequestWritten Label = "after_request_written"
	// AfterResponseRead is a call whose response was read whole.
	AfterResponseRead Label = "after_response_read"
	// BeforeStore is a result, dead letter or retry that was decided and is not sent to the broker yet.
	BeforeStore Label = "before_store"
	// AfterStore is one that the broker has confirmed.
	AfterStore Label = "after_store"
	// BeforeAck is a message whose outcome is stored and whose ack was not sent.
	BeforeAck Label = "before_ack"
	// AfterAck is a message whose ack was confirmed.
	AfterAck Label = "after_ack"
)

// Labels returns every place, in the order in which a query passes them.
func Labels() []Label {
	return []Label{
		AfterFetch, AfterDecode, AfterPermit, AfterRequestWritten, AfterResponseRead, BeforeStore, AfterStore, BeforeAck, AfterAck,
	}
}
