package app

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// TestAQueryWhoseLetterWouldBeTooLarge publishes a query that can't be read, with a header that takes six times its size once it is JSON. It is
// set aside without the message, and its place in the queue is free again.
func TestAQueryWhoseLetterWouldBeTooLarge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.run(t)
	r.ready(t)
	_, err := r.broker.JS.PublishMsg(t.Context(), &nats.Msg{
		Subject: r.Subjects.Query(query.EasyPay, query.Interactive, "shop"), Data: []byte(`{"cardCd":"008","amount":"much"}`),
		Header: nats.Header{"Nats-Msg-Id": {"large"}, "X-Large": {strings.Repeat("\x01", 60<<10)}},
	})
	require.NoError(t, err)
	failed := r.resultOf(t, r.keyOfBare(t, "large"))
	require.Equal(t, []string{"malformed", "bad_schema"}, []string{failed.Data.Reason, failed.Data.Code})
	letter, _ := r.deadOf(t, "discount.dead.*.*.*.malformed")
	require.Equal(t, "bad_schema", letter.Data.Code)
	names := r.topology.Names()
	require.Eventually(t, func() bool { return r.count(t, names.Queries()) == 0 }, patience, 20*time.Millisecond)
	require.Equal(t, 1, r.count(t, names.Dead()))
}
