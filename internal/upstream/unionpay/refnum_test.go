package unionpay

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
)

// startAt returns a sequence whose next number is the one at position from, unless that could pass for a card number.
func startAt(tb testing.TB, from uint64) *sequence {
	tb.Helper()
	s := new(sequence)
	require.NoError(tb, s.start(bytes.NewReader(binary.BigEndian.AppendUint64(nil, from-1))))
	return s
}

func TestReferencesAreUniqueUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	const takers, each = 8, 125_000
	s := new(sequence)
	require.NoError(t, s.start(rand.Reader))
	taken := make([][]string, takers)
	var group sync.WaitGroup
	for i := range takers {
		group.Go(func() {
			for range each {
				taken[i] = append(taken[i], s.take())
			}
		})
	}
	group.Wait()
	seen := make(map[string]struct{}, takers*each)
	for _, references := range taken {
		for _, reference := range references {
			seen[reference] = struct{}{}
		}
	}
	require.Len(t, seen, takers*each)
}

func TestReferencesHaveTheirForm(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[1-9][0-9]{14}$`)
	for name, from := range map[string]uint64{"first": 1, "last": references - 500, "middle": 314159265358979, "largest draw": 1<<64 - 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startAt(t, from)
			seen := map[string]bool{}
			for range 1000 {
				reference := s.take()
				require.Regexp(t, form, reference)
				_, err := card.ParseNumber(reference)
				require.Error(t, err, "a reference must not pass for a card number")
				require.False(t, seen[reference])
				seen[reference] = true
			}
		})
	}
}

func TestReferencesGoOnAtTheEnd(t *testing.T) {
	t.Parallel()
	s := startAt(t, references-1)
	require.Equal(t, "999999999999999", s.take())
	require.Equal(t, "100000000000000", s.take())
	require.Equal(t, "100000000000001", s.take())
}

func TestReplicasStartApart(t *testing.T) {
	t.Parallel()
	starts := map[string]bool{}
	for range 1000 {
		s := new(sequence)
		require.NoError(t, s.start(rand.Reader))
		starts[s.take()[:6]] = true
	}
	require.Greater(t, len(starts), 900, "starts must lie all over the range")
}

func TestMessageIDsAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 10_000 {
		id, err := messageID(rand.Reader)
		require.NoError(t, err)
		require.False(t, seen[id])
		seen[id] = true
	}
}
