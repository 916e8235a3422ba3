package schemas_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/schemas"
)

func BenchmarkValidateQuery(b *testing.B) {
	sealed := func(ciphertext int) string { // The other parts have the lengths of ECDH-ES+A256KW with A256GCM.
		return strings.Repeat("h", 230) + "." + strings.Repeat("k", 54) + "." + strings.Repeat("i", 16) + "." +
			strings.Repeat("c", ciphertext) + "." + strings.Repeat("t", 22)
	}
	for name, c := range map[string]struct {
		provider, data string
		refused        bool
	}{
		"easypay/text":     {"easypay", `{"mallId":"T0001234","cardBin":"12345678","amount":"51004"}`, false},
		"easypay/number":   {"easypay", `{"mallId":"T0001234","cardBin":"12345678","amount":51004}`, false},
		"easypay/refused":  {"easypay", `{"mallId":"T0001234","cardBin":"123456","amount":"51004"}`, true},
		"unionpay/sealed":  {"unionpay", `{"pid":"1234567890","scenId":"0001","data":"` + sealed(300) + `"}`, false},
		"unionpay/longest": {"unionpay", `{"data":"` + sealed(8192-326) + `"}`, false},
	} {
		b.Run(name, func(b *testing.B) {
			set, err := schemas.Compile()
			require.NoError(b, err)
			data := []byte(c.data)
			b.ReportAllocs()
			for b.Loop() {
				if err := set.ValidateQuery(c.provider, data); (err != nil) != c.refused {
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
