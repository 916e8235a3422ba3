package query

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

var at = time.Date(2026, 3, 2, 10, 15, 0, 360e6, time.FixedZone("CET", 3600))

func number(n int64) *int64 { return &n }

func money(n int64) *Money {
	m := Won(n)
	return &m
}

// goldenEvents are one event of each type, with everything in it that can be in it.
func goldenEvents() map[string]Event {
	easypay, unionpay := full(), full()
	unionpay.Provider, unionpay.EasyPay = UnionPay, nil
	unionpay.UnionPay = &UnionPayQuestion{PID: "1234567890", ScenID: "0001", Data: Conceal([]byte(cardNumber))}
	bare := &Query{Client: "none", Source: "urn:discountquery:stream:DISCOUNT_QUERIES", ID: "42", Provider: "none", Lane: Bulk}
	attempts := []Attempt{
		{At: at.UTC(), Milliseconds: 95, Kind: fault.Unavailable.String(), Code: fault.HTTPStatus, Status: 502},
		{At: at.UTC(), Milliseconds: 0, Upstream: "0000", Status: 200},
	}
	timing := Timing{Received: at.UTC(), Finished: at.UTC(), TotalMS: 106}
	card := &CardRef{Fingerprint: "Zm9v", KeyID: "fp-1", LastFour: "0005"}
	offer := Offer{
		ID: "CP1", Card: CardCompany{Code: "026", Name: "비씨카드"}, Type: Percentage, Minimum: money(10_000), Exhaustion: "12.03", NearlyExhausted: true,
		Rate: "5", Cap: money(3000), Verdict: Applicable, Discount: money(2550), Payable: money(48_454), Upstream: money(0),
	}
	plain := Offer{ID: "CP2", Card: CardCompany{Code: "Z99"}, Type: UnknownDiscount, Verdict: Unjudged}
	usage := &Usage{Day: &Used{Amount: &Money{Currency: "156", Raw: "000"}, Count: number(0)}, Total: &Used{Count: number(3)}, Currency: "156"}
	return map[string]Event{
		"completed.easypay": NewEvent(easypay, TypeCompleted, "result.0", at, CompletedData{
			Query: easypay.Asked(), Outcome: OutcomeOK, Offers: []Offer{offer, plain}, Best: &offer,
			Upstream: Response{Code: "0000", Message: "성공", Status: 200, Dialect: "json"}, AsOf: at.UTC(), Timing: timing, Attempts: attempts,
		}),
		"completed.unionpay": NewEvent(unionpay, TypeCompleted, "result.1", at, CompletedData{
			Query: unionpay.Asked(), Outcome: OutcomeOK, Usage: usage, Card: card, Shared: true,
			Upstream: Response{Code: "00", Reference: "20260302-1", Status: 200}, AsOf: at.UTC(), Timing: timing, Attempts: []Attempt{},
		}),
		"completed.empty": NewEvent(bare, TypeCompleted, "result.0", at, CompletedData{
			Query: bare.Asked(), Outcome: OutcomeEmpty, AsOf: at.UTC(), Timing: timing,
		}),
		"failed": NewEvent(easypay, TypeFailed, "result.0", at, FailedData{
			Query: easypay.Asked(), Reason: ReasonRejected, Kind: fault.Rejected.String(), Code: fault.UpstreamBroken,
			Upstream: Response{Code: "R102", Status: 200}, Card: card, DeadLetter: true, Timing: timing, Attempts: attempts,
		}),
		"failed.expired": NewEvent(bare, TypeFailed, "result.0", at, FailedData{
			Query: bare.Asked(), Reason: ReasonExpired, Kind: fault.Expired.String(), Code: fault.DeadlinePassed, Timing: timing,
		}),
		"dead": NewEvent(unionpay, TypeDead, "dead.2", at, DeadData{
			Query: unionpay.Asked(), Reason: ReasonMalformed, Kind: fault.Malformed.String(), Code: fault.BadSeal,
			Cause: Cause(UnionPay, ReasonMalformed, fault.New("x", fault.Malformed, fault.BadSeal)), FirstSeen: at.UTC(),
			Origin:   Origin{Stream: "DISCOUNT_QUERIES", Sequence: 42, Subject: on(UnionPay), Stored: at.UTC(), Deliveries: 1},
			Attempts: attempts, Worker: "v1.2.3", Revision: 2, Payload: compactJWE,
		}),
	}
}

// What is published is compared with files byte by byte: readers of other languages depend on each name and each absence.
func TestEventsGolden(t *testing.T) {
	t.Parallel()
	d := setup(t)
	schema := map[string]string{
		TypeCompleted: "query.completed.v1.json", TypeFailed: "query.failed.v1.json", TypeDead: "query.dead.v1.json",
	}
	for name, event := range goldenEvents() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			encoded, err := event.Encode()
			require.NoError(t, err)
			want, err := os.ReadFile(filepath.Join("testdata", "golden", name+".json"))
			require.NoError(t, err)
			pretty := jsontext.Value(encoded)
			require.NoError(t, pretty.Indent(jsontext.WithIndent("  ")))
			require.Equal(t, string(want), string(pretty)+"\n")

			require.NotContains(t, string(encoded), cardNumber)
			require.NoError(t, d.schemas.Validate("cloudevent.v1.json", encoded))
			data, err := json.Marshal(event.Data)
			require.NoError(t, err)
			require.NoError(t, d.schemas.Validate(schema[event.Type], data))
			require.Equal(t, "https://discountquery.example/schemas/"+schema[event.Type], event.DataSchema)
			again, err := event.Encode()
			require.NoError(t, err)
			require.Equal(t, encoded, again, "the same event has the same bytes")
		})
	}
}

func TestNewEvent(t *testing.T) {
	t.Parallel()
	q := full()
	got := NewEvent(q, TypeFailed, "result.3", at, nil)
	require.Equal(t, Event{
		SpecVersion: "1.0", ID: q.Key() + ".result.3", Source: EventSource, Type: TypeFailed, Subject: q.Key(), Time: at.UTC(),
		ContentType: "application/json", DataSchema: SchemaURI(TypeFailed), Correlation: "no-7", TraceParent: q.TraceParent, TraceState: "a=1",
	}, got)
	require.Equal(t, NewEvent(q, TypeFailed, "result.3", at.Add(time.Hour), 1).ID, got.ID, "a repeated write is seen as one")
	require.Equal(t, "https://discountquery.example/schemas/query.dead.v1.json", SchemaURI(TypeDead))
}

func TestEncodeFails(t *testing.T) {
	t.Parallel()
	e := NewEvent(full(), TypeFailed, "result.0", at, map[string]any{cardNumber: func() {}})
	_, err := e.Encode()
	require.ErrorContains(t, err, "encode event "+TypeFailed)
}

// A message on a subject that is no UTF-8 is refused, and its dead letter tells where it lay all the same.
func TestEncodeReplacesInvalidUTF8(t *testing.T) {
	t.Parallel()
	subject := on(EasyPay) + "\xff"
	q, err := setup(t).Decode(Delivery{Subject: subject})
	requireFault(t, err, fault.BadSubject)
	encoded, err := NewEvent(q, TypeDead, "dead.0", at, DeadData{Query: q.Asked(), Origin: Origin{Subject: subject}}).Encode()
	require.NoError(t, err)
	var read struct {
		Data DeadData `json:"data"`
	}
	require.NoError(t, ReadStrict(encoded, &read))
	require.Equal(t, on(EasyPay)+"\ufffd", read.Data.Origin.Subject)
}

func TestAskedIsReadBack(t *testing.T) {
	t.Parallel()
	age, amount := time.Hour, int64(5)
	for _, q := range []*Query{
		{Client: "shop", Source: "urn:a", ID: "1", Provider: EasyPay, Lane: Bulk, Time: at, Expires: at, MaxAge: &age, EasyPay: &EasyPayQuestion{CardCd: "008", Amount: &amount}},
		{Client: "shop", Source: "urn:a", ID: "1", Provider: UnionPay, Lane: Interactive, UnionPay: &UnionPayQuestion{PID: "1"}},
	} {
		asked := q.Asked()
		require.Equal(t, q, asked.Query())
	}
}

func TestAskedHasNoSecrets(t *testing.T) {
	t.Parallel()
	q := full()
	q.UnionPay = &UnionPayQuestion{PID: "1", Data: Conceal([]byte(cardNumber))}
	text, err := json.Marshal(q.Asked())
	require.NoError(t, err)
	require.NotContains(t, string(text), cardNumber)
	require.NotContains(t, string(text), "oncealed")
	require.Contains(t, string(text), `"key":"`+q.Key()+`"`)
}

func TestBest(t *testing.T) {
	t.Parallel()
	offer := func(id string, verdict Verdict, discount *Money) Offer {
		return Offer{ID: id, Verdict: verdict, Discount: discount}
	}
	for name, c := range map[string]struct {
		offers []Offer
		want   string
	}{
		"no offers":            {nil, ""},
		"one":                  {[]Offer{offer("a", Applicable, money(5))}, "a"},
		"none applies":         {[]Offer{offer("a", BelowMinimum, money(5)), offer("b", Exhausted, money(6)), offer("c", Unjudged, money(7))}, ""},
		"the largest":          {[]Offer{offer("a", Applicable, money(5)), offer("b", Applicable, money(7)), offer("c", Applicable, money(6))}, "b"},
		"the first of equals":  {[]Offer{offer("a", Applicable, money(5)), offer("b", Applicable, money(5))}, "a"},
		"larger, not for me":   {[]Offer{offer("a", Applicable, money(5)), offer("b", Exhausted, money(9))}, "a"},
		"without a discount":   {[]Offer{offer("a", Applicable, nil), offer("b", Applicable, &Money{Raw: "9"}), offer("c", Applicable, money(1))}, "c"},
		"no discount known":    {[]Offer{offer("a", Applicable, nil)}, ""},
		"a discount of zero":   {[]Offer{offer("a", Applicable, money(0))}, "a"},
		"zero beside negative": {[]Offer{offer("a", Applicable, money(-1)), offer("b", Applicable, money(0))}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := Answer{Offers: c.offers}
			best := answer.Best()
			if c.want == "" {
				require.Nil(t, best)
				return
			}
			require.Equal(t, c.want, best.ID)
			for i := range c.offers {
				if c.offers[i].ID == c.want {
					require.Same(t, &c.offers[i], best, "it is the offer itself, not a copy")
				}
			}
		})
	}
}

func TestCauseIsStable(t *testing.T) {
	t.Parallel()
	one := &fault.Error{Op: "a", Kind: fault.Rejected, Code: fault.UpstreamBroken, Upstream: "R102", Status: 200}
	// printf 'easypay\nrejected\nrejected\nupstream_broken\nR102\n200' | sha256sum | cut -c1-12.
	require.Equal(t, "c8ba100ac22b", Cause(EasyPay, ReasonRejected, one))

	same := *one
	same.Op, same.After, same.Sent, same.Cause = "b", time.Second, true, os.ErrClosed
	require.Equal(t, Cause(EasyPay, ReasonRejected, one), Cause(EasyPay, ReasonRejected, &same), "it does not depend on the occasion")

	seen := map[string]bool{Cause(EasyPay, ReasonRejected, one): true}
	for _, change := range []func(e *fault.Error){
		func(e *fault.Error) { e.Kind = fault.Unavailable }, func(e *fault.Error) { e.Code = fault.BadEcho },
		func(e *fault.Error) { e.Upstream = "R103" }, func(e *fault.Error) { e.Status = 500 }, func(e *fault.Error) { e.Upstream = "" },
	} {
		other := *one
		change(&other)
		cause := Cause(EasyPay, ReasonRejected, &other)
		require.Regexp(t, `^[0-9a-f]{12}$`, cause)
		require.NotContains(t, seen, cause)
		seen[cause] = true
	}
	require.NotContains(t, seen, Cause(UnionPay, ReasonRejected, one))
	require.NotContains(t, seen, Cause(EasyPay, ReasonExhausted, one))
}

func TestReasonsAreTokens(t *testing.T) {
	t.Parallel()
	require.Equal(t, []Reason{"expired", "malformed", "rejected", "exhausted", "quarantined"}, Reasons())
	for _, reason := range Reasons() {
		require.True(t, IsToken(string(reason)))
	}
	Reasons()[0] = "x"
	require.Equal(t, ReasonExpired, Reasons()[0])
}

func TestReadStrict(t *testing.T) {
	t.Parallel()
	var retry Retry
	require.NoError(t, ReadStrict([]byte(`{"rounds":2,"payload":"x","later":1}`), &retry))
	require.Equal(t, Retry{Rounds: 2, Payload: "x"}, retry)
	for _, data := range []string{`{"rounds":1,"rounds":2}`, `{"rounds":"` + cardNumber + `"}`, `{}x`, ``, strings.Repeat("[", 17)} {
		requireFault(t, ReadStrict([]byte(data), &retry), fault.BadJSON)
	}
}

// What is sealed for a dead letter or a retry comes back as it was, whatever bytes it is made of.
func TestOriginalRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Original{
			Subject: rapid.String().Draw(t, "subject"), Data: rapid.SliceOfN(rapid.Byte(), 1, -1).Draw(t, "data"),
			Header: rapid.MapOfN(rapid.String(), rapid.SliceOfN(rapid.String(), 1, 3), 1, 4).Draw(t, "header"),
		}
		text, err := json.Marshal(want)
		require.NoError(t, err)
		var got Original
		require.NoError(t, ReadStrict(text, &got))
		require.Equal(t, want, got)
	})
}

func TestReadDead(t *testing.T) {
	t.Parallel()
	q := &Query{Client: "shop", Source: "urn:test", ID: "1", Provider: EasyPay, Lane: Bulk}
	want := DeadData{
		Query: q.Asked(), Reason: ReasonRejected, Kind: "rejected", Code: fault.UpstreamBroken, Revision: 2,
		Attempts: []Attempt{{Milliseconds: 3, Kind: "rejected"}}, Upstream: Response{Code: "9999", Status: 200},
	}
	event, err := NewEvent(q, TypeDead, "dead.2", time.Now(), &want).Encode()
	require.NoError(t, err)
	got, err := ReadDead(event)
	require.NoError(t, err)
	require.Equal(t, want, got)

	failed, err := NewEvent(q, TypeFailed, "result.2", time.Now(), &FailedData{}).Encode()
	require.NoError(t, err)
	for name, broken := range map[string][]byte{"another event": failed, "cut": event[:len(event)-1], "empty": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ReadDead(broken)
			require.Equal(t, fault.Malformed, fault.KindOf(err))
		})
	}
}
