package answers

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/query"
)

// The model knows every answer that was put and the order in which keys were used. Whatever is got is the youngest that was put, the last
// used half is always there, and there are never more than the size.
func TestRecentIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(-1, 12).Draw(t, "size")
		half := max(size/2, 1)
		r := newRecent(size)
		youngest, used := map[string]time.Time{}, []string{}
		use := func(key string) {
			used = append(slices.DeleteFunc(used, func(k string) bool { return k == key }), key)
		}
		held := func() int {
			for key := range r.young {
				require.NotContains(t, r.old, key)
			}
			return len(r.young) + len(r.old)
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				key := fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "key"))
				asOf := time.Unix(rapid.Int64Range(0, 1000).Draw(t, "as of"), 0)
				if _, held := r.get(key); !held || asOf.After(youngest[key]) {
					youngest[key] = asOf
				}
				r.put(key, query.Answer{AsOf: asOf})
				use(key)
			},
			"get": func(t *rapid.T) {
				key := fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "key"))
				got, ok := r.get(key)
				if ok {
					require.Equal(t, youngest[key], got.AsOf)
					use(key)
				}
				if recently := used[max(len(used)-half, 0):]; slices.Contains(recently, key) {
					require.True(t, ok, "%s was used lately: %v", key, recently)
				}
			},
			"": func(t *rapid.T) {
				require.LessOrEqual(t, held(), max(size, 2))
			},
		})
	})
}

func TestRecentForgetsWhatNobodyUses(t *testing.T) {
	t.Parallel()
	r := newRecent(4)
	r.put("unused", query.Answer{})
	for i := range 100 {
		r.put("used", query.Answer{})
		r.put(fmt.Sprint(i), query.Answer{})
	}
	_, ok := r.get("unused")
	require.False(t, ok)
	_, ok = r.get("used")
	require.True(t, ok, "a flood of others does not wash it away")
}
