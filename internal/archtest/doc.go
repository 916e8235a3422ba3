// Package archtest keeps the shape of the source tree by tests: who may import whom, who may ack and publish, how long things may be, that
// no file holds a card number, and that CI may do nothing but run the gate.
// It holds tests only and must never be imported.
package archtest
