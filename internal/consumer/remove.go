package consumer

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Remove takes a message that the broker gave up on out of its work queue. The broker keeps such a message, and never delivers it again:
// nothing but an ack removes it. The ack's subject is made up, because the delivery it belongs to is long gone; the server reads nothing
// of it but the stream sequence (nats-server 2.15.2, ackReplyInfo and processAckMsgLocked in consumer.go), and an ack of a message
// that is not pending removes it like any other. It may be called again for a message that is gone.
//
// It must be called only when the query has its result, because a message that somebody holds is removed too. A nil error says that the
// server has taken the ack; a cluster may need a moment more until the message is gone. The server is silent about a sequence that the
// consumer has not reached yet and leaves its message alone: then the error is ctx's.
func Remove(ctx context.Context, js jetstream.JetStream, stream, name string, sequence uint64) error {
	// $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>
	subject := fmt.Sprintf("$JS.ACK.%s.%s.1.%d.1.0.0", stream, name, sequence)
	if _, err := js.Conn().RequestWithContext(ctx, subject, []byte("+ACK")); err != nil {
		return fmt.Errorf("remove message %d of consumer %s of stream %s: %w", sequence, name, stream, err)
	}
	return nil
}
