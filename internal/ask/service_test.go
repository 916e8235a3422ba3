package ask

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// discovered reads what a service says on a control subject.
func discovered[T any](b *bundle, subject string) T {
	b.t.Helper()
	var told T
	require.NoError(b.t, json.Unmarshal(b.request(subject, nil, "").Data, &told))
	return told
}

func TestServiceCanBeDiscovered(t *testing.T) {
	t.Parallel()
	b := setup(t, echo)
	info := discovered[micro.Info](b, "$SRV.INFO.discount")
	require.Equal(t, "discount", info.Name)
	require.Equal(t, "1.2.3", info.Version)
	require.Equal(t, map[string]string{"build": "v1.2.3"}, info.Metadata)
	require.NotEmpty(t, info.Description)
	subjects := map[string]string{}
	for _, e := range info.Endpoints {
		subjects[e.Name] = e.Subject
		require.Equal(t, "worker", e.QueueGroup)
	}
	require.Equal(t, map[string]string{
		"ask-easypay": "discount.ask.easypay.*", "ask-unionpay": "discount.ask.unionpay.*", "lookup": "discount.lookup.*",
	}, subjects)
	require.Equal(t, info.ID, discovered[micro.Ping](b, "$SRV.PING").ID)
}

func TestStatisticsTellEveryReply(t *testing.T) {
	t.Parallel()
	held := newGate()
	b := setup(t, held.ask, func(o *Options) { o.Slots = 1 })
	reply := b.later("discount.ask.easypay.shop", coupons)
	wait(t, held.entered, "the slot is taken")
	taken := time.Now()
	requireRefused(t, b.ask("2"), "503", Overloaded, "1")
	requireRefused(t, b.request("discount.lookup.shop", nil, "no"), "400", Malformed, "")

	b.served.requireCodes("lookup", map[Code]int{Malformed: 1})
	b.served.requireCodes("ask-easypay", map[Code]int{Overloaded: 1})
	own := func(name string) (*micro.EndpointStats, Stats) {
		for _, e := range discovered[micro.Stats](b, "$SRV.STATS.discount").Endpoints {
			if e.Name == name {
				var data Stats
				require.NoError(t, json.Unmarshal(e.Data, &data))
				return e, data
			}
		}
		require.FailNow(t, "no such endpoint", name)
		return nil, Stats{}
	}
	var theirs *micro.EndpointStats
	var ours Stats
	require.Eventually(t, func() bool { // The framework counts a request after its handler has returned.
		theirs, ours = own("ask-easypay")
		return theirs.NumRequests == 2
	}, patience, time.Millisecond)
	require.Equal(t, 1, theirs.NumErrors)
	require.Equal(t, "503:overloaded", theirs.LastError)
	require.Equal(t, Stats{Slots: 1, InFlight: 1, Replies: map[Code]int64{Overloaded: 1}}, Stats{Slots: ours.Slots, InFlight: ours.InFlight, Replies: ours.Replies})

	// The framework sees of a reply from a slot that there was a request, and we see the rest.
	theirs, ours = own("lookup")
	require.Equal(t, 1, theirs.NumRequests)
	require.Equal(t, map[Code]int64{Malformed: 1}, ours.Replies)

	require.Eventually(t, func() bool { return time.Since(taken) > 20*time.Millisecond }, patience, time.Millisecond)
	close(held.open)
	requireEvent(t, <-reply, `{"asked":"{\"cardCd\":\"026\"}"}`)
	b.served.requireCodes("ask-easypay", map[Code]int{Overloaded: 1, Answered: 1})
	_, ours = own("ask-easypay")
	require.Equal(t, map[Code]int64{Overloaded: 1, Answered: 1}, ours.Replies)
	require.Zero(t, ours.InFlight)
	require.GreaterOrEqual(t, ours.LongestMS, int64(20))
	require.GreaterOrEqual(t, ours.LongestMS, ours.AverageMS)
	_, ours = own("ask-unionpay")
	require.NotNil(t, ours.Replies, "an empty object, not null")
}

func TestReplicasShareTheRequests(t *testing.T) {
	t.Parallel()
	var first, second atomic.Int64
	count := func(n *atomic.Int64) asking {
		return func(ctx context.Context, delivery query.Delivery, until time.Time) ([]byte, error) {
			n.Add(1)
			return echo(ctx, delivery, until)
		}
	}
	b := setup(t, count(&first))
	other := b.serve(b.Connect(t), count(&second))
	const requests = 100
	for i := range requests {
		b.ask(fmt.Sprint(i))
	}
	require.EqualValues(t, requests, first.Load()+second.Load(), "each request is asked once")
	require.Positive(t, first.Load())
	require.Positive(t, second.Load())

	other.stop()
	other.hasEnded()
	before := second.Load()
	for i := range requests {
		b.ask(fmt.Sprint("again", i))
	}
	require.Equal(t, before, second.Load(), "who has stopped gets nothing")
}

func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	held := newGate()
	b := setup(t, held.ask)
	const askers = 10
	var asking sync.WaitGroup
	for i := range askers {
		asking.Go(func() { requireEvent(t, b.ask(fmt.Sprint(i)), `{"asked":"{\"cardCd\":\"026\"}"}`) })
	}
	for range askers {
		wait(t, held.entered, "all are under way")
	}
	b.served.stop()
	require.Eventually(t, func() bool { return nobodyServes(b) }, patience, time.Millisecond, "no more requests are taken")
	select {
	case <-b.served.ended:
		require.FailNow(t, "it stopped before it was done")
	default:
	}
	close(held.open)
	asking.Wait()
	b.served.hasEnded()
	b.served.requireCodes("ask-easypay", map[Code]int{Answered: askers})
}

// nobodyServes tells whether the broker finds nobody to hand a request to.
func nobodyServes(b *bundle) bool {
	_, err := b.client.Request("discount.lookup.shop", []byte("{}"), patience)
	return err != nil && strings.Contains(err.Error(), nats.ErrNoResponders.Error())
}

func TestStopUnderLoadLeavesNobodyInSilence(t *testing.T) {
	t.Parallel()
	b := setup(t, echo)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var asking sync.WaitGroup
	var answered atomic.Int64
	for range 8 {
		asking.Go(func() {
			for {
				reply, err := b.client.RequestMsgWithContext(ctx, &nats.Msg{Subject: "discount.ask.easypay.shop", Data: []byte(coupons)})
				if err != nil {
					require.ErrorIs(t, err, nats.ErrNoResponders, "a request that nobody answers would time out")
					return
				}
				if len(reply.Data) == 0 {
					requireRefused(t, reply, "503", Stopping, "1")
				}
				answered.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return answered.Load() > 500 }, patience, time.Millisecond)
	b.served.stop()
	asking.Wait()
	b.served.hasEnded()
}

func TestAWorkerThatGivesUpSaysSo(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	b := setup(t, func(ctx context.Context, _ query.Delivery, _ time.Time) ([]byte, error) {
		close(entered)
		<-ctx.Done()
		return nil, fault.Because("call", fault.Interrupted, fault.Stopped, ctx.Err())
	})
	reply := b.later("discount.ask.easypay.shop", coupons)
	wait(t, entered, "it is under way")
	b.served.stop()
	b.served.giveUp()
	requireRefused(t, <-reply, "503", Stopping, "1")
	b.served.hasEnded()
}

func TestARequestAfterTheLastIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, echo)
	b.served.Service.mu.Lock()
	b.served.stopping = true
	b.served.Service.mu.Unlock()
	for range 3 {
		requireRefused(t, b.ask("1"), "503", Stopping, "1")
	}
	require.Zero(t, b.served.endpoints["ask-easypay"].stats().InFlight, "it holds no slot")
}

func TestRepliesGoToInboxesOnly(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	b := setup(t, func(context.Context, query.Delivery, time.Time) ([]byte, error) {
		asked.Add(1)
		return []byte("{}"), nil
	}, func(o *Options) { o.MaxBytes = 1000 })
	spy := b.Connect(t)
	seen, err := spy.SubscribeSync("discount.>")
	require.NoError(t, err)
	require.NoError(t, spy.Flush())
	sent := 0
	for _, reply := range []string{
		"", "discount.result.csbuu7xomafjihgdwkgzrrrmq4.easypay.office.completed", "discount.dead.k.easypay.shop.malformed",
		"discount.ask.easypay.shop", "discount.retry.at.k", "orders.new", "_inbox.a", "_INBO", "x_INBOX.a",
	} {
		for _, data := range []string{coupons, strings.Repeat("a", 2000)} {
			require.NoError(t, b.client.PublishMsg(&nats.Msg{Subject: "discount.ask.easypay.shop", Reply: reply, Data: []byte(data)}))
			sent++
		}
	}
	require.NoError(t, b.client.PublishRequest("discount.lookup.shop", "discount.result.k.easypay.shop.failed", []byte(`{"source":"a","id":"b"}`)))
	requireEvent(t, b.ask("1"), "{}")
	require.Eventually(t, func() bool { return b.served.codes("lookup")[Unanswerable] == 1 }, patience, time.Millisecond)
	b.served.requireCodes("ask-easypay", map[Code]int{Unanswerable: sent, Answered: 1})
	require.EqualValues(t, 1, asked.Load(), "nothing is asked that can't be answered")

	require.NoError(t, b.Conn.Flush())
	require.NoError(t, spy.Flush())
	for pending, _, _ := seen.Pending(); pending > 0; pending, _, _ = seen.Pending() {
		message, err := seen.NextMsg(patience)
		require.NoError(t, err)
		require.Regexp(t, `^discount\.(ask\.easypay|lookup)\.shop$`, message.Subject, "the service wrote nothing but its reply")
	}
}

func TestAClientsOwnInboxIsOne(t *testing.T) {
	t.Parallel()
	b := setup(t, echo)
	for _, prefix := range []string{"_INBOX.a", "_INBOX_shop.a", "_R_.abc"} {
		replies, err := b.client.SubscribeSync(prefix + ".1")
		require.NoError(t, err)
		if prefix == "_R_.abc" { // No client can send it. It comes from another account, so it is handed over here by hand.
			e := b.served.endpoints["ask-easypay"]
			e.slots <- struct{}{}
			require.True(t, b.served.isInbox(prefix+".1") && b.served.begin())
			require.NoError(t, b.client.Flush())
			e.run(t.Context(), message{subject: "discount.ask.easypay.shop", replyTo: prefix + ".1", data: []byte(coupons), received: time.Now()})
		} else {
			require.NoError(t, b.client.PublishRequest("discount.ask.easypay.shop", prefix+".1", []byte(coupons)))
		}
		reply, err := replies.NextMsg(patience)
		require.NoError(t, err)
		requireEvent(t, reply, `{"asked":"{\"cardCd\":\"026\"}"}`)
	}
}

func TestHostileRequestsAreAnsweredWithClosedWords(t *testing.T) {
	t.Parallel()
	const secret = "4111111111111111"
	subjects := query.NewSubjects("discount")
	decoder, err := query.NewDecoder(subjects)
	require.NoError(t, err)
	b := setup(t, func(_ context.Context, delivery query.Delivery, _ time.Time) ([]byte, error) {
		q, err := decoder.Decode(delivery)
		if err != nil {
			return nil, err
		}
		return []byte(q.Key()), nil
	}, func(o *Options) { o.MaxBytes = 10_000 })
	deep := strings.Repeat("[", 9000)
	for name, tc := range map[string]struct {
		subject string
		header  nats.Header
		data    string
		status  string
		code    Code
	}{
		"nothing":              {"discount.ask.easypay.shop", nil, "", "400", Malformed},
		"no JSON":              {"discount.ask.easypay.shop", nil, secret + "{", "400", Malformed},
		"no UTF-8":             {"discount.ask.easypay.shop", nil, "{\"cardCd\":\"\xff\"}", "400", Malformed},
		"deep":                 {"discount.ask.easypay.shop", nil, deep, "400", Malformed},
		"a card in the clear":  {"discount.ask.easypay.shop", nil, `{"cardBin":"` + secret + `"}`, "400", Malformed},
		"a bad client":         {"discount.ask.easypay.sh%op", nil, coupons, "400", Malformed},
		"an odd header":        {"discount.ask.easypay.shop", nats.Header{"ce-specversion": {"\xff"}, "Nats-Rollup": {"all"}}, coupons, "400", Malformed},
		"a large payload":      {"discount.ask.easypay.shop", nil, strings.Repeat("a", 10_001), "413", TooLarge},
		"a large header":       {"discount.ask.easypay.shop", nats.Header{"X": {strings.Repeat("a", 10_000)}}, coupons, "413", TooLarge},
		"a large lookup":       {"discount.lookup.shop", nil, strings.Repeat("a", 10_001), "413", TooLarge},
		"a lookup with a card": {"discount.lookup.shop", nil, `{"key":"` + secret + `"}`, "400", Malformed},
		"a deep lookup":        {"discount.lookup.shop", nil, deep, "400", Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireRefused(t, b.request(tc.subject, tc.header, tc.data), tc.status, tc.code, "")
		})
	}
}

func TestAReplyThatCanNotBeSentIsTold(t *testing.T) {
	t.Parallel()
	held := newGate()
	b := setup(t, held.ask)
	require.NoError(t, b.client.PublishRequest("discount.ask.easypay.shop", "_INBOX.a", []byte(coupons)))
	wait(t, held.entered, "it is under way")
	b.Stop()
	require.Eventually(t, b.Conn.IsReconnecting, patience, time.Millisecond)
	close(held.open)
	require.Eventually(t, func() bool { return b.served.codes("ask-easypay")[Unsent] == 1 }, patience, time.Millisecond)

	b.Resume(t)
	b.Reconnected(t)
	require.Eventually(t, func() bool { return b.client.FlushTimeout(time.Second) == nil }, patience, time.Millisecond)
	go func() { <-held.entered }()
	requireEvent(t, b.ask("2"), `{"asked":"{\"cardCd\":\"026\"}"}`)
}

func TestAServiceStopsWithoutItsBroker(t *testing.T) {
	t.Parallel()
	b := setup(t, echo)
	b.Stop()
	require.Eventually(t, b.Conn.IsReconnecting, patience, time.Millisecond)
	b.served.stop()
	b.served.hasEnded()
}

func TestAServiceThatCanNotStartSaysWhy(t *testing.T) {
	t.Parallel()
	b := setup(t, echo)
	conn := b.Connect(t)
	conn.Close()
	options := b.served.Options
	options.Conn, options.OnServing = conn, func() { t.Error("it serves nothing") }
	require.ErrorContains(t, New(options).Serve(t.Context(), t.Context()), "start service: ")

	options.Conn, options.Subjects = b.Connect(t), query.NewSubjects("two words")
	require.ErrorContains(t, New(options).Serve(t.Context(), t.Context()), "serve two words.")
	require.NoError(t, options.Conn.Flush())
	require.Eventually(t, func() bool { return options.Conn.NumSubscriptions() == 0 }, patience, time.Millisecond, "nothing is left behind")
}

func TestCodesAreClosed(t *testing.T) {
	t.Parallel()
	seen := map[Code]bool{}
	for _, code := range Codes() {
		require.False(t, seen[code])
		seen[code] = true
		require.True(t, query.IsToken(string(code)))
		require.Regexp(t, `^(|400|404|413|503|504)$`, code.status())
		require.Equal(t, code.status() == "503", code.header(0).Get(HeaderRetryAfter) != "", "%s", code)
	}
	for after, want := range map[time.Duration]string{
		-time.Second: "1", 0: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", time.Hour: "3600",
	} {
		require.Equal(t, want, Overloaded.header(after).Get(HeaderRetryAfter))
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s := New(Options{Slots: -1, Providers: []query.Provider{query.EasyPay}})
	require.Equal(t, 64, cap(s.endpoints["ask-easypay"].slots))
	require.Equal(t, 64, cap(s.endpoints["lookup"].slots))
	require.Equal(t, []any{3 * time.Second, 10 * time.Second, 2 * time.Second, 64 << 10, "_INBOX"},
		[]any{s.Patience, s.MaxPatience, s.LookupTimeout, s.MaxBytes, s.InboxPrefix})
	s.OnServing()
	s.OnReply(Reply{})
	require.Zero(t, s.Delay(nil))
	require.Empty(t, Code("another").status())
}

func TestSemanticVersion(t *testing.T) {
	t.Parallel()
	for build, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "v1.2.3-rc.1+x": "1.2.3-rc.1+x", "": "0.0.0", "dev": "0.0.0+dev", "dev-3c47b5d": "0.0.0+dev-3c47b5d",
		"v01.2.3": "0.0.0+v01-2-3", "größe 1": "0.0.0+gr--e-1", "v": "0.0.0+v",
	} {
		require.Equal(t, want, semanticVersion(build), "%q", build)
	}
	rapid.Check(t, func(t *rapid.T) {
		require.Regexp(t, semanticRe, semanticVersion(rapid.String().Draw(t, "build")))
	})
}

func BenchmarkAsk(b *testing.B) {
	bundle := setup(b, echo)
	b.ReportAllocs()
	for b.Loop() {
		bundle.ask("1")
	}
}
