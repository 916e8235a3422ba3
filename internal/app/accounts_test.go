package app

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/upstream"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// slowMall is the merchant id of the account that gives trouble in these tests.
const slowMall = "SLOW0001"

// share adds a second EasyPay account to the site.
func (s *site) share(pace config.Pace) {
	s.Providers.EasyPay.Accounts = map[string]*config.EasyPayAccount{"slow": {MallIDs: []string{slowMall}, Pace: pace, Concurrency: s.Providers.EasyPay.Concurrency}}
}

// backlog publishes questions for the slow account.
func (r *running) backlog(t *testing.T, count int, lane query.Lane) {
	t.Helper()
	for i := range count {
		_, err := r.Publish(t.Context(), slowly(fmt.Sprint("slow ", i), lane))
		require.NoError(t, err)
	}
}

func slowly(id string, lane query.Lane) client.Question {
	question := easyPay(id, "008", lane)
	question.EasyPay.MallID = slowMall
	return question
}

// slowFault is a fault that strikes the slow account alone.
func slowFault(kind sandbox.Kind, param string) sandbox.Fault {
	return sandbox.Fault{Provider: sandbox.EasyPay, Kind: kind, Param: param, Match: []sandbox.Condition{{Field: "mall", Value: slowMall}}}
}

func TestQueriesFindTheirAccount(t *testing.T) {
	t.Parallel()
	c := config.Default().Providers
	c.EasyPay.MallID, c.UnionPay.PID = "T5102001", "42"
	c.EasyPay.Accounts = map[string]*config.EasyPayAccount{
		"outlet": {MallIDs: []string{"05500001", "05500002"}}, "shop": {MallIDs: []string{"T5102001"}},
	}
	c.UnionPay.Accounts = map[string]*config.UnionPayAccount{"bank": {PIDs: []string{"05500009", "7"}}}
	d := newDirectory(c)
	for mall, want := range map[string]string{
		"05500001": "outlet", "05500002": "outlet", "T5102001": "shop", "": "shop", "t5102001": "default", "05500009": "default", "42": "default",
	} {
		q := &query.Query{Provider: query.EasyPay, EasyPay: &query.EasyPayQuestion{MallID: mall}}
		require.Equal(t, quota.Account{Provider: query.EasyPay, Name: want}, d.of(q), mall)
	}
	for pid, want := range map[string]string{"7": "bank", "05500009": "bank", "": "default", "42": "default", "05500001": "default"} {
		q := &query.Query{Provider: query.UnionPay, UnionPay: &query.UnionPayQuestion{PID: pid}}
		require.Equal(t, quota.Account{Provider: query.UnionPay, Name: want}, d.of(q), pid)
	}
	q := &query.Query{Provider: query.EasyPay, EasyPay: &query.EasyPayQuestion{}}
	require.Equal(t, "default", newDirectory(config.Providers{}).of(q).Name)
	for i := range 1000 {
		q.EasyPay.MallID = fmt.Sprintf("%08d", 90_000_000+i)
		require.Equal(t, "default", d.of(q).Name, "ids that nobody lists share one pace")
	}
}

func TestAccountsHaveTheirOwnSettings(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.share(config.Pace{Rate: config.Rate{Calls: 120, Per: time.Minute}, Burst: 3})
	require.NoError(t, s.Validate())
	require.Equal(t, []string{"easypay/default", "easypay/slow", "unionpay/default"}, AccountNames(s.Config))
	require.Equal(t, map[quota.Account]quota.Settings{
		{Provider: query.EasyPay, Name: "default"}:  {Ceiling: 1000, Burst: 100},
		{Provider: query.EasyPay, Name: "slow"}:     {Ceiling: 2, Burst: 3},
		{Provider: query.UnionPay, Name: "default"}: {Ceiling: 1000, Burst: 100},
	}, paceSettings(s.Config))
	s.Providers.UnionPay.Enabled = false
	require.Equal(t, []string{"easypay/default", "easypay/slow"}, AccountNames(s.Config))
}

func TestNoAccountCanTakeAnothersSlots(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := &App{Options: Options{Config: s.Config}, topology: Topology(s.Config)}
	for _, one := range accounts(s.Providers) {
		require.Zero(t, a.hold(one), "an account that is alone holds its queries where they are")
	}
	s.share(config.Pace{Rate: config.Rate{Calls: 10, Per: time.Second}, Burst: 1})
	a = &App{Options: Options{Config: s.Config}, topology: Topology(s.Config)}
	seats := map[query.Lane]int{}
	for _, one := range accounts(s.Providers) {
		hold := a.hold(one)
		if one.Provider == query.UnionPay {
			require.Zero(t, hold)
			continue
		}
		require.Equal(t, holdAtMost, hold.AtMost)
		require.Equal(t, one.pace.Rate.Interval(), hold.Interval)
		for lane, count := range hold.Seats {
			seats[lane] += count
		}
	}
	require.Equal(t, map[query.Lane]int{query.Interactive: 2*32 + 15 + 250, query.Bulk: 2*16 + 15 + 250}, seats)
	checked := 0
	for _, binding := range a.topology.Consumers() {
		if binding.Provider == string(query.EasyPay) {
			require.Equal(t, seats[query.Lane(binding.Lane)], a.slots(binding), "each loop has a slot for every seat")
			checked++
		}
	}
	require.Equal(t, 4, checked)
}

func TestCapacityIsThatOfAllAccounts(t *testing.T) {
	t.Parallel()
	c := callers{clients: map[quota.Account]*upstream.Client{}}
	breakers := map[string]*upstream.Breaker{}
	for _, name := range []string{"a", "b"} {
		breakers[name] = upstream.NewBreaker(upstream.BreakerPolicy{MinCalls: 1, FailureRatio: 1, Window: time.Second, OpenFor: time.Millisecond}, nil)
		c.clients[quota.Account{Provider: query.EasyPay, Name: name}] = upstream.New(upstream.Options{Breaker: breakers[name]})
	}
	fail := func(name string) {
		done, err := breakers[name].Allow()
		require.NoError(t, err)
		done(fault.New("call", fault.Unauthorized, fault.GatewayRefused))
	}
	capacity := c.capacity(query.EasyPay)
	require.Equal(t, math.MaxInt, capacity())
	fail("a")
	require.Equal(t, math.MaxInt, capacity(), "the other account is up")
	fail("b")
	require.Eventually(t, func() bool { return capacity() == 2 }, patience, time.Millisecond, "one to try each with")
	require.Zero(t, c.capacity(query.UnionPay)(), "nobody to ask")
}

// TestASlowAccountDoesNotHoldAnother publishes a thousand queries of an account whose upstream takes five seconds, and then a few of
// another: those are answered while hardly any of the first are, although the broker delivers in order.
func TestASlowAccountDoesNotHoldAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.share(config.Pace{Rate: config.Rate{Calls: 10, Per: time.Second}, Burst: 10})
	s.HTTP.AttemptTimeout, s.Lanes.Bulk.Slots = 10*time.Second, 4
	s.Retry.Schedule.Max = time.Minute
	s.fail(t, slowFault(sandbox.KindLatency, "5s"))
	r := s.run(t)
	r.ready(t)
	const backlog, others = 1000, 50
	r.backlog(t, backlog, query.Bulk)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range others {
		result, err := r.Ask(ctx, easyPay(fmt.Sprint("fast ", i), "008", query.Bulk))
		require.NoError(t, err)
		require.Equal(t, query.Completed, result.Status)
	}
	asked := s.sandbox.Stats().Providers[sandbox.EasyPay].Accounts
	require.LessOrEqual(t, asked[slowMall], uint64(200), "of the thousand that came before")
	require.EqualValues(t, others, asked["T5102001"])
	require.Zero(t, r.count(t, r.topology.Names().Dead()))
	require.Empty(t, s.lines(`"msg":"query retry"`), "a backlog that is put off does not fill the log")
}

// TestAnAccountThatIsDownDoesNotHoldAnother opens the breaker of one account: the other goes on, and when the first is back all its
// queries are answered, without having used up a round.
func TestAnAccountThatIsDownDoesNotHoldAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.share(config.Pace{Rate: config.Rate{Calls: 20, Per: time.Second}, Burst: 10})
	s.Breaker = config.Breaker{MinCalls: 5, FailureRatio: 0.5, Window: 10 * time.Second, OpenFor: 2 * time.Second}
	s.Lanes.Interactive.Slots, s.Retry.Schedule.Max = 4, 10*time.Second // What is put off is not to come back all the time.
	s.fail(t, slowFault(sandbox.KindStatus, "503"))
	r := s.run(t)
	r.ready(t)
	const backlog, others = 100, 20 // More than the account may hold.
	r.backlog(t, backlog, query.Interactive)
	require.Eventually(t, func() bool { return r.breakerOpen(t) }, patience, 10*time.Millisecond)
	require.NotEmpty(t, s.lines(`"account":"slow"`, `"breaker":"open"`))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range others {
		result, err := r.Ask(ctx, easyPay(fmt.Sprint("fast ", i), "008", query.Interactive))
		require.NoError(t, err)
		require.Equal(t, query.Completed, result.Status)
	}
	require.Less(t, r.count(t, r.topology.Names().Results()), others+backlog/2)
	require.Empty(t, s.lines(`"account":"default"`, `"breaker"`))

	s.fail(t)
	require.Eventually(t, func() bool { return r.count(t, r.topology.Names().Results()) == backlog+others }, 3*patience, 50*time.Millisecond)
	require.Zero(t, r.count(t, r.topology.Names().Dead()))
	unasked := 0
	for i := range backlog / 5 {
		answered := r.resultOf(t, query.Key("shop", "urn:shop", fmt.Sprint("slow ", 5*i)))
		require.Equal(t, query.TypeCompleted, answered.Type)
		if len(answered.Data.Attempts) == 1 {
			unasked++
		}
	}
	require.Positive(t, unasked, "what was put off kept its attempts")
}
