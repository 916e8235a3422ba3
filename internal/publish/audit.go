package publish

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Auditor writes down what operators do.
type Auditor struct {
	JS       jetstream.JetStream
	Subjects query.Subjects
	// Stream is the name of the stream written to.
	Stream string
	// Timeout bounds one write until it is confirmed.
	Timeout time.Duration
}

// Audit writes one record and returns when the broker has confirmed it. It tries once: an operator can try again, and what could not be
// written down must not be done.
func (a *Auditor) Audit(ctx context.Context, id string, at time.Time, data query.AuditData) error {
	event, err := query.NewAudit(id, at, data).Encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	_, err = a.JS.PublishMsg(ctx, eventMessage(a.Subjects.Audit(data.Action), event), jetstream.WithExpectStream(a.Stream), jetstream.WithMsgID(id))
	if err != nil {
		return fmt.Errorf("nothing was done, because it could not be written down (may this user publish %s, and is there a stream %s?): %w",
			a.Subjects.Audit(data.Action), a.Stream, fault.Because("audit", fault.Interrupted, fault.NotStored, err))
	}
	return nil
}
