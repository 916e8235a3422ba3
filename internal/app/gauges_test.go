package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/gauge"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
)

// often is how often workers read the broker's figures in these tests.
const often = 50 * time.Millisecond

// gauged runs a worker that reads the broker's figures often.
func (s *site) gauged(t *testing.T) *running {
	t.Helper()
	built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log})
	require.NoError(t, err)
	built.gauges.every = often
	return s.start(t, built)
}

// scrape returns the page of metrics as text, and the worker's own values by their names and labels.
func (r *running) scrape(t *testing.T) (string, map[string]float64) {
	t.Helper()
	admin := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := admin.Get("http://" + r.AdminAddr() + "/metrics")
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	require.Equal(t, http.StatusOK, response.StatusCode)
	page, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	values := map[string]float64{}
	for line := range strings.Lines(string(page)) {
		name, own := strings.CutPrefix(strings.TrimSpace(line), "discount_worker_")
		if at := strings.LastIndex(name, " "); own && at > 0 {
			values[name[:at]], err = strconv.ParseFloat(name[at+1:], 64)
			require.NoError(t, err)
		}
	}
	return string(page), values
}

// requireValues waits until the metrics have the values given.
func (r *running) requireValues(t *testing.T, want map[string]float64) {
	t.Helper()
	ticker, late := time.NewTicker(often), time.After(patience)
	defer ticker.Stop()
	for {
		_, all := r.scrape(t)
		got := map[string]float64{}
		for name := range want {
			if value, there := all[name]; there {
				got[name] = value
			}
		}
		if maps.Equal(got, want) {
			return
		}
		select {
		case <-ticker.C:
		case <-late:
			require.Equal(t, want, got)
		}
	}
}

// hold stops all calls of an account, as an operator does.
func (s *site) hold(t *testing.T, account quota.Account, on *broker.Names, js jetstream.JetStream) {
	t.Helper()
	bucket, err := js.KeyValue(t.Context(), on.PaceBucket())
	require.NoError(t, err)
	require.NoError(t, quota.Pause(t.Context(), quota.NewKV(bucket), account, quota.Author{By: "kim", Why: "test"}))
}

// TestWhatTheBrokerHoldsIsShown lets queries wait that nobody may ask, puts letters and replays beside them, and looks at the page.
func TestWhatTheBrokerHoldsIsShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.on(t, brokertest.New)
	names := server.Topology.Names()
	s.hold(t, quota.Account{Provider: query.EasyPay, Name: defaultAccount}, &names, server.JS)
	for _, subject := range []string{"discount.dead.k1.easypay.shop.rejected", "discount.dead.k2.easypay.till.rejected", "discount.dead.k3.unionpay.shop.malformed"} {
		_, err := server.JS.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("{}")})
		require.NoError(t, err)
	}
	replays, err := server.JS.KeyValue(t.Context(), names.ReplaysBucket())
	require.NoError(t, err)
	_, err = replays.Put(t.Context(), "batch.1", []byte(`{"state":"stopped"}`))
	require.NoError(t, err)
	_, err = server.JS.Publish(t.Context(), "discount.retry.at.k9", []byte("{}"), jetstream.WithScheduleAt(time.Now().Add(time.Hour)),
		jetstream.WithScheduleTarget("discount.retry.due.easypay.bulk.shop"))
	require.NoError(t, err)

	r := s.gauged(t)
	for i := range 5 {
		_, err := r.Publish(t.Context(), easyPay(fmt.Sprint(i), "008", query.Interactive))
		require.NoError(t, err)
	}
	r.requireValues(t, map[string]float64{
		`backlog{lane="interactive",provider="easypay",queue="query"}`:             5,
		`backlog{lane="bulk",provider="easypay",queue="query"}`:                    0,
		`backlog{lane="interactive",provider="unionpay",queue="retry"}`:            0,
		`ack_pending{lane="interactive",provider="easypay",queue="query"}`:         0,
		`ack_floor_lag{lane="interactive",provider="easypay",queue="query"}`:       0,
		`oldest_age_seconds{lane="interactive",provider="unionpay",queue="query"}`: 0,
		`scheduled`:  1,
		`advisories`: 0,
		`dead_letters{provider="easypay",reason="rejected"}`:            2,
		`dead_letters{provider="unionpay",reason="malformed"}`:          1,
		`dead_letters{provider="unionpay",reason="exhausted"}`:          0,
		`dead_letters{provider="easypay",reason="quarantined"}`:         0,
		`dead_letters{provider="other",reason="other"}`:                 0,
		`replays{state="stopped"}`:                                      1,
		`replays{state="running"}`:                                      0,
		`stream_messages{stream="QUERIES"}`:                             5,
		`stream_messages{stream="DEAD"}`:                                3,
		`stream_full_ratio{stream="RETRIES"}`:                           0,
		`pace_paused{account="default",provider="easypay"}`:             1,
		`pace_paused{account="default",provider="unionpay"}`:            0,
		`pace_ceiling_per_second{account="default",provider="easypay"}`: 1000,
		`demand_replicas`: 1, `demand_limited_by{limit="upstream"}`: 1, `demand_limited_by{limit="workers"}`: 0, `demand_limited_by{limit="none"}`: 0,
		`slots{consumer="DISCOUNT_QUERIES/easypay-interactive"}`:      float64(s.Lanes.Interactive.Slots),
		`slots_held{consumer="DISCOUNT_QUERIES/easypay-interactive"}`: 0,
	})
	_, values := r.scrape(t)
	require.Positive(t, values[`oldest_age_seconds{lane="interactive",provider="easypay",queue="query"}`])
	require.Positive(t, values[`stream_bytes{stream="QUERIES"}`])
	require.Positive(t, values[`stream_full_ratio{stream="DEAD"}`])
	require.Contains(t, values, "broker_read_age_seconds")
	require.NotContains(t, values, `dead_letters{provider="easypay",reason="expired"}`, "there never is such a letter")

	bucket, err := server.JS.KeyValue(t.Context(), names.PaceBucket())
	require.NoError(t, err)
	require.NoError(t, quota.Resume(t.Context(), quota.NewKV(bucket), quota.Account{Provider: query.EasyPay, Name: defaultAccount}, quota.Author{By: "kim"}))
	r.requireValues(t, map[string]float64{
		`backlog{lane="interactive",provider="easypay",queue="query"}`:              0,
		`oldest_age_seconds{lane="interactive",provider="easypay",queue="query"}`:   0,
		`outcomes_total{lane="interactive",outcome="completed",provider="easypay"}`: 5,
		`outcomes_total{lane="interactive",outcome="failed",provider="easypay"}`:    0,
		`redeliveries_total{lane="interactive",provider="easypay"}`:                 0,
		`pace_paused{account="default",provider="easypay"}`:                         0,
		`demand_limited_by{limit="none"}`:                                           1,
		`ready`:                                                                     1,
		`stream_messages{stream="RESULTS"}`:                                         5,
	})
	r.stop()
	r.wait(t)
	require.Empty(t, s.lines("broker's figures"), "nothing went wrong")
}

// TestLabelsAreNeverTakenFromMessages sends what a publisher writes freely through, and looks for it in the whole page.
func TestLabelsAreNeverTakenFromMessages(t *testing.T) {
	t.Parallel()
	const canary = "canary7391"
	s := newSite(t)
	s.Cards.AcceptPlain = true
	server := s.on(t, brokertest.New)
	r := s.gauged(t)
	_, err := r.Publish(t.Context(), unionPay(t, canary, query.Bulk))
	require.NoError(t, err)
	for i, data := range []string{
		`{"mallId":"` + canary + `","cardCd":"` + canary + `"}`, `{"` + canary + `":1}`, canary + testCard,
		`{"scenId":"` + canary + `","data":{"userToken":"` + testToken + `","cardNo":"` + testCard + `"}}`,
	} {
		for _, provider := range []string{"easypay", "unionpay"} {
			message := &nats.Msg{Subject: "discount.query." + provider + ".interactive." + canary, Data: []byte(data), Header: nats.Header{
				"Nats-Msg-Id": {fmt.Sprint(canary, provider, i)}, "ce-type": {canary}, "ce-source": {canary}, "traceparent": {canary},
			}}
			_, err := server.JS.PublishMsg(t.Context(), message)
			require.NoError(t, err)
		}
	}
	for _, subject := range []string{"discount.dead.k." + canary + "." + canary + "." + canary, "discount.dead.k.easypay.shop." + testCard} {
		_, err := server.JS.Publish(t.Context(), subject, []byte(canary))
		require.NoError(t, err)
	}
	_, err = server.JS.Publish(t.Context(), "discount.retry.due.easypay.bulk."+canary, []byte(canary))
	require.NoError(t, err)
	replays, err := server.JS.KeyValue(t.Context(), server.Topology.Names().ReplaysBucket())
	require.NoError(t, err)
	_, err = replays.Put(t.Context(), "batch."+canary, []byte(`{"state":"`+canary+`"}`))
	require.NoError(t, err)
	r.requireValues(t, map[string]float64{
		`dead_letters{provider="other",reason="other"}`: 2, `dead_letters{provider="none",reason="malformed"}`: 1,
		`stream_messages{stream="QUERIES"}`: 0,
	})
	var page string
	require.Eventually(t, func() bool { // A failure is counted once its query is acked.
		page, _ = r.scrape(t)
		return strings.Contains(page, "discount_worker_failures_total{")
	}, patience, 20*time.Millisecond)
	for _, secret := range []string{canary, testCard, testCard[:8], testToken, "shop"} {
		require.NotContains(t, page, secret)
	}
}

func TestFiguresWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.on(t, brokertest.New)
	r := s.gauged(t)
	_, err := server.JS.Publish(t.Context(), "discount.dead.k1.easypay.shop.rejected", []byte("{}"))
	require.NoError(t, err)
	letter := map[string]float64{`dead_letters{provider="easypay",reason="rejected"}`: 1}
	r.requireValues(t, letter)
	r.ready(t)
	server.Stop()
	r.requireValues(t, map[string]float64{`ready`: 0, `dead_letters{provider="easypay",reason="rejected"}`: 1})
	_, values := r.scrape(t)
	before := values["broker_read_age_seconds"]
	require.Eventually(t, func() bool {
		_, values := r.scrape(t)
		return values["broker_read_age_seconds"] > before+1
	}, patience, often, "they grow old")
	server.Resume(t)
	r.ready(t)
	server.Reconnected(t)
	_, err = server.JS.Publish(t.Context(), "discount.dead.k2.easypay.shop.rejected", []byte("{}"))
	require.NoError(t, err)
	r.requireValues(t, map[string]float64{`ready`: 1, `dead_letters{provider="easypay",reason="rejected"}`: 2})
}

func TestTroubleWithTheFiguresIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	g := built.gauges
	for _, err := range []error{
		nil, nil, context.DeadlineExceeded, context.DeadlineExceeded, fmt.Errorf("other words: %w", context.DeadlineExceeded), errors.New("free text"),
		&jetstream.APIError{ErrorCode: 10059}, &jetstream.APIError{ErrorCode: 10059}, &jetstream.APIError{ErrorCode: 10014}, nil, nil, context.DeadlineExceeded,
	} {
		g.tell(err)
	}
	require.NoError(t, built.Close(t.Context()))
	require.Len(t, s.lines("figures not read"), 5)
	require.Len(t, s.lines("figures not read", `"error":"context deadline exceeded"`), 2)
	require.Len(t, s.lines("figures not read", `"server_code":10059`), 1)
	require.Len(t, s.lines("figures are read again"), 1)
	require.Empty(t, s.lines("free text"))
}

// TestPartsThatWereNotReadStay shows figures of which parts are missing: what was known stays.
func TestPartsThatWereNotReadStay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, built.Close(context.Background())) })
	r := &running{App: built}
	_, values := r.scrape(t)
	for name := range values {
		for _, absent := range []string{"backlog", "dead_letters", "replays", "stream_", "scheduled", "advisories", "demand_", "broker_read"} {
			require.False(t, strings.HasPrefix(name, absent), "%s was never read", name)
		}
	}
	queue := gauge.Queue{Provider: "easypay", Lane: "bulk", Kind: "query", Backlog: 3}
	built.gauges.show(gauge.Figures{Queues: []gauge.Queue{queue}, Scheduled: 4}, false)
	_, values = r.scrape(t)
	require.InDelta(t, 4, values["scheduled"], 0)
	require.NotContains(t, values, "broker_read_age_seconds", "not in full")
	require.Contains(t, values, "demand_replicas")
	built.gauges.show(gauge.Figures{Dead: []gauge.Letters{{Provider: "easypay", Reason: "rejected", Count: 7}}}, false)
	_, values = r.scrape(t)
	require.InDelta(t, 3, values[`backlog{lane="bulk",provider="easypay",queue="query"}`], 0)
	require.InDelta(t, 7, values[`dead_letters{provider="easypay",reason="rejected"}`], 0)
	built.gauges.show(gauge.Figures{Queues: []gauge.Queue{queue}}, true)
	_, values = r.scrape(t)
	require.Contains(t, values, "broker_read_age_seconds")
	require.InDelta(t, 0, values["scheduled"], 0)
}

// TestMissingRightToReplaysIsNoReasonNotToBeReady denies what only the figures need, and what else needs.
func TestMissingRightToReplaysIsNoReasonNotToBeReady(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	built.health.Ready("worker")
	built.pull()
	built.brokerEvent(broker.Event{Kind: broker.EventPublishDenied, Subject: "$JS.API.DIRECT.GET.KV_discount_replays"})
	require.Empty(t, built.Problems())
	built.brokerEvent(broker.Event{Kind: broker.EventPublishDenied, Subject: "$JS.API.STREAM.MSG.GET.DISCOUNT_RESULTS"})
	require.Contains(t, built.Problems(), "permissions")
	require.NoError(t, built.Close(t.Context()))
	require.Len(t, s.lines(`"msg":"broker"`), 1)
}
