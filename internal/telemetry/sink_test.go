package telemetry

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stuck is a reader that stops reading until it is let go.
type stuck struct {
	safeBuffer

	gate chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.gate
	return s.safeBuffer.Write(p)
}

func TestSinkWritesEveryLineInOrder(t *testing.T) {
	t.Parallel()
	var out safeBuffer
	s := newSink(&out)
	var want strings.Builder
	for i := range 1000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		n, err := s.Write([]byte(line))
		require.NoError(t, err)
		require.Len(t, line, n)
	}
	s.Close()
	s.Close()
	require.Equal(t, want.String(), out.String())
	require.Zero(t, s.Dropped())
}

func TestSinkKeepsItsOwnCopy(t *testing.T) {
	t.Parallel()
	out := &stuck{gate: make(chan struct{})}
	s := newSink(out)
	line := []byte("first\n")
	for range 3 {
		_, err := s.Write(line)
		require.NoError(t, err)
		copy(line, "other\n")
	}
	close(out.gate)
	s.Close()
	require.Equal(t, "first\n"+strings.Repeat("other\n", 2), out.String())
}

// TestStuckReaderStopsNobody writes far more lines than there is room for while nobody reads.
func TestStuckReaderStopsNobody(t *testing.T) {
	t.Parallel()
	out := &stuck{gate: make(chan struct{})}
	s := newSink(out)
	const lines = 8 * sinkLines // More than the room and one batch hold together.
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range lines / 4 {
				_, _ = s.Write([]byte("line\n"))
			}
		})
	}
	writers.Wait()
	require.GreaterOrEqual(t, s.Dropped(), uint64(sinkLines))
	began := time.Now()
	s.Close()
	require.GreaterOrEqual(t, time.Since(began), sinkFlush, "it waits for the reader a little, and no longer")
	close(out.gate)
	<-s.ended
	require.EqualValues(t, lines, uint64(strings.Count(out.String(), "\n"))+s.Dropped(), "each line was written or counted")
}
