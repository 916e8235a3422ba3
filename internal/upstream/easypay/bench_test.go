package easypay

import (
	"fmt"
	"strings"
	"testing"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

// tenOffers is a response of dialect A with ten coupons of both types.
func tenOffers() string {
	items := make([]string, 10)
	for i := range items {
		items[i] = fmt.Sprintf(`{"couponJoinCd":"026","couponJoinNm":"비씨카드","couponGid":"CP0000000%d","calcAuthLimitRate":%d.5%d,`+
			`"standardAmount":%d0000,"discountType":"0%d","maxDiscountAmount":10000,"couponRate":%d.5,"couponAmount":%d00}`,
			i, 40-i, i, i+1, 1+i%2, i+1, i+1)
	}
	return `{"resCd":"0000","resMsg":"정상처리","couponList":[` + strings.Join(items, ",") + `]}`
}

func BenchmarkPrepare(b *testing.B) {
	for name, p := range map[string]*Provider{"current": setup(b), "legacy": setup(b, legacy)} {
		b.Run(name, func(b *testing.B) {
			question := ask(51004, cardCd("026"))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Prepare(at, question); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	p := setup(b)
	a := asked{amount: 51004, told: true}
	for name, body := range map[string]string{
		"10 offers": tenOffers(), "10 offers CP949": cp949(b, tenOffers()), "page example": string(pageExample(b)), "empty": `{"resCd":"0000","couponList":[]}`,
	} {
		b.Run(name, func(b *testing.B) {
			r := upstream.Response{Status: 200, Body: []byte(body), At: at}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.read(r, a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerdict(b *testing.B) {
	c := percentage(b)
	a := asked{amount: 51004, told: true}
	b.ReportAllocs()
	for b.Loop() {
		if judge(&c, a).word != query.Applicable {
			b.Fatal("not applicable")
		}
	}
}
