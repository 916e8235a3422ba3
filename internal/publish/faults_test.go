package publish

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestFullStreamIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.StoreResult(within(t), ask("1"), query.Completed, event))
	stream, err := b.Server.JS.Stream(t.Context(), "DISCOUNT_RESULTS")
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	config.MaxMsgs = 1
	_, err = b.Server.JS.UpdateStream(t.Context(), config)
	require.NoError(t, err)

	ended := storing(within(t), b.Publisher, ask("2"))
	b.until(func() bool { return len(b.told()) >= 3 }, "it goes on trying and telling")
	for _, told := range b.told() {
		require.Equal(t, "store result", told.what)
		refused, ok := errors.AsType[*jetstream.APIError](told.err)
		require.True(t, ok)
		require.EqualValues(t, 10077, refused.ErrorCode)
	}
	require.Empty(t, ended)
	config.MaxMsgs = 2
	_, err = b.Server.JS.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	require.NoError(t, receive(t, ended))
	require.EqualValues(t, 2, b.state("DISCOUNT_RESULTS").Msgs)
}

func TestMissingStreamIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.Server.JS.DeleteStream(t.Context(), "DISCOUNT_DEAD"))
	ended := make(chan error, 1)
	go func() { ended <- b.StoreDead(within(t), ask("1"), query.ReasonRejected, event) }()
	b.until(func() bool { return len(b.told()) > 0 }, "told")
	require.Equal(t, "store dead letter", b.told()[0].what)
	require.ErrorIs(t, b.told()[0].err, jetstream.ErrNoStreamResponse)
	require.Empty(t, ended)
	b.Apply(t)
	require.NoError(t, receive(t, ended))
	require.EqualValues(t, 1, b.state("DISCOUNT_DEAD").Msgs)
}

func TestWrongStreamIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.publisher(b.Server.JS, "DISCOUNT_ELSEWHERE")
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	ended := storing(ctx, p, ask("1"))
	b.until(func() bool { return len(b.told()) >= 2 }, "told")
	refused, ok := errors.AsType[*jetstream.APIError](b.told()[0].err)
	require.True(t, ok)
	require.EqualValues(t, 10060, refused.ErrorCode)
	cancel()
	requireInterrupted(t, receive(t, ended))
	require.Zero(t, b.state("DISCOUNT_RESULTS").Msgs)
}

func TestServerAwayThenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Stop()
	result := storing(within(t), b.Publisher, ask("1"))
	answered := make(chan bool, 1)
	go func() {
		got, err := b.Result(within(t), ask("2"))
		answered <- got != nil || err != nil
	}()
	b.until(func() bool {
		whats := map[string]bool{}
		for _, told := range b.told() {
			whats[told.what] = true
		}
		return whats["store result"] && whats["look for result"]
	}, "both are told")
	require.Empty(t, result)
	require.Empty(t, answered)
	b.Resume(t)
	require.NoError(t, receive(t, result))
	require.False(t, receive(t, answered))
	require.EqualValues(t, 1, b.state("DISCOUNT_RESULTS").Msgs)
}

func TestEndWhileTheServerIsAwayLeavesNoGhost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Stop()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	ended := make(chan error, 4)
	go func() { ended <- b.StoreResult(ctx, ask("1"), query.Completed, event) }()
	go func() { ended <- b.StoreDead(ctx, ask("1"), query.ReasonRejected, event) }()
	go func() { ended <- b.ScheduleRetry(ctx, ask("1"), time.Now().Add(time.Hour), event) }()
	go func() {
		_, err := b.Result(ctx, ask("1"))
		ended <- err
	}()
	b.until(func() bool { return len(b.told()) >= 4 }, "all of them try")
	cancel()
	for range 4 {
		err := receive(t, ended)
		requireInterrupted(t, err)
		require.ErrorIs(t, err, context.Canceled)
	}
	b.Resume(t)
	// What this connection had kept would be sent before this.
	require.NoError(t, b.StoreResult(within(t), ask("2"), query.Completed, event))
	require.EqualValues(t, 1, b.state("DISCOUNT_RESULTS").Msgs)
	require.Zero(t, b.state("DISCOUNT_DEAD").Msgs)
	require.Zero(t, b.state("DISCOUNT_RETRIES").Msgs)
}

func TestEndBeforeTheStart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	requireInterrupted(t, b.StoreResult(ctx, ask("1"), query.Completed, event))
	requireInterrupted(t, b.StoreDead(ctx, ask("1"), query.ReasonRejected, event))
	require.NoError(t, b.StoreResult(within(t), ask("2"), query.Completed, event))
	require.EqualValues(t, 1, b.state("DISCOUNT_RESULTS").Msgs)
	require.Zero(t, b.state("DISCOUNT_DEAD").Msgs)
	require.Empty(t, b.told(), "an end is no trouble")
}

func TestLostConfirmationIsFoundAsADuplicate(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(b *bundle, l *line){
		"the connection breaks before the confirmation": func(_ *bundle, l *line) { l.breakNext.Store(true) },
		"the confirmation never comes": func(b *bundle, l *line) {
			l.swallow.Store(true)
			gone := b.gone(l)
			go func() {
				<-gone
				l.repair()
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			l, p := b.connect()
			lose(b, l)
			requireDuplicate(t, p.StoreResult(within(t), ask("1"), query.Completed, event))
			require.Positive(t, l.lost.Load())
			require.EqualValues(t, 2, l.connects.Load())
			require.EqualValues(t, 1, b.state("DISCOUNT_RESULTS").Msgs)
			require.NotEmpty(t, b.told(), "a write that was not confirmed is told")
			result, err := p.Result(within(t), ask("1"))
			require.NoError(t, err)
			require.Equal(t, event, result)

			require.NoError(t, p.StoreDead(within(t), ask("2"), query.ReasonRejected, event))
			lose(b, l)
			require.NoError(t, p.StoreDead(within(t), ask("3"), query.ReasonRejected, event), "stored is stored")
			require.EqualValues(t, 2, b.state("DISCOUNT_DEAD").Msgs)
		})
	}
}

// gone returns a channel that is closed once a trouble more was told, after the line lost something.
func (b *bundle) gone(l *line) <-chan struct{} {
	before, told := l.lost.Load(), len(b.told())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
			if l.lost.Load() > before && len(b.told()) > told {
				return
			}
		}
	}()
	return ended
}

func TestWhatIsToldAsTrouble(t *testing.T) {
	t.Parallel()
	inFlight := &jetstream.APIError{Code: 400, ErrorCode: 10164}
	full := &jetstream.APIError{Code: 503, ErrorCode: 10077}
	for name, tc := range map[string]struct {
		err  error
		told bool
	}{
		"two writers raced":          {inFlight, false},
		"two writers raced, wrapped": {fmt.Errorf("nats: %w", inFlight), false},
		"any other refusal":          {fmt.Errorf("nats: %w", full), true},
		"no answer":                  {context.DeadlineExceeded, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told []trouble
			p := &Publisher{Options: Options{Timeout: time.Second, OnTrouble: func(what string, err error) {
				told = append(told, trouble{what, err})
			}}}
			tries := 0
			require.NoError(t, p.persist(within(t), "try", func(context.Context) error {
				if tries++; tries == 1 {
					return tc.err
				}
				return nil
			}))
			require.Equal(t, 2, tries, "each of them is tried again")
			if !tc.told {
				require.Empty(t, told)
				return
			}
			require.Equal(t, []trouble{{"try", tc.err}}, told)
		})
	}
	t.Run("nobody to tell", func(t *testing.T) {
		t.Parallel()
		(&Publisher{}).trouble("try", errors.New("down"))
	})
}

func TestEachTryIsBounded(t *testing.T) {
	t.Parallel()
	p := &Publisher{Options: Options{Timeout: 20 * time.Millisecond}}
	tries := 0
	require.NoError(t, p.persist(within(t), "try", func(ctx context.Context) error {
		if tries++; tries < 3 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}))
	require.Equal(t, 3, tries)
}

func TestFaultDoesNotRepeatTheBrokersWords(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(within(t))
	p := &Publisher{Options: Options{Timeout: time.Second}}
	err := p.persist(ctx, "store result", func(context.Context) error {
		cancel()
		return errors.New("words of the broker")
	})
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
	require.NotContains(t, err.Error(), "words")
}
