package deadletter

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
)

// life is that of a process: it ends at one of its writes, as kill -9 ends it, before or after the broker has carried the write out.
type life struct {
	mu    sync.Mutex
	left  int
	after bool
	dead  bool
	// meanwhile happens when so many writes are left: what others do to the batch while the process lives.
	meanwhile map[int]func()
	// unique makes the broker forget which replays it has seen, as it does when its window for duplicates has passed.
	unique *atomic.Int64
}

// errKilled is final: nothing is tried again by a process that is dead.
var errKilled = &jetstream.APIError{Code: 400, ErrorCode: 1, Description: "killed"}

// do carries out a write if the process lives to do it, and tells it the outcome if it lives to see it.
func (l *life) do(write func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errKilled
	}
	if happen := l.meanwhile[l.left]; happen != nil {
		delete(l.meanwhile, l.left)
		happen()
	}
	l.left--
	if l.left != 0 {
		return write()
	}
	l.dead = true
	if l.after {
		_ = write()
	}
	return errKilled
}

type mortalKV struct {
	jetstream.KeyValue

	life *life
}

func (m mortalKV) Create(ctx context.Context, key string, value []byte, o ...jetstream.KVCreateOpt) (revision uint64, err error) {
	err = m.life.do(func() error { revision, err = m.KeyValue.Create(ctx, key, value, o...); return err })
	return revision, err
}

func (m mortalKV) Update(ctx context.Context, key string, value []byte, last uint64) (revision uint64, err error) {
	err = m.life.do(func() error { revision, err = m.KeyValue.Update(ctx, key, value, last); return err })
	return revision, err
}

func (m mortalKV) Delete(ctx context.Context, key string, o ...jetstream.KVDeleteOpt) error {
	return m.life.do(func() error { return m.KeyValue.Delete(ctx, key, o...) })
}

type mortalReplayer struct {
	Replayer

	life *life
}

// Replay publishes all of the replays, or half of them if the process dies before it has seen the answer.
func (m mortalReplayer) Replay(ctx context.Context, replays []publish.Replay) error {
	if m.life.unique != nil {
		for i := range replays {
			replays[i].ID += fmt.Sprint(".", m.life.unique.Add(1))
		}
	}
	return m.life.do(func() error {
		if m.life.dead {
			replays = replays[:(len(replays)+1)/2]
		}
		return m.Replayer.Replay(ctx, replays)
	})
}

// mortal opens the letters as a process with a life of its own.
func (b *bundle) mortal(l *life) *Letters {
	letters := b.open(func(o *Options) { o.Replayer = mortalReplayer{o.Replayer, l} })
	letters.ledger.bucket = mortalKV{letters.ledger.bucket, l}
	return letters
}

// model is a client's letters, the batches over them and what may happen to them.
type model struct {
	*bundle

	client  string
	keys    []string
	batches []string
	cancels int
	late    int
	rate    float64
	fastest float64
	worked  map[uint64]bool
	unique  *atomic.Int64
}

func (m *model) filters() map[string]Filter {
	return map[string]Filter{
		"all":       {Client: m.client},
		"rejected":  {Client: m.client, Reason: query.ReasonRejected},
		"one order": {Client: m.client, Order: "order-1"},
		"one key":   {Client: m.client, Key: m.keys[0]},
	}
}

func (m *model) start(t *rapid.T) {
	if len(m.batches) >= 4 {
		t.Skip("enough")
	}
	filters := m.filters()
	filter := filters[rapid.SampledFrom([]string{"all", "rejected", "one order", "one key"}).Draw(t, "filter")]
	m.batches = append(m.batches, m.begin(m.Letters, filter, func(r *Request) { r.Rate = m.rate }).ID)
}

func (m *model) drawBatch(t *rapid.T) string {
	if len(m.batches) == 0 {
		t.Skip("no batch")
	}
	return rapid.SampledFrom(m.batches).Draw(t, "batch")
}

// runAndDie runs a batch in a process that is killed at one of its writes.
func (m *model) runAndDie(t *rapid.T) { m.resumeAndDie(t, Resumption{}) }

// changeAndDie is runAndDie at another pace.
func (m *model) changeAndDie(t *rapid.T) {
	rate := drawRate(t)
	m.fastest = max(m.fastest, rate)
	m.resumeAndDie(t, Resumption{Rate: &rate})
}

// drawRate draws a rate: a slow batch claims letters one by one, faster ones by the handful.
func drawRate(t *rapid.T) float64 { return rapid.SampledFrom([]float64{49, 150, 5000}).Draw(t, "rate") }

func (m *model) resumeAndDie(t *rapid.T, change Resumption) {
	l := &life{left: rapid.IntRange(1, 12).Draw(t, "write"), after: rapid.Bool().Draw(t, "carried out"), unique: m.unique}
	before, id := m.more(t), m.drawBatch(t)
	if rapid.Bool().Draw(t, "cancelled meanwhile") {
		l.meanwhile = map[int]func(){rapid.IntRange(1, l.left).Draw(t, "when so many writes are left"): func() { m.cancelLate(t, id) }}
	}
	_, err := m.mortal(l).Resume(context.Background(), id, change, nil)
	if l.dead {
		require.ErrorIs(t, err, errKilled)
	}
	m.requireFew(t, before)
}

func (m *model) runToTheEnd(t *rapid.T) {
	before := m.more(t)
	batch, err := m.mortal(&life{unique: m.unique}).Run(context.Background(), m.drawBatch(t), nil)
	require.NoError(t, err)
	m.requireFew(t, before)
	require.True(t, batch.State.Ended())
	sum := batch.Published
	for _, count := range batch.LeftOut {
		sum += count
	}
	require.Equal(t, batch.Seen, sum, "each letter is counted once")
}

func (m *model) cancel(t *rapid.T) {
	id := m.drawBatch(t)
	before, err := m.Letters.Batch(context.Background(), id)
	require.NoError(t, err)
	if before.State.Ended() {
		t.Skip("it has ended")
	}
	_, err = m.Letters.Cancel(context.Background(), id)
	require.NoError(t, err)
	m.cancels++
}

// cancelLate cancels a batch whose process lives. What it claims until it looks at the record again is in doubt if it is killed before that.
func (m *model) cancelLate(t *rapid.T, id string) {
	_, err := m.Letters.Cancel(context.Background(), id)
	require.NoError(t, err)
	m.cancels++
	m.late += len(m.keys)
}

// answerSome lets a worker take what is there; some of it dies again.
func (m *model) answerSome(t *rapid.T) {
	for _, replay := range m.replays(m.client) {
		if m.worked[replay.Sequence] || rapid.Bool().Draw(t, "later") {
			continue
		}
		m.worked[replay.Sequence] = true
		if rapid.IntRange(0, 3).Draw(t, "dies again") == 0 {
			m.refuse(fault.UpstreamBroken)
		}
		require.True(t, m.worker.Handle(context.Background(), replay).Done)
		m.answer()
	}
}

// requireFew holds after each run: it has published again what was in doubt, a handful for each death that it took over, what a process has
// claimed after its batch was cancelled, and nothing else.
func (m *model) requireFew(t *rapid.T, before int) {
	require.LessOrEqual(t, m.more(t)-before, (1+m.cancels)*Batch{Rate: m.fastest}.handful()+m.late)
}

// more returns how many replays are second ones of their letters.
func (m *model) more(t *rapid.T) int {
	published := map[uint64]int{}
	more := 0
	for _, replay := range m.replays(m.client) {
		var retry query.Retry
		require.NoError(t, query.ReadStrict(replay.Data, &retry))
		published[retry.Replay.Letter]++
		if published[retry.Replay.Letter] > 1 {
			more++
		}
	}
	return more
}

// check holds at any time: no letter is replayed twice but where the broker had forgotten it, and no query has two answers.
func (m *model) check(t *rapid.T) {
	if m.unique == nil {
		require.Zero(t, m.more(t))
	}
	for key, statuses := range m.statuses(m.client) {
		require.LessOrEqual(t, strings.Count(strings.Join(statuses, ","), "completed"), 1, key)
	}
}

// end brings everything to its end: the batches that are left, the workers, and batches over what died again. Then each query has its answer.
func (m *model) end(t *rapid.T) {
	for _, id := range m.batches {
		_, err := m.mortal(&life{unique: m.unique}).Run(context.Background(), id, nil)
		require.NoError(t, err)
	}
	m.check(t)
	for range 2 {
		m.work(m.client)
		m.run(m.Letters, m.begin(m.Letters, Filter{Client: m.client}).ID)
	}
	m.work(m.client)
	m.check(t)
	statuses := m.statuses(m.client)
	for _, key := range m.keys {
		require.NotEmpty(t, statuses[key])
		require.Equal(t, "completed", statuses[key][len(statuses[key])-1], "nothing is skipped")
	}
}

func TestBatchesSurviveAnyDeath(t *testing.T) {
	t.Parallel()
	for name, forgetful := range map[string]bool{"the broker knows a replay again": false, "the broker has forgotten": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var clients atomic.Int64
			rapid.Check(t, func(t *rapid.T) {
				m := &model{bundle: b, client: fmt.Sprint("c", clients.Add(1)), worked: map[uint64]bool{}}
				if forgetful {
					m.unique = &atomic.Int64{}
				}
				m.rate = drawRate(t)
				m.fastest = m.rate
				m.keys = b.die(m.client, rapid.IntRange(1, 6).Draw(t, "letters"))
				t.Repeat(map[string]func(*rapid.T){
					"":               m.check,
					"start":          m.start,
					"run and die":    m.runAndDie,
					"run":            m.runToTheEnd,
					"cancel":         m.cancel,
					"answer":         m.answerSome,
					"change and die": m.changeAndDie,
				})
				m.end(t)
			})
		})
	}
}
