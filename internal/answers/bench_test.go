package answers

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/query"
)

// instant is an upstream that answers at once.
type instant struct{}

func (instant) Call(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
	a := examples()["easypay"]
	a.AsOf = time.Now()
	return a, nil, nil
}

// What the cache adds to a query, by where its answer comes from.
func BenchmarkCall(b *testing.B) {
	ring := newRing(b)
	for name, c := range map[string]struct {
		age    time.Duration
		bucket Bucket
		forget bool
	}{
		"the upstream, asked for itself":  {none, nil, false},
		"the upstream, asked for others":  {0, nil, true},
		"the process":                     {time.Hour, nil, false},
		"a bucket that costs nothing":     {time.Hour, newShelf(), true},
		"the upstream, without the cache": {-1, nil, false},
	} {
		b.Run(name, func(b *testing.B) {
			cache := setup(b, c.bucket).Cache
			cache.Caller, cache.Fingerprint = instant{}, ring.Fingerprint
			q, details := usage(b, "1", testCard, c.age)
			var caller Caller = cache
			if c.age == -1 {
				caller = instant{}
			}
			b.ReportAllocs()
			for b.Loop() {
				if c.forget {
					cache.recent = newRecent(2)
				}
				if _, _, err := caller.Call(context.Background(), q, details); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStored(b *testing.B) {
	a := examples()["easypay"]
	for range 18 {
		a.Offers = append(a.Offers, a.Offers[0])
	}
	value, err := encode(a)
	require.NoError(b, err)
	b.Run(fmt.Sprintf("encode %d bytes", len(value)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := encode(a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(fmt.Sprintf("decode %d bytes", len(value)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decode(value); err != nil {
				b.Fatal(err)
			}
		}
	})
}
