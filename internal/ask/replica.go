package ask

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"discountquery.example/worker/internal/query"
)

// Replica is the state of one worker. It tells it with the statistics of its lookups in $SRV.STATS, in closed words and numbers: nothing in it
// comes from a query.
type Replica struct {
	// Build is the worker's version, Host the name of the machine it runs on.
	Build string `json:"build"`
	Host  string `json:"host,omitzero"`
	// Ready tells whether it is ready for work, NotReady which of its parts are not.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"notReady,omitempty"`
	// Slots is how many queued queries it may hold at once, Held how many it holds.
	Slots int `json:"slots"`
	Held  int `json:"held"`
	// Calls is how many calls to upstreams it has made.
	Calls uint64 `json:"calls"`
	// Accounts has one entry for each of its upstream accounts, in alphabetical order.
	Accounts []ReplicaAccount `json:"accounts,omitempty"`
}

// ReplicaAccount is what one worker sees of one upstream account.
type ReplicaAccount struct {
	// Account is its name, as in easypay/default.
	Account string `json:"account"`
	// Breaker is closed, half-open or open.
	Breaker string `json:"breaker"`
	// Limit is how many calls may be under way at once, UnderWay how many are; both are 0 if there is no limit.
	Limit    int `json:"limit,omitzero"`
	UnderWay int `json:"underWay,omitzero"`
}

// Found is one worker that has told its state.
type Found struct {
	// ID names its service and is another one after each start. Started is when that was, by its own clock.
	ID      string    `json:"id"`
	Started time.Time `json:"started"`

	Replica
}

// maxReplicas bounds how many workers are listened to.
const maxReplicas = 1000

// Replicas asks all workers on the connection for their state and listens for as long as wait says. Only those that serve the subjects given
// are returned, in the order of their hosts. No worker at all is no error.
func Replicas(ctx context.Context, conn *nats.Conn, subjects query.Subjects, wait time.Duration) ([]Found, error) {
	subject, err := micro.ControlSubject(micro.StatsVerb, Name, "")
	if err != nil {
		return nil, fmt.Errorf("ask replicas: %w", err)
	}
	inbox := conn.NewInbox()
	replies, err := conn.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask replicas: %w", err)
	}
	defer func() { _ = replies.Unsubscribe() }() // Without a connection there is nothing to undo.
	if err := conn.PublishMsg(&nats.Msg{Subject: subject, Reply: inbox}); err != nil {
		return nil, fmt.Errorf("ask replicas: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var found []Found
	for len(found) < maxReplicas {
		reply, err := replies.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return sorted(found), nil
		case errors.Is(err, nats.ErrNoResponders): // The broker says that nobody listens.
			return nil, nil
		case err != nil:
			return sorted(found), fmt.Errorf("ask replicas: %w", err)
		}
		if one, ok := readReplica(reply.Data, subjects.Lookup("*")); ok {
			found = append(found, one)
		}
	}
	return sorted(found), nil
}

func sorted(found []Found) []Found {
	slices.SortFunc(found, func(a, b Found) int { return strings.Compare(a.Host+" "+a.ID, b.Host+" "+b.ID) })
	return found
}

// readReplica reads the statistics of one service (ADR-32). It returns false for what is none, for a service on other subjects, and for a
// worker that tells no state.
func readReplica(data []byte, lookups string) (Found, bool) {
	var stats struct {
		ID        string    `json:"id"`
		Started   time.Time `json:"started"`
		Endpoints []struct {
			Name    string `json:"name"`
			Subject string `json:"subject"`
			Data    Stats  `json:"data"`
		} `json:"endpoints"`
	}
	if query.ReadStrict(data, &stats) != nil {
		return Found{}, false
	}
	for _, endpoint := range stats.Endpoints {
		if endpoint.Name == lookupEndpoint && endpoint.Subject == lookups && endpoint.Data.Replica != nil {
			return Found{ID: stats.ID, Started: stats.Started, Replica: *endpoint.Data.Replica}, true
		}
	}
	return Found{}, false
}
