package easypay

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

var _ upstream.Provider = (*Provider)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is the time of every response in these tests.
var at = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

// setup returns a provider of the current variant with its defaults, changed by each change.
func setup(t testing.TB, changes ...func(*Options)) *Provider {
	t.Helper()
	o := Options{BaseURL: "https://testpgapi.easypay.co.kr", MallID: "T0001997"}
	for _, change := range changes {
		change(&o)
	}
	p, err := New(o)
	require.NoError(t, err)
	return p
}

func legacy(o *Options) { o.BaseURL, o.Variant = "https://testpg.easypay.co.kr", VariantLegacy }

// pageExample is the response printed on the current page, byte for byte: dialect C.
func pageExample(t testing.TB) []byte {
	t.Helper()
	body, err := os.ReadFile("testdata/page-example.json")
	require.NoError(t, err)
	return body
}

// ask returns the question with an amount, and more fields by change.
func ask(amount int64, changes ...func(*query.EasyPayQuestion)) upstream.Question {
	q := &query.EasyPayQuestion{}
	if amount != 0 {
		q.Amount = &amount
	}
	for _, change := range changes {
		change(q)
	}
	return upstream.Question{Query: &query.Query{EasyPay: q}}
}

func cardCd(code string) func(*query.EasyPayQuestion) {
	return func(q *query.EasyPayQuestion) { q.CardCd = code }
}

// answer prepares a question and reads body as its response with HTTP 200.
func answer(t testing.TB, p *Provider, question upstream.Question, body string) (query.Answer, error) {
	t.Helper()
	exchange, err := p.Prepare(at, question)
	require.NoError(t, err)
	return exchange.Read(upstream.Response{Status: http.StatusOK, Body: []byte(body), At: at})
}

// faultOf returns err as the one error type that may leave this room.
func faultOf(t testing.TB, err error) *fault.Error {
	t.Helper()
	var e *fault.Error
	require.ErrorAs(t, err, &e)
	return e
}

func requestBody(t testing.TB, r *http.Request) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(body)
}

// asJSON returns v as it would stand in a result.
func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}
