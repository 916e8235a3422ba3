package ask

import (
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"
)

// Stats is what an endpoint tells about itself in $SRV.STATS, as its data. The framework's own numbers beside it count every request, but
// of the errors only those that were refused on arrival, and its times end where the handling in a slot begins.
type Stats struct {
	// Slots is how many requests can be under way at once, InFlight how many are.
	Slots    int `json:"slots"`
	InFlight int `json:"inFlight"`
	// Replies counts the requests that were done with, by code.
	Replies map[Code]int64 `json:"replies"`
	// AverageMS and LongestMS are the times from request to reply, in milliseconds.
	AverageMS int64 `json:"averageMs"`
	LongestMS int64 `json:"longestMs"`
	// Replica is the state of the whole worker. Only the endpoint of lookups has it, of which each worker has one.
	Replica *Replica `json:"replica,omitempty"`
}

// tally counts the replies of one endpoint.
type tally struct {
	mu      sync.Mutex
	replies map[Code]int64
	count   int64
	total   time.Duration
	longest time.Duration
}

func (t *tally) add(code Code, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replies[code]++
	t.count++
	t.total += took
	t.longest = max(t.longest, took)
}

// stats returns the statistics of the endpoint that the framework names. The framework calls it with its lock held.
func (s *Service) stats(named *micro.Endpoint) any {
	told := s.endpoints[named.Name].stats()
	if named.Name == lookupEndpoint && s.State != nil {
		state := s.State()
		told.Replica = &state
	}
	return told
}

func (e *endpoint) stats() Stats {
	e.tally.mu.Lock()
	defer e.tally.mu.Unlock()
	return Stats{
		Slots: cap(e.slots), InFlight: len(e.slots), Replies: maps.Clone(e.tally.replies),
		AverageMS: (e.tally.total / time.Duration(max(e.tally.count, 1))).Milliseconds(), LongestMS: e.tally.longest.Milliseconds(),
	}
}

// semanticRe is the form that the framework wants versions in (semver.org, the pattern at the end of version 2.0.0).
var semanticRe = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)

// semanticVersion returns a build's name as a semantic version. A build that has none, like "dev", becomes 0.0.0 with its name behind.
func semanticVersion(build string) string {
	if version := strings.TrimPrefix(build, "v"); semanticRe.MatchString(version) {
		return version
	}
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, build)
	if name == "" {
		return "0.0.0"
	}
	return "0.0.0+" + name
}
