package ask

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestAQueryIsAnsweredOnItsReply(t *testing.T) {
	t.Parallel()
	deliveries := make(chan query.Delivery, 1)
	b := setup(t, func(ctx context.Context, delivery query.Delivery, until time.Time) ([]byte, error) {
		deliveries <- delivery
		return echo(ctx, delivery, until)
	})
	before := time.Now()
	requireEvent(t, b.ask("order-1"), `{"asked":"{\"cardCd\":\"026\"}"}`)

	delivery := <-deliveries
	require.WithinRange(t, delivery.Stored, before, time.Now())
	delivery.Stored = time.Time{}
	require.Equal(t, query.Delivery{
		Subject: "discount.ask.easypay.shop", Header: map[string][]string{"Nats-Msg-Id": {"order-1"}}, Data: []byte(coupons), Number: 1,
	}, delivery)
	q, err := b.served.Decoder.Decode(delivery)
	require.NoError(t, err)
	require.Equal(t, query.Key("shop", "shop", "order-1"), q.Key())
	require.Equal(t, query.Interactive, q.Lane)
	b.served.requireCodes("ask-easypay", map[Code]int{Answered: 1})
}

func TestEveryModeOfAQueryIsTaken(t *testing.T) {
	t.Parallel()
	b := setup(t, func(_ context.Context, delivery query.Delivery, _ time.Time) ([]byte, error) {
		decoder, err := query.NewDecoder(query.NewSubjects("discount"))
		if err != nil {
			return nil, err
		}
		q, err := decoder.Decode(delivery)
		if err != nil {
			return nil, err
		}
		return []byte(q.Source + " " + q.ID + " " + string(q.Provider) + " " + q.Client), nil
	})
	for name, tc := range map[string]struct {
		subject string
		header  nats.Header
		data    string
		want    string
	}{
		"structured": {
			"discount.ask.easypay.shop", nats.Header{"Content-Type": {query.ContentTypeEvent}},
			event(t, "1", time.Now().Add(time.Hour)), "urn:shop 1 easypay shop",
		},
		"binary": {
			"discount.ask.easypay.office", nats.Header{
				"ce-specversion": {"1.0"}, "ce-id": {"2"}, "ce-source": {"urn:office"}, "ce-type": {query.TypeRequested},
			}, coupons, "urn:office 2 easypay office",
		},
		"bare": {
			"discount.ask.unionpay.shop", nats.Header{"Nats-Msg-Id": {"3"}}, `{"pid":"1","data":"a.b.c.d.e"}`, "shop 3 unionpay shop",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireEvent(t, b.request(tc.subject, tc.header, tc.data), tc.want)
		})
	}
}

func TestWhatTheAskerSaysIsReplied(t *testing.T) {
	t.Parallel()
	const secret = "6200000000000005"
	for name, tc := range map[string]struct {
		event  []byte
		err    error
		status string
		code   Code
		after  string
	}{
		"malformed, nobody to tell": {err: fault.New("decode "+secret, fault.Malformed, fault.BadJSON), status: "400", code: Malformed},
		"too late":                  {err: fault.New("wait", fault.Expired, fault.DeadlinePassed), status: "504", code: DeadlinePassed},
		"not stored":                {err: fault.New("store", fault.Interrupted, fault.NotStored), status: "503", code: Unavailable, after: "1"},
		"a foreign error":           {err: errors.New(secret), status: "503", code: Unavailable, after: "1"},
		"an error beside an event":  {event: []byte(secret), err: errors.New(secret), status: "503", code: Unavailable, after: "1"},
		"nothing at all":            {status: "503", code: Unavailable, after: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(context.Context, query.Delivery, time.Time) ([]byte, error) { return tc.event, tc.err })
			requireRefused(t, b.ask("1"), tc.status, tc.code, tc.after)
			b.served.requireCodes("ask-easypay", map[Code]int{tc.code: 1})
		})
	}
}

func TestQueriesAreAskedAtOnce(t *testing.T) {
	t.Parallel()
	const askers = 50
	held := newGate()
	b := setup(t, held.ask)
	var replies [askers]*nats.Msg
	var asking sync.WaitGroup
	for i := range askers {
		asking.Go(func() {
			replies[i] = b.request("discount.ask.easypay.shop", nats.Header{}, fmt.Sprintf(`{"cardCd":"%03d"}`, i))
		})
	}
	for range askers {
		wait(t, held.entered, "all are under way at once")
	}
	close(held.open)
	asking.Wait()
	for i := range askers {
		requireEvent(t, replies[i], fmt.Sprintf(`{"asked":"{\"cardCd\":\"%03d\"}"}`, i))
	}
}

func TestOverloadIsToldAtOnce(t *testing.T) {
	t.Parallel()
	held := newGate()
	b := setup(t, held.ask, func(o *Options) { o.Slots = 2 })
	var asking sync.WaitGroup
	for i := range 2 {
		asking.Go(func() { requireEvent(t, b.ask(fmt.Sprint(i)), `{"asked":"{\"cardCd\":\"026\"}"}`) })
	}
	for range 2 {
		wait(t, held.entered, "the slots are taken")
	}
	for range 20 {
		requireRefused(t, b.ask("3"), "503", Overloaded, "1")
	}
	go func() { <-held.entered; close(held.open) }()
	require.NotEmpty(t, b.request("discount.ask.unionpay.shop", nil, `{}`).Data, "the other provider has slots of its own")
	asking.Wait()
	requireEvent(t, b.ask("4"), `{"asked":"{\"cardCd\":\"026\"}"}`)
	b.served.requireCodes("ask-easypay", map[Code]int{Answered: 3, Overloaded: 20})
}

func TestOneAfterTheOtherNeedsOneSlot(t *testing.T) {
	t.Parallel()
	var b *bundle
	free := make(chan int, 300)
	b = setup(t, echo, func(o *Options) {
		o.Slots = 1
		o.OnReply = func(Reply) { free <- b.served.endpoints["ask-easypay"].stats().InFlight }
	})
	for i := range 300 {
		requireEvent(t, b.ask(fmt.Sprint(i)), `{"asked":"{\"cardCd\":\"026\"}"}`)
		require.Zero(t, <-free, "the slot was free when the reply was sent")
	}
}

func TestAPaceThatIsTooFarAwayIsToldAtOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		delay   time.Duration
		expires time.Duration
		after   string
	}{
		"no wait":                      {0, 5 * time.Minute, ""},
		"a wait that fits":             {2 * time.Minute, 5 * time.Minute, ""},
		"a wait beyond the deadline":   {300100 * time.Millisecond, 5 * time.Minute, "301"},
		"whole seconds stay":           {7 * time.Minute, 5 * time.Minute, "420"},
		"a deadline beyond any":        {time.Hour, 2 * time.Hour, "3600"},
		"too late in any case":         {time.Hour, -time.Second, ""},
		"without a deadline: patience": {time.Hour, 0, "3600"},
		"nobody knows for how long":    {math.MaxInt64, 5 * time.Minute, "3600"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			about := make(chan *query.Query, 1)
			b := setup(t, echo, func(o *Options) {
				o.Delay = func(q *query.Query) time.Duration { about <- q; return tc.delay }
			})
			data := coupons
			if tc.expires != 0 {
				data = event(t, "1", time.Now().Add(tc.expires))
			}
			reply := b.request("discount.ask.easypay.shop", nats.Header{"Nats-Msg-Id": {"1"}}, data)
			require.Equal(t, query.EasyPay, (<-about).Provider)
			if tc.after == "" {
				requireEvent(t, reply, fmt.Sprintf(`{"asked":%q}`, data))
				return
			}
			requireRefused(t, reply, "503", Overloaded, tc.after)
		})
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	received := time.Now()
	s := New(Options{Subjects: query.NewSubjects("discount")})
	for name, tc := range map[string]struct {
		expires time.Time
		want    time.Duration
	}{
		"none":           {time.Time{}, 3 * time.Second},
		"a short one":    {received.Add(time.Second), time.Second},
		"a longer one":   {received.Add(9 * time.Second), 9 * time.Second},
		"a far one":      {received.Add(time.Hour), 10 * time.Second},
		"one that is by": {received.Add(-time.Hour), -time.Hour},
	} {
		require.Equal(t, received.Add(tc.want), s.deadline(&query.Query{Expires: tc.expires}, received), name)
	}
	for left, want := range map[time.Duration]time.Duration{
		time.Second: 100 * time.Millisecond, 2 * time.Second: 200 * time.Millisecond, time.Minute: 200 * time.Millisecond, 0: 0, -time.Second: 0,
	} {
		require.Equal(t, want, reserve(left))
	}
	for left, want := range map[time.Duration]time.Duration{
		time.Second: 975 * time.Millisecond, 5 * time.Second: 4950 * time.Millisecond, 0: 3 * time.Second, -time.Hour: 3 * time.Second,
	} {
		require.Equal(t, want, s.waitFor(left))
	}
}

func TestTheAskerHasUntilShortlyBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		data func(now time.Time) string
		want time.Duration
	}{
		"its own":      {func(now time.Time) string { return event(t, "1", now.Add(time.Minute)) }, 59800 * time.Millisecond},
		"none":         {func(time.Time) string { return coupons }, 29800 * time.Millisecond},
		"a far one":    {func(now time.Time) string { return event(t, "1", now.Add(time.Hour)) }, 99800 * time.Millisecond},
		"not readable": {func(time.Time) string { return "{" }, 29800 * time.Millisecond},
		"it is by":     {func(now time.Time) string { return event(t, "1", now.Add(-time.Second)) }, -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			untils := make(chan time.Time, 1)
			b := setup(t, func(_ context.Context, _ query.Delivery, until time.Time) ([]byte, error) {
				untils <- until
				return []byte("{}"), nil
			}, func(o *Options) { o.Patience, o.MaxPatience = 30*time.Second, 100*time.Second })
			before := time.Now()
			requireEvent(t, b.request("discount.ask.easypay.shop", nats.Header{"Nats-Msg-Id": {"1"}}, tc.data(before)), "{}")
			// A time that went through JSON has lost its monotonic reading, so a little is left to the clock.
			require.WithinRange(t, <-untils, before.Add(tc.want-10*time.Millisecond), time.Now().Add(tc.want+10*time.Millisecond))
		})
	}
}

func TestADeadlineIsToldAndTheQueryFinished(t *testing.T) {
	t.Parallel()
	held := newGate()
	b := setup(t, held.ask, func(o *Options) { o.Slots, o.Patience = 1, 600*time.Millisecond })
	began := time.Now()
	requireRefused(t, b.ask("1"), "504", DeadlinePassed, "")
	require.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond)
	requireRefused(t, b.ask("2"), "503", Overloaded, "1")
	close(held.open)
	require.Eventually(t, func() bool { return b.served.endpoints["ask-easypay"].stats().InFlight == 0 }, patience, time.Millisecond)
	data := event(t, "3", time.Now().Add(time.Hour))
	requireEvent(t, b.request("discount.ask.easypay.shop", nil, data), fmt.Sprintf(`{"asked":%q}`, data))
	b.served.requireCodes("ask-easypay", map[Code]int{DeadlinePassed: 1, Overloaded: 1, Answered: 1})
}

func TestAQueryThatComesTooLateGetsItsResult(t *testing.T) {
	t.Parallel()
	b := setup(t, echo)
	data := event(t, "1", time.Now().Add(-time.Minute))
	requireEvent(t, b.request("discount.ask.easypay.shop", nil, data), fmt.Sprintf(`{"asked":%q}`, data))
}
