package app

import (
	"context"
	"math"
	"time"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/upstream"
)

// defaultAccount is the name of the account that asks what no other account of its provider claims.
const defaultAccount = config.DefaultAccount

// account is one account at an upstream, with what it has of its own.
type account struct {
	quota.Account

	provider    func() (upstream.Provider, error)
	pace        config.Pace
	timeout     time.Duration
	connections int
	concurrency config.Concurrency
	tls         config.TLS
	// keyFiles are the files that provider reads.
	keyFiles []string
}

// accounts returns all accounts of the enabled providers, the default account of each first.
func accounts(c config.Providers) []account {
	var all []account
	if c.EasyPay.Enabled {
		for _, name := range c.EasyPay.AccountNames() {
			own := c.EasyPay.Account(name)
			all = append(all, account{
				Account:  quota.Account{Provider: query.EasyPay, Name: name},
				provider: func() (upstream.Provider, error) { return NewEasyPay(own) },
				pace:     own.Pace, timeout: own.Timeout, connections: own.MaxConnections, tls: own.TLS,
				concurrency: own.Concurrency,
			})
		}
	}
	if c.UnionPay.Enabled {
		for _, name := range c.UnionPay.AccountNames() {
			own := c.UnionPay.Account(name)
			all = append(all, account{
				Account:  quota.Account{Provider: query.UnionPay, Name: name},
				provider: func() (upstream.Provider, error) { return NewUnionPay(own) }, keyFiles: unionPayFiles(own),
				pace: own.Pace, timeout: own.Timeout, connections: own.MaxConnections, tls: own.TLS,
				concurrency: own.Concurrency,
			})
		}
	}
	return all
}

// AccountNames returns the names of all accounts of the enabled providers, as in easypay/default.
func AccountNames(c config.Config) []string {
	var names []string
	for _, one := range accounts(c.Providers) {
		names = append(names, accountName(one.Account))
	}
	return names
}

// accountCount returns how many accounts a provider has.
func accountCount(c config.Providers, provider query.Provider) int {
	count := 0
	for _, one := range accounts(c) {
		if one.Provider == provider {
			count++
		}
	}
	return count
}

// paceSettings returns the configured pace of all accounts.
func paceSettings(c config.Config) map[quota.Account]quota.Settings {
	settings := map[quota.Account]quota.Settings{}
	for _, one := range accounts(c.Providers) {
		settings[one.Account] = quota.Settings{Ceiling: perSecond(one.pace.Rate), Burst: one.pace.Burst}
	}
	return settings
}

// perSecond returns a configured rate in calls per second.
func perSecond(rate config.Rate) float64 { return float64(rate.Calls) / rate.Per.Seconds() }

// directory tells which account a query belongs to. Only ids that the configuration lists have one of their own: nobody gets more calls
// by inventing ids.
type directory struct {
	claims map[claim]string
	// mallID and pid stand for the ids of queries that name none.
	mallID, pid string
}

// claim is one id that an account has claimed at a provider.
type claim struct {
	provider query.Provider
	id       string
}

func newDirectory(c config.Providers) directory {
	d := directory{claims: map[claim]string{}, mallID: c.EasyPay.MallID, pid: c.UnionPay.PID}
	for name, one := range c.EasyPay.Accounts {
		for _, id := range one.MallIDs {
			d.claims[claim{query.EasyPay, id}] = name
		}
	}
	for name, one := range c.UnionPay.Accounts {
		for _, id := range one.PIDs {
			d.claims[claim{query.UnionPay, id}] = name
		}
	}
	return d
}

// of returns the account of a query.
func (d directory) of(q *query.Query) quota.Account {
	id := ""
	switch {
	case q.EasyPay != nil:
		id = either(q.EasyPay.MallID, d.mallID)
	case q.UnionPay != nil:
		id = either(q.UnionPay.PID, d.pid)
	}
	name, claimed := d.claims[claim{q.Provider, id}]
	if !claimed {
		name = defaultAccount
	}
	return quota.Account{Provider: q.Provider, Name: name}
}

func either(own, other string) string {
	if own == "" {
		return other
	}
	return own
}

// callers asks the upstream of a query's account.
type callers struct {
	directory

	clients map[quota.Account]*upstream.Client
}

// Call asks the upstream that the query names. The broker's subjects allow no other provider than the configured ones.
func (c callers) Call(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
	return c.clients[c.of(q)].Call(ctx, q, details)
}

// upIn returns how long it is until the upstream of a query's account can be worth asking, 0 if it is already.
func (c callers) upIn(q *query.Query) time.Duration { return c.clients[c.of(q)].Breaker.UpIn() }

// capacity returns how many more queries are worth taking up for a provider: whose account they are is not known before. While one of its
// accounts is up, any number: those of an account that is down are put off. While none is, as many as there are accounts that try again.
func (c callers) capacity(provider query.Provider) func() int {
	var breakers []*upstream.Breaker
	for account, client := range c.clients {
		if account.Provider == provider {
			breakers = append(breakers, client.Breaker)
		}
	}
	return func() int {
		sum := 0
		for _, breaker := range breakers {
			sum += min(breaker.Capacity(), math.MaxInt-sum)
		}
		return sum
	}
}

// holdAtMost is how long a query may wait in a slot that it shares with other accounts. It is longer than a second, because queries that
// were put off come back by the second: what comes at once is what the pace allows in the second that follows.
const holdAtMost = 1500 * time.Millisecond

// ackPendingShare is the part of consumer.max_ack_pending that one worker uses for queries that wait for their account's pace. The rest
// is for the queries that are being asked, and for other workers.
const ackPendingShare = 4

// hold returns what an account may take of its provider's slots.
func (a *App) hold(one account) upstream.Hold {
	if a.alone(one.Provider) {
		return upstream.Hold{}
	}
	return upstream.Hold{
		AtMost: holdAtMost, Interval: one.pace.Rate.Interval(), Furthest: a.Config.Retry.Schedule.Max,
		Seats: map[query.Lane]int{
			query.Interactive: a.seats(one, a.Config.Lanes.Interactive), query.Bulk: a.seats(one, a.Config.Lanes.Bulk.Lane),
		},
	}
}

// alone tells whether a provider has one account only.
func (a *App) alone(provider query.Provider) bool {
	return accountCount(a.Config.Providers, provider) == 1
}

// seats returns how many queries of one lane an account may hold, if there are others: as many as it would hold alone, and those that
// wait for its pace.
func (a *App) seats(one account, lane config.Lane) int {
	waiting := int(math.Ceil(perSecond(one.pace.Rate) * holdAtMost.Seconds()))
	return lane.Slots + min(waiting, a.Config.Consumer.MaxAckPending/ackPendingShare/accountCount(a.Config.Providers, one.Provider))
}

// sharedSlots returns how many messages a loop holds whose provider has several accounts: there are seats for all, so that no account
// can take another's.
func (a *App) sharedSlots(provider query.Provider, lane config.Lane) int {
	slots := 0
	for _, one := range accounts(a.Config.Providers) {
		if one.Provider == provider {
			slots += a.seats(one, lane)
		}
	}
	return slots
}
