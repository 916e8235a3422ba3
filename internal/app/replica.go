package app

import (
	"cmp"
	"maps"
	"os"
	"slices"

	"discountquery.example/worker/internal/ask"
)

// replica returns the state of this worker for whoever asks for it. It is asked for once the consumers are bound.
func (a *App) replica(callers callers) ask.Replica {
	host, err := os.Hostname()
	if err != nil {
		host = "" // Then it goes by its id.
	}
	r := ask.Replica{Build: a.Build, Host: host, NotReady: slices.Sorted(maps.Keys(a.health.Problems())), Calls: a.calls.Load()}
	r.Ready = len(r.NotReady) == 0
	for _, c := range a.consumers {
		r.Slots += c.Slots
		r.Held += c.Held()
	}
	for account, client := range callers.clients {
		state := ask.ReplicaAccount{Account: accountName(account), Breaker: string(client.Breaker.State())}
		if client.Concurrency != nil {
			state.Limit, state.UnderWay = client.Concurrency.Limit(), client.Concurrency.UnderWay()
		}
		r.Accounts = append(r.Accounts, state)
	}
	slices.SortFunc(r.Accounts, func(a, b ask.ReplicaAccount) int { return cmp.Compare(a.Account, b.Account) })
	return r
}
