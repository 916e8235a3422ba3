package check

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
)

// probeTimeout bounds one probe. A publish that is not allowed is never answered.
const probeTimeout = 2 * time.Second

// checkPermissions tries each right of the worker in a way that changes nothing: a publish that expects an impossible sequence is refused
// by the stream if it is allowed to get there, and a pull or a read that is no JSON is refused by who gets it.
func checkPermissions(ctx context.Context, connected *app.Broker, topology broker.Topology, note noter) {
	prefix := topology.Prefix
	var denied []string
	for _, probe := range []struct{ stream, subject string }{
		{topology.Names().Results(), prefix + ".result.check.none.none.failed"},
		{topology.Names().Dead(), prefix + ".dead.check.none.none.malformed"},
		{topology.Names().Retries(), prefix + ".retry.at.check"},
		{"KV_" + topology.Names().PaceBucket(), "$KV." + topology.Names().PaceBucket() + ".check"},
		{"KV_" + topology.Names().AnswersBucket(), "$KV." + topology.Names().AnswersBucket() + ".check"},
	} {
		if !mayPublish(ctx, connected.JS, probe.stream, probe.subject) {
			denied = append(denied, "publish "+probe.subject)
		}
	}
	for _, binding := range topology.Consumers() {
		subject := "$JS.API.CONSUMER.MSG.NEXT." + binding.Stream + "." + binding.Config.Name
		if !mayRequest(ctx, connected.Conn, subject) {
			denied = append(denied, "publish "+subject)
		}
	}
	for _, subject := range reads(topology.Names()) {
		if !mayRequest(ctx, connected.Conn, subject) {
			denied = append(denied, "publish "+subject)
		}
	}
	if len(denied) > 0 {
		note("permissions", Fail, "the broker did not answer; give this user the right to: %s", strings.Join(denied, "; "))
		return
	}
	note("permissions", OK, "results, dead letters, retries, pace, pulls and reads are allowed")
}

// reads returns the subjects of what a worker reads besides its pulls: single messages, entries of buckets, the pace as it changes, and
// how far replays are.
func reads(names broker.Names) []string {
	var subjects []string
	for _, stream := range []string{names.Queries(), names.Retries(), names.Results(), names.Dead()} {
		subjects = append(subjects, "$JS.API.STREAM.MSG.GET."+stream)
	}
	for _, bucket := range []string{names.PaceBucket(), names.AnswersBucket()} {
		subjects = append(subjects, "$JS.API.DIRECT.GET.KV_"+bucket+".$KV."+bucket+".check")
	}
	pace := names.PaceBucket()
	watch := "$JS.API.CONSUMER.CREATE.KV_" + pace + ".check.$KV." + pace + ".control.>" // With the filter, so that a user may be confined to it.
	return append(subjects, watch, "$JS.API.DIRECT.GET.KV_"+names.ReplaysBucket())
}

// mayPublish tells whether a publish gets as far as the stream. Being told that there is no such stream counts too: who has no right is told
// nothing at all.
func mayPublish(ctx context.Context, js jetstream.JetStream, stream, subject string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := js.Publish(ctx, subject, nil, jetstream.WithExpectStream(stream), jetstream.WithExpectLastSequence(math.MaxInt64))
	_, answered := errors.AsType[*jetstream.APIError](err)
	return answered || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// mayRequest tells whether a request is answered at all, be it only that nobody listens.
func mayRequest(ctx context.Context, conn *nats.Conn, subject string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := conn.RequestWithContext(ctx, subject, []byte("{"))
	return err == nil || errors.Is(err, nats.ErrNoResponders)
}
