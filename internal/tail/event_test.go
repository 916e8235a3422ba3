package tail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// samples is where the sample events lie.
const samples = "../../schemas/samples"

func sample(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(samples, name))
	require.NoError(t, err)
	return text
}

func TestSamplesAreRead(t *testing.T) {
	t.Parallel()
	stored0 := time.Date(2026, 3, 2, 9, 15, 4, 0, time.UTC)
	for name, test := range map[string]struct {
		what    What
		subject string
		check   func(t *testing.T, e Event)
	}{
		"query.completed.easypay.v1.json": {Results, "discount.result.csbuu7xomafjihgdwkgzrrrmq4.easypay.shop.completed", func(t *testing.T, e Event) {
			t.Helper()
			require.Equal(t, query.Completed, e.Status)
			require.Equal(t, query.OutcomeOK, e.Outcome)
			require.Equal(t, "CP87654321", e.Best.ID)
			require.Equal(t, 3, e.Offers)
			require.Equal(t, 176*time.Millisecond, e.Took)
			require.Equal(t, 1, e.Attempts)
			require.Equal(t, "order-2026-000042", e.Order)
			require.Nil(t, e.Card)
		}},
		"query.completed.unionpay.v1.json": {Results, "", func(t *testing.T, e Event) {
			t.Helper()
			require.NotNil(t, e.Usage)
			require.NotNil(t, e.Card)
			require.Len(t, e.Card.LastFour, 4)
		}},
		"query.completed.shared.v1.json": {Results, "", func(t *testing.T, e Event) {
			t.Helper()
			require.True(t, e.Shared)
		}},
		"query.failed.expired.v1.json": {Results, "discount.result.aat45odjcbyzdwhib5oioncnde.easypay.shop.failed", func(t *testing.T, e Event) {
			t.Helper()
			require.Equal(t, query.Failed, e.Status)
			require.Equal(t, query.ReasonExpired, e.Reason)
			require.Equal(t, fault.DeadlinePassed, e.Code)
			require.Zero(t, e.Attempts)
		}},
		"query.failed.rejected.v1.json": {Results, "", func(t *testing.T, e Event) {
			t.Helper()
			require.Equal(t, "R102", e.Upstream.Code)
		}},
		"query.dead.v1.json": {DeadLetters, "discount.dead.a7i4mzyykfdditgyo4jidqufwo.easypay.shop.rejected", func(t *testing.T, e Event) {
			t.Helper()
			require.Empty(t, e.Status)
			require.Equal(t, query.ReasonRejected, e.Reason)
			require.Equal(t, stored0.Sub(time.Date(2026, 3, 2, 9, 15, 0, 254e6, time.UTC)), e.Took)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := sample(t, name)
			subject := test.subject
			if subject == "" {
				subject = subjectOf(t, test.what, text)
			}
			e, err := readEvent(test.what, "S", stored{subject: subject, data: text, sequence: 7, at: stored0})
			require.NoError(t, err)
			require.Equal(t, uint64(7), e.Sequence)
			require.Equal(t, stored0, e.Stored)
			require.Equal(t, subject, e.Subject)
			require.Equal(t, string(text), string(e.Raw))
			test.check(t, e)

			for _, wrong := range []string{"", "completed", "discount.result.x.easypay.shop.completed", subject + ".more", strings.Replace(subject, ".shop.", ".", 1)} {
				_, err := readEvent(test.what, "S", stored{subject: wrong, data: text})
				require.Equal(t, fault.BadSubject, fault.CodeOf(err), wrong)
			}
			other := map[What]What{Results: DeadLetters, DeadLetters: Results}[test.what]
			_, err = readEvent(other, "S", stored{subject: subject, data: text})
			require.Equal(t, fault.UnsupportedType, fault.CodeOf(err))
		})
	}
}

// subjectOf returns the subject under which a sample would be stored.
func subjectOf(t testing.TB, what What, text []byte) string {
	t.Helper()
	var event struct {
		Type string `json:"type"`
		Data struct {
			Query  query.Asked  `json:"query"`
			Reason query.Reason `json:"reason"`
		} `json:"data"`
	}
	require.NoError(t, query.ReadStrict(text, &event))
	subjects, q := query.NewSubjects("discount"), event.Data.Query
	switch {
	case what == DeadLetters:
		return subjects.Dead(q.Key, q.Provider, q.Client, string(event.Data.Reason))
	case event.Type == query.TypeFailed:
		return subjects.Result(q.Key, q.Provider, q.Client, "failed")
	default:
		return subjects.Result(q.Key, q.Provider, q.Client, "completed")
	}
}

func TestFailedEventHasItsReplayAndCard(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail(asked(query.UnionPay, query.Bulk, "shop", "1"), query.ReasonRejected, fault.UpstreamBroken)
	var events []Event
	require.NoError(t, b.Read(t.Context(), Request{Last: 2}, func(e Event) error {
		events = append(events, e)
		return nil
	}))
	require.Equal(t, "0005", events[0].Card.LastFour)
	require.Equal(t, 2, events[0].Attempts)
	require.Equal(t, 2*time.Second, events[0].Took)
	require.Equal(t, 2, events[1].Revision)
	require.Equal(t, "order-1", events[1].Order)
	require.GreaterOrEqual(t, events[1].Took, 3*time.Second)
	require.Nil(t, events[1].Card, "a dead letter keeps the card sealed")
}

func FuzzReadEvent(f *testing.F) {
	for _, name := range []string{"query.completed.easypay.v1.json", "query.completed.unionpay.v1.json", "query.failed.rejected.v1.json", "query.dead.v1.json"} {
		text := sample(f, name)
		what := Results
		if strings.Contains(name, "dead") {
			what = DeadLetters
		}
		f.Add(what == DeadLetters, subjectOf(f, what, text), text)
	}
	f.Add(false, "", []byte(`{"type":"discount.query.completed.v1","data":{"query":{"key":""},"timing":{"totalMs":9223372036854775807}}}`))
	f.Add(true, "a.b.c.d", []byte(`{"type":"discount.query.dead.v1","data":{"firstSeen":"0001-01-01T00:00:00Z"}}`))
	f.Add(false, "...", []byte(`{"type":"discount.query.failed.v1","data":{"replay":{}},"data":null}`))
	f.Fuzz(func(t *testing.T, dead bool, subject string, data []byte) {
		what := Results
		if dead {
			what = DeadLetters
		}
		e, err := readEvent(what, "S", stored{subject: subject, data: data, at: time.Unix(1, 0)})
		if err != nil {
			require.Equal(t, fault.Malformed, fault.KindOf(err))
			return
		}
		require.True(t, strings.HasSuffix(subject, "."+e.last()))
		require.Contains(t, subject, e.Query.Key+".")
		require.True(t, e.Raw.IsValid())
	})
}
