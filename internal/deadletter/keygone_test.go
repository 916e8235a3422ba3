package deadletter

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// TestReplayOfALetterWhoseKeyIsGone replays a letter that nobody can open. The replay fails under the query's own name, and the next one, with the
// key given back, brings the answer.
func TestReplayOfALetterWhoseKeyIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.refuse(fault.UpstreamBroken)
	key := b.die("shop", 1)[0]
	first, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	old, _ := b.rotate()
	file := filepath.Join(b.keys, old+".private.jwk")
	private, err := os.ReadFile(file)
	require.NoError(t, err)
	b.destroy(old)
	b.answer()
	b.working()

	require.Equal(t, Done, b.run(b.Letters, b.begin(b.Letters, Filter{}).ID).State)
	require.Eventually(t, func() bool { return len(b.all()) == 2 }, patience, 10*time.Millisecond)
	second := b.all()[1]
	require.Equal(t, []any{key, 1, fault.UnknownKey}, []any{second.Query.Key, second.Revision, second.Code})
	require.Equal(t, first.Query, second.Query)
	require.Equal(t, first.Payload, second.Payload)

	require.NoError(t, os.WriteFile(file, private, 0o600))
	b.reload()
	require.Equal(t, Done, b.run(b.Letters, b.begin(b.Letters, Filter{}).ID).State)
	require.Eventually(t, func() bool { return len(b.statuses("shop")[key]) == 3 }, patience, 10*time.Millisecond)
	require.Equal(t, []string{string(query.Failed), string(query.Failed), string(query.Completed)}, b.statuses("shop")[key])
}

// TestALetterThatWasTooLargeIsLeftOut has nothing of its query to ask again.
func TestALetterThatWasTooLargeIsLeftOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.refuse(fault.UpstreamBroken)
	b.die("shop", 1)
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	standing, _, err := b.standing(t.Context(), &letter)
	require.NoError(t, err)
	require.Equal(t, Ready, standing)
	letter.Emptied = true
	standing, _, err = b.standing(t.Context(), &letter)
	require.NoError(t, err)
	require.Equal(t, Unserved, standing)
}
