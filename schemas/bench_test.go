package schemas_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/schemas"
)

func BenchmarkValidateQuery(b *testing.B) {
	jwe := strings.Repeat("a", 230) + "." + strings.Repeat("b", 54) + "." + strings.Repeat("c", 16) + "." + strings.Repeat("d", 300) + "." + strings.Repeat("e", 22)
	for name, c := range map[string]struct{ provider, data string }{
		"easypay":       {"easypay", `{"mallId":"T0001234","cardBin":"12345678","amount":"51004"}`},
		"easypayNumber": {"easypay", `{"mallId":"T0001234","cardBin":"12345678","amount":51004}`},
		"unionpay":      {"unionpay", `{"pid":"1234567890","scenId":"0001","data":"` + jwe + `"}`},
	} {
		b.Run(name, func(b *testing.B) {
			set, err := schemas.Compile()
			require.NoError(b, err)
			data := []byte(c.data)
			b.ReportAllocs()
			for b.Loop() {
				if err := set.ValidateQuery(c.provider, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := schemas.Compile(); err != nil {
			b.Fatal(err)
		}
	}
}
