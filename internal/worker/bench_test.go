package worker

import (
	"context"
	"testing"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// forgetful stores nothing, so that only the worker's own work is measured.
type forgetful struct{ *memory }

func (forgetful) StoreResult(context.Context, *query.Query, query.Status, []byte) error { return nil }

func (forgetful) Observe(decide.Outcome) {}

func BenchmarkHandle(bench *testing.B) {
	b := setup(bench)
	b.Results, b.Observer = forgetful{b.store}, forgetful{b.store}
	for name, delivery := range map[string]query.Delivery{
		"easypay": b.easyPay("1"), "unionpay": b.unionPay(bench, "1", bindingOf("1")),
	} {
		bench.Run(name, func(bench *testing.B) {
			bench.ReportAllocs()
			for bench.Loop() {
				b.Handle(bench.Context(), delivery)
			}
		})
	}
	bench.Run("traced", func(bench *testing.B) {
		b, recorded := traced(bench)
		b.Results, b.Observer = forgetful{b.store}, forgetful{b.store}
		delivery := b.published("1")
		bench.ReportAllocs()
		for bench.Loop() {
			b.Handle(bench.Context(), delivery)
			recorded.Reset()
		}
	})
}
