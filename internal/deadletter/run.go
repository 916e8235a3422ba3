package deadletter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"discountquery.example/worker/internal/fault"
)

// How often the record of a batch is saved. What lies between two saves is found again by its claims.
const (
	saveEvery = 100
	saveAfter = time.Second
	// catchUp is how much time that was lost is made up for at a faster pace.
	catchUp = 200 * time.Millisecond
	// maxHandful is how many letters are claimed and published together at most, maxPending how many are dealt with together.
	maxHandful = 32
	maxPending = 50
	// readAhead is how many letters are read before they are due.
	readAhead = 32
)

// errStopped ends the walk of a batch whose state was decided elsewhere.
var errStopped = errors.New("stopped")

// Progress is what a batch that runs has done.
type Progress struct {
	Batch Batch
	// Left is how many letters are left to look at, ETA how long that takes at the present pace.
	Left int
	ETA  time.Duration
	// Waiting tells that nothing is published until the canaries have their outcomes.
	Waiting bool
}

// run is one run of a batch.
type run struct {
	*record

	desk *Letters
	name string
	// own holds the letters that earlier runs have claimed since the record was saved; those of them that are in doubt may not be published.
	own     []uint64
	doubts  []uint64
	pending []*judged
	limiter *rate.Limiter
	// wanted is the rate that was asked for and is not in force yet, nil if there is none.
	wanted  *float64
	began   time.Time
	seen    int
	saved   time.Time
	unsaved int
	tell    func(Progress)
}

// Run works on a batch until it is done, stopped or cancelled, and returns its record. It takes over a batch that another process has
// begun, also one that was killed at any point: no letter is skipped, and none is published twice in a way that could be answered twice.
// When ctx ends the batch is Paused and the error says so; tell, which may be nil, is told the progress.
//
// Letters are published in the order in which they died, one after the other, so that the queries of one card do not overtake each other.
func (l *Letters) Run(ctx context.Context, id string, tell func(Progress)) (Batch, error) {
	return l.work(ctx, id, Resumption{}, tell)
}

// work is Run of a batch that is changed when it is taken over.
func (l *Letters) work(ctx context.Context, id string, change Resumption, tell func(Progress)) (Batch, error) {
	r, err := l.takeOver(ctx, id, change)
	if err != nil {
		return Batch{}, err
	}
	if r.State.Ended() {
		return r.Batch, nil
	}
	r.tell = tell
	if r.own, err = l.claimed(ctx, r.record); err == nil {
		r.doubts = r.atHand(r.own)
		err = r.changePace(ctx)
	}
	if err == nil {
		err = r.walk(ctx)
	}
	return r.end(ctx, err)
}

// takeOver makes this process the one that works on the batch.
func (l *Letters) takeOver(ctx context.Context, id string, change Resumption) (*run, error) {
	for {
		stored, err := l.ledger.read(ctx, id)
		if err != nil {
			return nil, err
		}
		r := &run{
			record: stored, desk: l, name: rand.Text(), began: time.Now(), seen: stored.Seen,
			limiter: limiterOf(stored.Rate), wanted: change.Rate,
		}
		if stored.State.Ended() {
			return r, nil
		}
		if stored.State == Stopped {
			r.Canaries = nil // The cause was repaired, they say: that must be proven anew.
		}
		r.State, r.Run = Running, r.name
		if change.CanaryWait != nil {
			r.CanaryWait = int(change.CanaryWait.Seconds())
		}
		if r.LeftOut == nil {
			r.LeftOut = map[Standing]int{}
		}
		err = r.save(ctx)
		if !errors.Is(err, errTaken) {
			return r, err
		}
	}
}

// judged is a letter that was read, and how it stands once that is known.
type judged struct {
	letter   *Letter
	standing Standing
	failed   uint64
	known    chan error
	// before tells that an earlier run has published it.
	before bool
}

// walk deals with all letters that are left. They are read ahead, so that the broker's answers to reads do not slow the publishing.
func (r *run) walk(ctx context.Context) error {
	if err := r.proveCanaries(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ahead := make(chan *judged, readAhead)
	var reading error
	var readers sync.WaitGroup
	readers.Go(func() {
		defer close(ahead)
		reading = r.desk.rest(ctx, r.record, func(letter *Letter) error { return r.judge(ctx, letter, ahead, &readers) })
	})
	defer readers.Wait()
	defer stop()
	for next := range ahead {
		if err := <-next.known; err != nil {
			return err
		}
		r.pending = append(r.pending, next)
		if len(ahead) > 0 && !r.full() {
			continue
		}
		if err := r.deal(ctx); err != nil {
			return err
		}
	}
	if err := r.deal(ctx); err != nil {
		return err
	}
	return reading
}

// judge passes a letter on, and looks up how it stands in the meantime.
func (r *run) judge(ctx context.Context, letter *Letter, ahead chan<- *judged, readers *sync.WaitGroup) error {
	next := &judged{letter: letter, known: make(chan error, 1)}
	select {
	case ahead <- next:
	case <-ctx.Done():
		return fault.Because("read ahead", fault.Interrupted, fault.Stopped, ctx.Err())
	}
	readers.Go(func() {
		var err error
		next.standing, next.failed, err = r.desk.standing(ctx, letter)
		next.known <- err
	})
	return nil
}

// full tells whether the letters that were read make a handful, or as many as may go before the canaries have proven anything.
func (r *run) full() bool {
	limit, count := r.handful(), 0
	if r.Canary > 0 && !r.Proven {
		limit = min(limit, r.Canary-len(r.Canaries))
	}
	for _, next := range r.pending {
		if next.standing == Ready || slices.Contains(r.own, next.letter.Sequence) {
			count++
		}
	}
	return count >= limit || len(r.pending) >= maxPending
}

// deal publishes the letters that were read or leaves them out.
func (r *run) deal(ctx context.Context) error {
	if len(r.pending) == 0 {
		return nil
	}
	var due []*judged
	for _, next := range r.pending {
		next.before = r.published(next)
		if next.standing == Ready && !next.before {
			due = append(due, next)
		}
	}
	if err := r.publish(ctx, due); err != nil {
		return err
	}
	for _, next := range r.pending {
		if next.standing == Ready || next.before {
			r.countPublished(next.letter)
		} else {
			r.LeftOut[next.standing]++
		}
	}
	r.Cursor = r.pending[len(r.pending)-1].letter.Sequence
	r.Seen += len(r.pending)
	r.unsaved += len(r.pending)
	r.pending = r.pending[:0]
	if err := r.changePace(ctx); err != nil {
		return err
	}
	if err := r.saveIfDue(ctx); err != nil {
		return err
	}
	return r.proveCanaries(ctx)
}

// published tells whether an earlier run has published a letter for certain. One in doubt was, if its query went on since.
func (r *run) published(next *judged) bool {
	sequence := next.letter.Sequence
	return slices.Contains(r.own, sequence) && (!slices.Contains(r.doubts, sequence) || next.standing != Ready && next.standing != Unserved)
}

func (r *run) countPublished(letter *Letter) {
	r.Published++
	if !r.Proven && len(r.Canaries) < r.Canary {
		r.Canaries = append(r.Canaries, Canary{Sequence: letter.Sequence, Key: letter.Query.Key, Revision: letter.Revision})
	}
}

// saveIfDue saves the record now and then, and tells the progress.
func (r *run) saveIfDue(ctx context.Context) error {
	if r.unsaved < saveEvery && time.Since(r.saved) < saveAfter {
		return nil
	}
	return r.save(ctx)
}

// save stores the record. If somebody else has written it, this run is over.
func (r *run) save(ctx context.Context) error {
	if err := r.desk.ledger.write(ctx, r.record); err != nil {
		return err
	}
	r.saved, r.unsaved = time.Now(), 0
	r.report(false)
	return nil
}

func (r *run) report(waiting bool) {
	if r.tell == nil {
		return
	}
	left := max(r.Total-r.Seen, 0)
	perLetter := time.Duration(float64(time.Second) / r.Rate)
	if done := r.Seen - r.seen; done > 0 {
		perLetter = max(time.Since(r.began)/time.Duration(done), time.Millisecond/10)
	}
	r.tell(Progress{Batch: r.Batch, Left: left, ETA: time.Duration(left) * perLetter, Waiting: waiting})
}

// end saves how the run ended. A batch that was interrupted is saved although ctx has ended.
func (r *run) end(ctx context.Context, err error) (Batch, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.desk.Timeout)
	defer cancel()
	switch {
	case errors.Is(err, errTaken):
		return r.overtaken(ctx, true)
	case err == nil:
		r.State, r.Finished = Done, time.Now().UTC()
	case errors.Is(err, errStopped):
		err = nil // The state says it.
	default:
		r.State = Paused
	}
	saved := r.save(ctx)
	if errors.Is(saved, errTaken) {
		return r.overtaken(ctx, err == nil)
	}
	return r.Batch, errors.Join(err, saved)
}

// overtaken returns what somebody else has made of the batch: it was cancelled, or another process works on it. clean tells that this run has
// published all it has claimed, so that no letter of a cancelled batch is in doubt.
func (r *run) overtaken(ctx context.Context, clean bool) (Batch, error) {
	stored, err := r.desk.ledger.read(ctx, r.ID)
	if err != nil {
		return r.Batch, err
	}
	if stored.State != Cancelled {
		return stored.Batch, fmt.Errorf("another process has taken over replay %s", r.ID)
	}
	if clean && stored.Run == r.name {
		stored.Doubts, stored.Looked = nil, 0
		err = r.desk.ledger.write(ctx, stored)
	}
	return stored.Batch, err
}
