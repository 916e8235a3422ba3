package app

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// named returns a publisher of another name than the site's.
func (r *running) named(name string) *client.Client {
	options := r.Client.Options
	options.Name = name
	return client.New(options)
}

// publishMany publishes n queries without waiting for the answers.
func publishMany(t *testing.T, from *client.Client, n int, lane query.Lane) {
	t.Helper()
	var publishing sync.WaitGroup
	for part := range 4 {
		publishing.Go(func() {
			for i := part; i < n; i += 4 {
				_, err := from.Publish(t.Context(), easyPay(fmt.Sprint(from.Name, " ", i), "008", lane))
				require.NoError(t, err)
			}
		})
	}
	publishing.Wait()
}

// TestNoClientKeepsAnotherWaiting gives one client a backlog that takes minutes, and then another one three queries.
func TestNoClientKeepsAnotherWaiting(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Clients = []string{"big", "small"}
	s.Providers.UnionPay.Enabled = false
	s.Providers.EasyPay.Pace = config.Pace{Rate: config.Rate{Calls: 20, Per: time.Second}, Burst: 2}
	r := s.run(t)
	r.ready(t)
	const backlog = 2000
	publishMany(t, r.named("big"), backlog, query.Bulk)
	small := r.named("small")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range 3 {
		result, err := small.Ask(ctx, easyPay(fmt.Sprint("small ", i), "008", query.Bulk))
		require.NoError(t, err)
		require.Equal(t, query.Completed, result.Status)
	}
	require.Less(t, r.count(t, r.topology.Names().Results()), backlog/2, "it did not wait for its turn behind them all")

	_, err := r.named("stranger").Publish(t.Context(), easyPay("1", "008", query.Bulk))
	require.ErrorIs(t, err, jetstream.ErrNoStreamResponse, "the broker takes no query of anybody else")
}

// TestRequests asks, asks again, looks up and is refused, over the connection of a client.
func TestRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Ask.Slots = 2
	s.fail(t, of("027", sandbox.KindHang, ""), of("016", sandbox.KindStatus, "503"))
	r := s.run(t)
	r.ready(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first, err := r.Direct(ctx, easyPay("1", "008", query.Interactive))
	require.NoError(t, err)
	require.Equal(t, query.Completed, first.Status)
	again, err := r.Direct(ctx, easyPay("1", "008", query.Interactive))
	require.NoError(t, err)
	require.Equal(t, first.Event, again.Event, "one query has one result")
	stored, err := r.Result(ctx, first.Key)
	require.NoError(t, err)
	require.Equal(t, first.Event, stored.Event)
	card, err := r.Direct(ctx, unionPay(t, "2", query.Interactive))
	require.NoError(t, err)
	require.NotNil(t, read(t, card.Event).Data.Usage)

	found, err := r.Lookup(ctx, first.Key)
	require.NoError(t, err)
	require.Equal(t, first.Event, found.Event)
	_, err = r.named("another").Lookup(ctx, first.Key)
	require.ErrorIs(t, err, client.ErrNoResult, "a client sees its own results only")

	question := easyPay("3", "016", query.Interactive)
	question.Expires = time.Now().Add(2 * time.Second)
	failed, err := r.Direct(ctx, question)
	require.NoError(t, err)
	require.Equal(t, query.Failed, failed.Status)
	require.Zero(t, r.count(t, r.topology.Names().Retries()), "nobody would read a later answer")

	var hanging sync.WaitGroup
	for i := range 2 {
		hanging.Go(func() {
			question := easyPay(fmt.Sprint("hanging ", i), "027", query.Interactive)
			question.Expires = time.Now().Add(5 * time.Second)
			for _, err := r.Direct(ctx, question); isOverloaded(err); _, err = r.Direct(ctx, question) {
				continue // The other queries of this test take slots too.
			}
		})
	}
	require.Eventually(t, func() bool {
		_, err := r.Direct(ctx, easyPay("4", "008", query.Interactive))
		return isOverloaded(err)
	}, patience, 10*time.Millisecond, "whoever finds no slot hears it at once")
	hanging.Wait()
	require.Equal(t, http.StatusOK, r.page("/readyz"))
}

func isOverloaded(err error) bool {
	return err != nil && strings.Contains(err.Error(), "overloaded (503)")
}
