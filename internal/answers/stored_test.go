package answers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

var at = time.Date(2026, 3, 2, 10, 15, 0, 360e6, time.FixedZone("CET", 3600))

// examples are an answer of each provider and one without anything, with everything in it that can be in it.
func examples() map[string]query.Answer {
	money := func(n int64) *query.Money {
		m := query.Won(n)
		return &m
	}
	zero, three := int64(0), int64(3)
	return map[string]query.Answer{
		"easypay": {
			Outcome: query.OutcomeOK, AsOf: at, Upstream: query.Response{Code: "0000", Message: "성공", Status: 200, Dialect: "b"},
			Offers: []query.Offer{
				{
					ID: "CP1", Card: query.CardCompany{Code: "026", Name: "비씨카드"}, Type: query.Percentage, Minimum: money(10_000), Exhaustion: "12.03",
					NearlyExhausted: true, Rate: "5", Cap: money(3000), Verdict: query.Applicable, Discount: money(2550), Payable: money(48_454),
					Upstream: money(0),
				},
				{ID: "CP2", Card: query.CardCompany{Code: "Z99"}, Type: query.UnknownDiscount, Verdict: query.Unjudged},
			},
		},
		"unionpay": {
			Outcome: query.OutcomeOK, AsOf: at, Upstream: query.Response{Code: "00", Reference: "260302091500731", Status: 200},
			Usage: &query.Usage{
				Day: &query.Used{Amount: &query.Money{Currency: "156", Raw: "000"}, Count: &zero}, Total: &query.Used{Count: &three}, Currency: "156",
			},
		},
		"empty": {Outcome: query.OutcomeEmpty, AsOf: at},
	}
}

func TestWhatIsStoredComesBack(t *testing.T) {
	t.Parallel()
	for name, want := range examples() {
		value, err := encode(want)
		require.NoError(t, err)
		got, err := decode(value)
		require.NoError(t, err, name)
		require.True(t, want.AsOf.Equal(got.AsOf))
		want.AsOf = got.AsOf
		require.Equal(t, want, got, name)
		again, err := encode(got)
		require.NoError(t, err)
		require.Equal(t, string(value), string(again))
	}
}

// The form is compared as text: workers of another build read it.
func TestStoredForm(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"unionpay": `{"version":1,"asOf":"2026-03-02T09:15:00.36Z","outcome":"ok",` +
			`"usage":{"day":{"amount":{"currency":"156","raw":"000"},"count":0},"total":{"count":3},"currency":"156"},` +
			`"upstream":{"code":"00","reference":"260302091500731","httpStatus":200}}`,
		"empty": `{"version":1,"asOf":"2026-03-02T09:15:00.36Z","outcome":"empty","upstream":{}}`,
		"easypay": `{"version":1,"asOf":"2026-03-02T09:15:00.36Z","outcome":"ok","offers":[` +
			`{"id":"CP1","card":{"code":"026","name":"비씨카드"},"type":"percentage","minimum":{"minor":10000,"currency":"KRW"},"exhaustion":"12.03",` +
			`"nearlyExhausted":true,"rate":"5","cap":{"minor":3000,"currency":"KRW"},"verdict":"applicable","discount":{"minor":2550,"currency":"KRW"},` +
			`"payable":{"minor":48454,"currency":"KRW"},"upstreamDiscount":{"minor":0,"currency":"KRW"}},` +
			`{"id":"CP2","card":{"code":"Z99"},"type":"unknown","verdict":"unknown"}],` +
			`"upstream":{"code":"0000","message":"성공","httpStatus":200,"dialect":"b"}}`,
	}
	for name, a := range examples() {
		value, err := encode(a)
		require.NoError(t, err)
		require.Equal(t, want[name], string(value))
	}
}

// What is added to an answer has to be stored too, or those who share it miss it.
func TestStoredHoldsAllOfAnAnswer(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(query.Answer{})
	require.NoError(t, err)
	var members map[string]any
	require.NoError(t, json.Unmarshal(text, &members))
	var names []string
	for name := range members {
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{"Outcome", "Offers", "Usage", "Upstream", "AsOf", "Shared"}, names, "Shared is said when it is shared")
}

// broken are values that are no answer, and what is said about each.
func broken() map[string]fault.Code {
	return map[string]fault.Code{
		``: fault.BadJSON, `null`: fault.UnsupportedType, `{}`: fault.UnsupportedType, `[]`: fault.BadJSON, `{"version":1`: fault.BadJSON,
		`{"version":1}`: fault.BadJSON, `{"version":2,"asOf":7}`: fault.UnsupportedType, `{"version":"1"}`: fault.BadJSON,
		`{"version":1,"version":1}`: fault.BadJSON,
		`{"version":1,"asOf":"2026-03-02T09:15:00Z","outcome":"declined","upstream":{}}`:                            fault.BadJSON,
		`{"version":1,"asOf":"2026-03-02T09:15:00Z","outcome":"","upstream":{}}`:                                    fault.BadJSON,
		`{"version":1,"asOf":"2026-03-02T09:15:00Z","outcome":"ok","offers":{"id":"` + testCard + `"}}`:             fault.BadJSON,
		`{"version":1,"asOf":"` + testCard + `","outcome":"ok"}`:                                                    fault.BadJSON,
		`{"version":1,"outcome":"ok","upstream":{}}`:                                                                fault.BadJSON,
		`{"version":1,"asOf":"2026-03-02T09:15:00Z","outcome":"ok","upstream":{}}{}`:                                fault.BadJSON,
		`{"version":1,"asOf":"2026-03-02T09:15:00Z","outcome":"ok","upstream":{"message":"` + "\xff" + `"}}`:        fault.BadJSON,
		`{"version":1,"asOf":"2026-03-02T09:15:00Z","outcome":"ok","usage":{"day":{"count":1.5}},"upstream":{}}`:    fault.BadJSON,
		`{"version":1,"asOf":"2026-03-02T09:15:00Z","outcome":"ok","offers":` + strings.Repeat("[", 100_000) + `}}`: fault.BadJSON,
	}
}

func TestBrokenValues(t *testing.T) {
	t.Parallel()
	for value, code := range broken() {
		got, err := decode([]byte(value))
		requireFault(t, err, fault.Malformed, code)
		require.NotContains(t, err.Error(), testCard)
		require.Zero(t, got)
	}
	_, err := decode([]byte(`{"version":1,"asOf":"2026-03-02T09:15:00Z","outcome":"ok","upstream":{},"later":[1]}`))
	require.NoError(t, err, "what was added later is for those who know it")
}

// An upstream's text that is no UTF-8 never gets here, and would be told if it did.
func TestUnwritableAnswer(t *testing.T) {
	t.Parallel()
	_, err := encode(query.Answer{Outcome: query.OutcomeOK, AsOf: at, Upstream: query.Response{Message: testCard + "\xff"}})
	requireFault(t, err, fault.Unknown, fault.Unclassified)
	require.NotContains(t, err.Error(), testCard)
}

func TestAnyAnswerComesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		money := rapid.Custom(func(t *rapid.T) query.Money {
			return query.Money{Minor: rapid.Ptr(rapid.Int64(), true).Draw(t, "minor"), Currency: rapid.String().Draw(t, "currency"), Raw: rapid.String().Draw(t, "raw")}
		})
		used := rapid.Custom(func(t *rapid.T) query.Used {
			return query.Used{Amount: rapid.Ptr(money, true).Draw(t, "amount"), Count: rapid.Ptr(rapid.Int64(), true).Draw(t, "count")}
		})
		want := query.Answer{
			Outcome: rapid.SampledFrom([]query.Outcome{query.OutcomeOK, query.OutcomeEmpty}).Draw(t, "outcome"),
			AsOf:    time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
			Usage: &query.Usage{
				Day: rapid.Ptr(used, true).Draw(t, "day"), Month: rapid.Ptr(used, true).Draw(t, "month"), Total: rapid.Ptr(used, true).Draw(t, "total"),
				Currency: rapid.String().Draw(t, "currency"),
			},
			Upstream: query.Response{Code: rapid.String().Draw(t, "code"), Message: rapid.String().Draw(t, "message"), Status: rapid.Int().Draw(t, "status")},
		}
		value, err := encode(want)
		require.NoError(t, err)
		got, err := decode(value)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func FuzzDecode(f *testing.F) {
	for _, a := range examples() {
		value, err := encode(a)
		require.NoError(f, err)
		f.Add(value)
	}
	for value := range broken() {
		f.Add([]byte(value)[:min(len(value), 200)])
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := decode(value)
		if err != nil {
			require.Equal(t, fault.Malformed, fault.KindOf(err))
			require.Contains(t, []fault.Code{fault.BadJSON, fault.UnsupportedType}, fault.CodeOf(err))
			require.Zero(t, got)
			return
		}
		require.True(t, keepable(got.Outcome))
		require.False(t, got.AsOf.IsZero())
		require.False(t, got.Shared)
		if year := got.AsOf.UTC().Year(); year < 0 || year > 9999 {
			return // JSON can't hold such a time, and it fits no age.
		}
		written, err := encode(got)
		require.NoError(t, err)
		again, err := decode(written)
		require.NoError(t, err)
		require.True(t, got.AsOf.Equal(again.AsOf))
	})
}
