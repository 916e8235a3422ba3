// Package archtest keeps the shape of the source tree by tests: who may import whom, who may ack and publish, how long things may be.
// It holds tests only and must never be imported.
package archtest
