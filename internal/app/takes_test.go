package app

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/upstream"
)

func TestWhatUpstreamsTake(t *testing.T) {
	t.Parallel()
	now := time.Now()
	first, second := quota.Account{Provider: query.EasyPay, Name: "default"}, quota.Account{Provider: query.EasyPay, Name: "outlet"}
	other := quota.Account{Provider: query.UnionPay, Name: "default"}
	for name, test := range map[string]struct {
		heard []quota.Change
		down  []quota.Account
		// free has no ceiling.
		free    *quota.Account
		easyPay float64
	}{
		"nothing heard":            {nil, nil, nil, 30},
		"slow start":               {[]quota.Change{{Account: first, To: 5}}, nil, nil, 25},
		"the last change holds":    {[]quota.Change{{Account: first, To: 5}, {Account: first, To: 7}}, nil, nil, 27},
		"paused":                   {[]quota.Change{{Account: first, To: 5, Control: quota.Control{Paused: true}}}, nil, nil, 20},
		"paused and resumed":       {[]quota.Change{{Account: first, To: 5, Control: quota.Control{Paused: true}}, {Account: first, To: 5}}, nil, nil, 25},
		"blocked":                  {[]quota.Change{{Account: first, To: 5, Control: quota.Control{BlockedUntil: now.Add(time.Second)}}}, nil, nil, 20},
		"blocked until before":     {[]quota.Change{{Account: first, To: 5, Control: quota.Control{BlockedUntil: now.Add(-time.Second)}}}, nil, nil, 25},
		"another ceiling":          {[]quota.Change{{Account: first, To: 10, Control: quota.Control{Ceiling: 3}}}, nil, nil, 23},
		"a higher ceiling":         {[]quota.Change{{Account: first, To: 40, Control: quota.Control{Ceiling: 50}}}, nil, nil, 60},
		"one is down":              {nil, []quota.Account{second}, nil, 10},
		"both are down":            {nil, []quota.Account{first, second}, nil, 0},
		"another provider is down": {nil, []quota.Account{other}, nil, 30},
		"one has no limit":         {nil, nil, &second, math.Inf(1)},
		"it is down, too":          {nil, []quota.Account{second}, &second, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := map[quota.Account]quota.Settings{first: {Ceiling: 10}, second: {Ceiling: 20}, other: {Ceiling: 40}}
			if test.free != nil {
				settings[*test.free] = quota.Settings{}
			}
			all := callers{clients: map[quota.Account]*upstream.Client{}}
			for account := range settings {
				breaker := upstream.NewBreaker(upstream.BreakerPolicy{MinCalls: 1, FailureRatio: 0.5, Window: time.Minute, OpenFor: time.Hour}, nil)
				all.clients[account] = &upstream.Client{Options: upstream.Options{Breaker: breaker}}
			}
			for _, account := range test.down {
				done, err := all.clients[account].Breaker.Allow()
				require.NoError(t, err)
				done(fault.New("call", fault.Unauthorized, fault.HTTPStatus))
			}
			takes := newTakes(all, settings)
			for _, change := range test.heard {
				takes.hear(change)
			}
			got := takes.now(now)
			require.Len(t, got, 2)
			require.InDelta(t, test.easyPay, got["easypay"], 1e-9)
		})
	}
}

func TestCeilingThatHolds(t *testing.T) {
	t.Parallel()
	account := quota.Account{Provider: query.EasyPay, Name: "default"}
	takes := newTakes(callers{}, map[quota.Account]quota.Settings{account: {Ceiling: 10}})
	require.InDelta(t, 3, takes.hear(quota.Change{Account: account, Control: quota.Control{Ceiling: 3}}), 0)
	require.InDelta(t, 10, takes.hear(quota.Change{Account: account, To: 2}), 0, "the configured one is back")
	require.InDelta(t, 0, takes.hear(quota.Change{Account: quota.Account{Provider: query.UnionPay}}), 0)
}
