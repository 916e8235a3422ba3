package sandbox

import (
	"sync"
	"time"
)

// Outcome is the class of what became of one request.
type Outcome uint8

// The classes of outcome.
const (
	// Pending requests are being read, delayed or held.
	Pending Outcome = iota
	// Answered requests got an honest answer with the success code.
	Answered
	// Declined requests got a well-formed answer with another code.
	Declined
	// Unauthorized requests got HTTP 401.
	Unauthorized
	// Refused requests were wrong at the HTTP level: 400, 404, 405, 413 or 415.
	Refused
	// Throttled requests got HTTP 429.
	Throttled
	// Failed requests got another HTTP status that a fault asked for.
	Failed
	// Spoiled requests got HTTP 200 with an answer that a fault had damaged.
	Spoiled
	// Silent requests got no answer: held, reset, or given up by the client.
	Silent
)

// outcomeNames holds the names of the outcomes in the order of their values.
var outcomeNames = [...]string{
	Pending: "pending", Answered: "answered", Declined: "declined", Unauthorized: "unauthorized", Refused: "refused",
	Throttled: "throttled", Failed: "failed", Spoiled: "spoiled", Silent: "silent",
}

// String returns the outcome's name as it stands in the statistics.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

const (
	chunkEntries    = 4096
	defaultCapacity = 1 << 20
	maxAccounts     = 4096
	otherAccounts   = "(other)"
)

// entry is one arrival in 16 bytes.
type entry struct {
	at      time.Duration
	account uint16
	outcome Outcome
}

// ledger keeps the arrivals of one provider: exact counts for ever, and the newest arrivals one by one. Its memory grows in
// small chunks, so that no request waits while a large array is copied.
type ledger struct {
	started time.Time

	mu          sync.Mutex
	chunks      [][]entry
	capacity    uint64
	total, base uint64
	outcomes    [len(outcomeNames)]uint64
	reasons     map[reason]uint64
	fired       map[Kind]uint64
	accounts    map[string]uint16
	names       []string
	counts      []uint64
	inFlight    int
	maxInFlight int
}

func newLedger(started time.Time, capacity int) *ledger {
	if capacity <= 0 {
		capacity = defaultCapacity
	}
	chunks := (capacity + chunkEntries - 1) / chunkEntries
	l := &ledger{started: started, chunks: make([][]entry, chunks), capacity: uint64(chunks * chunkEntries)}
	l.clear()
	return l
}

// clear empties the counts. The caller holds the lock, or is alone.
func (l *ledger) clear() {
	l.base = l.total
	l.outcomes = [len(outcomeNames)]uint64{}
	l.reasons = make(map[reason]uint64)
	l.fired = make(map[Kind]uint64)
	l.accounts = map[string]uint16{"": 0, otherAccounts: 1}
	l.names = []string{"", otherAccounts}
	l.counts = []uint64{0, 0}
	l.maxInFlight = l.inFlight
}

func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
}

// arrive notes a request and returns its sequence number. The time is taken under the lock, so that arrivals are in order.
func (l *ledger) arrive() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := l.total
	l.total++
	*l.slot(seq) = entry{at: time.Since(l.started)}
	l.outcomes[Pending]++
	l.inFlight++
	l.maxInFlight = max(l.maxInFlight, l.inFlight)
	return seq
}

// leave notes that a request's handler has returned.
func (l *ledger) leave() {
	l.mu.Lock()
	l.inFlight--
	l.mu.Unlock()
}

// settle notes what became of a request. A request from before a reset is left out; one whose entry was overwritten still counts.
func (l *ledger) settle(seq uint64, account string, outcome Outcome, why reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq < l.base {
		return
	}
	index := l.intern(account)
	l.counts[index]++
	l.outcomes[Pending]--
	l.outcomes[outcome]++
	if why != "" {
		l.reasons[why]++
	}
	if l.total-seq <= l.capacity {
		e := l.slot(seq)
		e.account, e.outcome = index, outcome
	}
}

// fire counts a fault that struck.
func (l *ledger) fire(k Kind) {
	l.mu.Lock()
	l.fired[k]++
	l.mu.Unlock()
}

// slot returns the place of a sequence number; the newest entries overwrite the oldest.
func (l *ledger) slot(seq uint64) *entry {
	at := seq % l.capacity
	chunk := at / chunkEntries
	if l.chunks[chunk] == nil {
		l.chunks[chunk] = make([]entry, chunkEntries)
	}
	return &l.chunks[chunk][at%chunkEntries]
}

// intern returns the number of an account; accounts beyond the table share one number.
func (l *ledger) intern(account string) uint16 {
	if index, known := l.accounts[account]; known {
		return index
	}
	if len(l.names) >= maxAccounts {
		return 1
	}
	index := uint16(len(l.names))
	l.accounts[account] = index
	l.names = append(l.names, account)
	l.counts = append(l.counts, 0)
	return index
}

// oldest returns the sequence number of the oldest entry still kept.
func (l *ledger) oldest() uint64 {
	if l.total > l.capacity {
		return max(l.base, l.total-l.capacity)
	}
	return l.base
}

// arrivals returns the kept arrival times, of one account when it is given.
func (l *ledger) arrivals(account *string) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var only uint16
	if account != nil {
		index, known := l.accounts[*account]
		if !known || index < 2 {
			return nil
		}
		only = index
	}
	first := l.oldest()
	times := make([]time.Duration, 0, l.total-first)
	for seq := first; seq < l.total; seq++ {
		if e := l.slot(seq); account == nil || e.account == only {
			times = append(times, e.at)
		}
	}
	return times
}
