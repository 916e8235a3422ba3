package easypay

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

func TestPrepareCurrentBytes(t *testing.T) {
	t.Parallel()
	amount := int64(51004)
	huge := int64(9_007_199_254_740_993)
	tests := map[string]struct {
		change   func(*Options)
		question query.EasyPayQuestion
		body     string
	}{
		"merchant only":   {question: query.EasyPayQuestion{}, body: `{"mallId":"T0001997"}`},
		"own merchant":    {question: query.EasyPayQuestion{MallID: "05500001"}, body: `{"mallId":"05500001"}`},
		"card company":    {question: query.EasyPayQuestion{CardCd: "A16"}, body: `{"mallId":"T0001997","cardCd":"A16"}`},
		"leading zeros":   {question: query.EasyPayQuestion{CardCd: "008"}, body: `{"mallId":"T0001997","cardCd":"008"}`},
		"page's example":  {change: amountAs(AmountString), question: query.EasyPayQuestion{CardBin: "12345678", Amount: &amount}, body: `{"mallId":"T0001997","cardBin":"12345678","amount":"51004"}`},
		"amount a number": {change: amountAs(AmountNumber), question: query.EasyPayQuestion{CardBin: "12345678", Amount: &amount}, body: `{"mallId":"T0001997","cardBin":"12345678","amount":51004}`},
		"amount alone":    {question: query.EasyPayQuestion{Amount: &amount}, body: `{"mallId":"T0001997","amount":51004}`},
		"no float on the way": {question: query.EasyPayQuestion{CardCd: "026", Amount: &huge},
			body: `{"mallId":"T0001997","cardCd":"026","amount":9007199254740993}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setup(t, func(o *Options) {
				if tt.change != nil {
					tt.change(o)
				}
			})
			exchange, err := p.Prepare(at, upstream.Question{Query: &query.Query{EasyPay: &tt.question}})
			require.NoError(t, err)
			r := exchange.Request
			require.Equal(t, http.MethodPost, r.Method)
			require.Equal(t, "https://testpgapi.easypay.co.kr/api/etc/inquiryCoupon", r.URL.String())
			require.Equal(t, http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Accept": {"application/json"}}, r.Header)
			require.Equal(t, int64(len(tt.body)), r.ContentLength)
			require.Equal(t, tt.body, requestBody(t, r))
		})
	}
}

func amountAs(form string) func(*Options) { return func(o *Options) { o.AmountAs = form } }

func TestPrepareLegacyBytes(t *testing.T) {
	t.Parallel()
	p := setup(t, legacy)
	exchange, err := p.Prepare(at, ask(51004, cardCd("026")))
	require.NoError(t, err)
	r := exchange.Request
	require.Equal(t, http.MethodPost, r.Method)
	require.Equal(t, "https://testpg.easypay.co.kr/webpay/common/InquiryCouponAction.do?mall_id=T0001997", r.URL.String())
	require.Equal(t, "application/json; charset=euc-kr", r.Header.Get("Content-Type"))
	require.Zero(t, r.ContentLength)
	require.Empty(t, requestBody(t, r))
}

func TestPrepareIsTheSameForEveryAttempt(t *testing.T) {
	t.Parallel()
	p := setup(t)
	first, err := p.Prepare(at, ask(1000))
	require.NoError(t, err)
	second, err := p.Prepare(at.AddDate(1, 0, 0), ask(1000))
	require.NoError(t, err)
	require.NotSame(t, first.Request, second.Request)
	require.Equal(t, requestBody(t, first.Request), requestBody(t, second.Request))
}

func TestPrepareDoesNotChangeTheQuestion(t *testing.T) {
	t.Parallel()
	question := ask(1000)
	_, err := setup(t).Prepare(at, question)
	require.NoError(t, err)
	require.Empty(t, question.Query.EasyPay.MallID)
}

func TestPrepareRefusesFields(t *testing.T) {
	t.Parallel()
	zero, negative := int64(0), int64(-1)
	type question = query.EasyPayQuestion
	tests := map[string]struct {
		change   func(*Options)
		question question
		op       string
	}{
		"no merchant at all":   {change: func(o *Options) { o.MallID = "" }, op: "mallId"},
		"merchant too short":   {question: question{MallID: "T000199"}, op: "mallId"},
		"merchant too long":    {question: question{MallID: "T00019970"}, op: "mallId"},
		"merchant in Korean":   {question: question{MallID: "가나12"}, op: "mallId"},
		"card code and bin":    {question: question{CardCd: "026", CardBin: "62000000"}, op: "cardCd and cardBin"},
		"card code too short":  {question: question{CardCd: "26"}, op: "cardCd"},
		"card code too long":   {question: question{CardCd: "0026"}, op: "cardCd"},
		"card code lower case": {question: question{CardCd: "a16"}, op: "cardCd"},
		"bin too short":        {question: question{CardBin: "6200000"}, op: "cardBin"},
		"bin is a card number": {question: question{CardBin: "6200000000000005"}, op: "cardBin"},
		"bin with a letter":    {question: question{CardBin: "6200000A"}, op: "cardBin"},
		"bin in wide digits":   {question: question{CardBin: "６２00"}, op: "cardBin"},
		"bin at the legacy":    {change: legacy, question: question{CardBin: "62000000"}, op: "cardBin"},
		"no card but required": {change: func(o *Options) { o.RequireCard = true }, op: "cardCd and cardBin"},
		"amount of nothing":    {question: question{Amount: &zero}, op: "amount"},
		"negative amount":      {question: question{Amount: &negative}, op: "amount"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setup(t, func(o *Options) {
				if tt.change != nil {
					tt.change(o)
				}
			})
			_, err := p.Prepare(at, upstream.Question{Query: &query.Query{EasyPay: &tt.question}})
			e := faultOf(t, err)
			require.Equal(t, fault.Rejected, e.Kind)
			require.Equal(t, fault.BadField, e.Code)
			require.Equal(t, "easypay: check "+tt.op, e.Op)
			require.False(t, e.Sent)
		})
	}
}

// KICC forbids these characters in request values (its special characters page).
func TestPrepareRefusesForbiddenCharacters(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for _, c := range []string{"'", `"`, "<", ">", `\`, ";", "|", "\r", "\n", "&", "😀", " ", "\x00"} {
		for field, q := range map[string]query.EasyPayQuestion{
			"mallId":  {MallID: pad("T0001", c, 8)},
			"cardCd":  {CardCd: pad("0", c, 3)},
			"cardBin": {CardBin: pad("62000", c, 8)},
		} {
			_, err := p.Prepare(at, upstream.Question{Query: &query.Query{EasyPay: &q}})
			e := faultOf(t, err)
			require.Equal(t, fault.BadField, e.Code, "%q in %s", c, field)
			require.Equal(t, "easypay: check "+field+": rejected (bad_field)", e.Error())
		}
	}
}

// pad returns text and c, filled with zeros to size bytes where they are shorter.
func pad(text, c string, size int) string {
	return text + strings.Repeat("0", max(0, size-len(text)-len(c))) + c
}

func TestPrepareWithoutAQuestion(t *testing.T) {
	t.Parallel()
	for name, question := range map[string]upstream.Question{
		"no query":      {},
		"another query": {Query: &query.Query{UnionPay: &query.UnionPayQuestion{}}},
	} {
		_, err := setup(t).Prepare(at, question)
		require.Equal(t, fault.Malformed, faultOf(t, err).Kind, name)
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add("T0001997", "026", "", int64(51004))
	f.Add("", "", "12345678", int64(1))
	f.Add(`T000"997`, "A16", "", int64(-1))
	p, old := setup(f), setup(f, legacy)
	f.Fuzz(func(t *testing.T, mallID, cardCd, cardBin string, amount int64) {
		q := &query.EasyPayQuestion{MallID: mallID, CardCd: cardCd, CardBin: cardBin, Amount: &amount}
		for _, p := range []*Provider{p, old} {
			exchange, err := p.Prepare(at, upstream.Question{Query: &query.Query{EasyPay: q}})
			if err != nil {
				require.Equal(t, fault.BadField, faultOf(t, err).Code)
				continue
			}
			if body := requestBody(t, exchange.Request); body != "" {
				var back query.EasyPayQuestion
				require.NoError(t, strictJSON(body, &back))
				require.Equal(t, cardCd, back.CardCd)
				require.Equal(t, cardBin, back.CardBin)
				require.Equal(t, amount, *back.Amount)
			}
		}
	})
}
