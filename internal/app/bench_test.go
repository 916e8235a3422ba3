package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
)

// BenchmarkQuery is one whole query on loopback: published, answered by the sandbox, stored, and received by its publisher.
func BenchmarkQuery(b *testing.B) {
	s := newSite(b)
	s.Log.Level = "error"
	r := s.run(b)
	amount := int64(151_004)
	question := client.Question{
		Provider: query.EasyPay, Lane: query.Interactive, Source: "urn:bench",
		EasyPay: &query.EasyPayQuestion{MallID: "T5102001", CardBin: "12345678", Amount: &amount},
	}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		result, err := r.Ask(ctx, question)
		cancel()
		require.NoError(b, err)
		require.Equal(b, query.Completed, result.Status)
	}
}
