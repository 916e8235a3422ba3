// Package proxy stands between a NATS client and its server: it forwards byte by byte, breaks the connection where it is told to, and
// tells what passed, in order. It must never change a byte, and nothing of the product imports it.
package proxy
