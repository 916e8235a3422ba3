package app

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

func TestTheWholeWay(t *testing.T) { //nolint:tparallel // The parts share one worker in turn: an outage in one would hold up the others.
	t.Parallel()
	s := newSite(t)
	outage := of("016", sandbox.KindStatus, "503")
	outage.Count = 4
	s.fail(t, of("027", sandbox.KindCode, "9999"), outage)
	r := s.run(t)
	r.ready(t)
	t.Run("answered", func(t *testing.T) { r.answersBoth(t) })
	t.Run("malformed", func(t *testing.T) { r.setsMalformedAside(t) })
	t.Run("rejected", func(t *testing.T) { r.setsRejectedAside(t) })
	t.Run("outage", func(t *testing.T) { r.outlastsAnOutage(t) })

	r.stop()
	r.wait(t)
	for _, secret := range []string{testCard, testToken, "urn:shop"} {
		require.NotContains(t, s.log.String(), secret)
	}
	require.Len(t, s.lines(`"msg":"query complete"`), 5)
	require.Len(t, s.lines(`"msg":"query bury"`), 3)
	require.Len(t, s.lines(`"msg":"query retry"`), 1)
}

func (r *running) answersBoth(t *testing.T) {
	for _, lane := range []query.Lane{query.Interactive, query.Bulk} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		result, err := r.Ask(ctx, easyPay("easypay-"+string(lane), "008", lane))
		require.NoError(t, err)
		require.Equal(t, query.Completed, result.Status)
		offers := read(t, result.Event)
		require.Equal(t, "ok", offers.Data.Outcome)
		require.Len(t, offers.Data.Offers, 2)
		require.Len(t, offers.Data.Attempts, 1)
		require.Equal(t, lane, offers.Data.Query.Lane)
		require.Equal(t, "order easypay-"+string(lane), offers.CorrelationID)

		result, err = r.Ask(ctx, unionPay(t, "unionpay-"+string(lane), lane))
		require.NoError(t, err)
		require.Equal(t, query.Completed, result.Status)
		usage := read(t, result.Event)
		require.NotNil(t, usage.Data.Usage)
		require.Equal(t, testCard[len(testCard)-4:], usage.Data.Card.LastFour)
		require.NotEmpty(t, usage.Data.Upstream.Reference)
	}
	stored, err := r.Result(t.Context(), query.Key("shop", "urn:shop", "unionpay-bulk"))
	require.NoError(t, err)
	require.Equal(t, query.Completed, stored.Status)
}

// setsMalformedAside publishes what can't be read: without an identity it becomes a dead letter only, with one a failed result too.
func (r *running) setsMalformedAside(t *testing.T) {
	subject := r.Subjects.Query(query.EasyPay, query.Interactive, "shop")
	ack, err := r.broker.JS.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte(`{"cardCd": "` + testCard)})
	require.NoError(t, err)
	letter, where := r.deadOf(t, "discount.dead.*.*.*.malformed")
	require.Equal(t, "discount.query.dead.v1", letter.Type)
	require.Equal(t, "malformed", letter.Data.Reason)
	require.Equal(t, r.Subjects.Dead(letter.Data.Query.Key, query.EasyPay, "shop", "malformed"), where)
	require.NotZero(t, ack.Sequence)
	results := r.count(t, r.topology.Names().Results())

	named := &nats.Msg{Subject: subject, Data: []byte(`{"cardCd":"008","amount":"much"}`), Header: nats.Header{"Nats-Msg-Id": {"named"}}}
	_, err = r.broker.JS.PublishMsg(t.Context(), named)
	require.NoError(t, err)
	letter, _ = r.deadOf(t, "discount.dead."+r.keyOfBare(t, "named")+".>")
	require.Equal(t, "malformed", letter.Data.Reason)
	failed := r.resultOf(t, letter.Data.Query.Key)
	require.Equal(t, "discount.query.failed.v1", failed.Type)
	require.True(t, failed.Data.Dead)
	require.Empty(t, failed.Data.Attempts, "nothing was asked")
	require.Equal(t, results+1, r.count(t, r.topology.Names().Results()), "nobody can be told about the one without an identity")
}

// keyOfBare returns the key of bare data with a message id.
func (r *running) keyOfBare(t *testing.T, id string) string {
	t.Helper()
	decoder, err := query.NewDecoder(r.Subjects)
	require.NoError(t, err)
	q, err := decoder.Decode(query.Delivery{
		Subject: r.Subjects.Query(query.EasyPay, query.Interactive, "shop"), Header: map[string][]string{"Nats-Msg-Id": {id}}, Data: []byte(`{"cardCd":"008"}`),
	})
	require.NoError(t, err)
	return q.Key()
}

func (r *running) setsRejectedAside(t *testing.T) {
	key, err := r.Publish(t.Context(), easyPay("rejected", "027", query.Interactive))
	require.NoError(t, err)
	failed := r.resultOf(t, key)
	require.Equal(t, "rejected", failed.Data.Reason)
	require.Equal(t, "upstream_broken", failed.Data.Code)
	require.Equal(t, "9999", failed.Data.Upstream.Code)
	require.True(t, failed.Data.Dead)
	require.Len(t, failed.Data.Attempts, 1, "a refusal is not repeated")
	letter, _ := r.deadOf(t, r.Subjects.DeadGuard(key))
	require.Equal(t, "rejected", letter.Data.Reason)
}

// outlastsAnOutage asks an upstream that is away for longer than the short retries last.
func (r *running) outlastsAnOutage(t *testing.T) {
	key, err := r.Publish(t.Context(), easyPay("outage", "016", query.Interactive))
	require.NoError(t, err)
	result := r.resultOf(t, key)
	require.Equal(t, "discount.query.completed.v1", result.Type)
	require.Len(t, result.Data.Attempts, 5, "three at once, and the rest in a scheduled round")
	for i, attempt := range result.Data.Attempts {
		require.Equal(t, []int{503, 503, 503, 503, 200}[i], attempt.Status)
	}
	require.GreaterOrEqual(t, result.Data.Attempts[3].At.Sub(result.Data.Attempts[2].At).Milliseconds(), int64(100))
}
