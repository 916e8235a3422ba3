package broker

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain looks for goroutines that a test left behind. A server that is shut down while a mirror looks for its origin, which does not
// exist in these tests, leaves that look-up waiting for up to 30 seconds: it is the server's, and it ends by itself.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).setupMirrorConsumer.func3"))
}
