package app

import (
	"context"
	"time"

	"go.uber.org/zap"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/worker"
)

// newAsks returns the service that answers queries and lookups on the reply subject.
func (a *App) newAsks(decoder *query.Decoder, handler *worker.Worker, publisher *publish.Publisher, callers callers) *ask.Service {
	var providers []query.Provider
	for _, name := range a.Config.Providers.Enabled() {
		providers = append(providers, query.Provider(name))
		a.metrics.ExpectReplies("ask-"+name, replyCodes()...)
	}
	a.metrics.ExpectReplies("lookup", replyCodes()...)
	a.metrics.ExpectReplies("keys", replyCodes()...)
	a.health.Unready("requests", "starting")
	return ask.New(ask.Options{
		Conn: a.broker.Conn, Subjects: a.subjects, Decoder: decoder, Asker: handler, Results: publisher, Providers: providers, Build: a.Build,
		Slots: a.Config.Ask.Slots, Patience: a.Config.Ask.Timeout, MaxPatience: a.Config.Ask.MaxTimeout,
		MaxBytes: int(a.Config.Streams.Queries.MaxMsgSize), InboxPrefix: a.Config.Ask.InboxPrefix,
		Delay:     func(q *query.Query) time.Duration { return a.delay(q, callers) },
		Keys:      a.publicKeys,
		State:     func() ask.Replica { return a.replica(callers) },
		OnServing: func() { a.health.Ready("requests") },
		OnReply:   func(reply ask.Reply) { a.metrics.Replied(reply.Endpoint, string(reply.Code), reply.Took) },
	})
}

// delay estimates how long a query would wait for the pace, or for an upstream that is down. One that takes an older answer may need no call
// at all.
func (a *App) delay(q *query.Query, callers callers) time.Duration {
	if q.MaxAge != nil {
		return 0
	}
	return max(a.pace.delay(q), callers.upIn(q))
}

// serveAsks serves requests until ctx ends. Without them the queue works all the same, but the worker is not ready.
func (a *App) serveAsks(ctx, work context.Context) {
	if err := a.asks.Load().Serve(ctx, work); err != nil {
		a.health.Unready("requests", "not served")
		a.log.Error("requests are not served", zap.String("service", ask.Name), brokerError(err))
	}
}

func replyCodes() []string {
	var codes []string
	for _, code := range ask.Codes() {
		codes = append(codes, string(code))
	}
	return codes
}
