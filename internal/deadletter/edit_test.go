package deadletter

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// plain buries a query that holds card data in the clear, which its schema refuses, and returns its letter.
func (b *bundle) plain() Letter {
	b.t.Helper()
	b.bury("shop", map[string]any{
		"specversion": "1.0", "id": "0", "source": "urn:test", "type": query.TypeRequested,
		"data": map[string]any{"cardBin": "12345678", "cardNo": testCard, "userToken": testToken, "mobile": testMobile},
	})
	letter, err := b.Find(b.t.Context(), 1)
	require.NoError(b.t, err)
	return letter
}

func requireNoCard(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{testCard, testToken, testMobile} {
		require.NotContains(t, text, secret)
	}
}

func TestShowAndReveal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	letter := b.plain()
	shown, err := b.Show(t.Context(), letter)
	require.NoError(t, err)
	require.Equal(t, Ready, shown.Standing)
	require.Empty(t, shown.Batch)
	require.NotEmpty(t, shown.Action)
	require.Empty(t, b.audits(), "what is sealed may be looked at")

	revealed, err := b.Reveal(t.Context(), letter)
	require.NoError(t, err)
	require.Equal(t, "discount.query.easypay.interactive.shop", revealed.Subject)
	require.Equal(t, []string{"kept"}, revealed.Header["X-Own"])
	require.Equal(t, 3, revealed.Hidden)
	require.Contains(t, string(revealed.Body), `"cardBin": "12345678"`)
	requireNoCard(t, string(revealed.Body))
	require.Equal(t, query.AuditData{Action: "dead.reveal", Actor: "kim@desk", Target: "letter 1", Reason: "case 1"}, b.audits()[0])

	batch := b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	shown, err = b.Show(t.Context(), letter)
	require.NoError(t, err)
	require.Equal(t, Owned, shown.Standing)
	require.Equal(t, batch.ID, shown.Batch)
}

func TestRevealOfWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.buryRaw("shop", []byte(`{"cardNo": "`+testCard+`", "userToken": "`+testToken+`"`))
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	revealed, err := b.Reveal(t.Context(), letter)
	require.NoError(t, err)
	require.Empty(t, revealed.Body)
	require.Equal(t, `{"xxxxxx": "xxxxxxxxxxxxxxxx", "xxxxxxxxx": "xxxxxxxxxxxxxxxxxxxx"`, revealed.Outline)
	_, err = b.Draft(t.Context(), letter)
	require.ErrorContains(t, err, "can't be edited")
}

func TestRevealHidesCardsInHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.worker.Handle(t.Context(), query.Delivery{
		Subject: b.subject.Query(query.EasyPay, query.Interactive, "shop"), Data: []byte("{"), Stream: "DISCOUNT_QUERIES", Sequence: 1, Number: 1, Stored: time.Now(),
		Header: map[string][]string{"X-Note": {"card " + testCard}, "X-Card-" + testCard: {"1"}, "User-Token": {testToken}, "X-Own": {"kept"}},
	})
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	revealed, err := b.Reveal(t.Context(), letter)
	require.NoError(t, err)
	require.Equal(t, 3, revealed.Hidden)
	require.Equal(t, []string{"kept"}, revealed.Header["X-Own"])
	for name, values := range revealed.Header {
		requireNoCard(t, name+strings.Join(values, ""))
	}
}

func TestRevealNeedsTheKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	letter := b.plain()
	without := b.open(func(o *Options) { o.Ring = nil })
	_, err := without.Reveal(t.Context(), letter)
	require.ErrorIs(t, err, errNoKeys)
	_, err = without.Draft(t.Context(), letter)
	require.ErrorIs(t, err, errNoKeys)
	require.Empty(t, b.audits())
	dir := t.TempDir()
	_, err = card.NewKeys(dir, time.Now())
	require.NoError(t, err)
	ring, err := card.LoadRing(dir)
	require.NoError(t, err)
	_, err = b.open(func(o *Options) { o.Ring = ring }).Reveal(t.Context(), letter)
	require.Equal(t, fault.UnknownKey, fault.CodeOf(err))
}

func TestEditAndReplay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	letter := b.plain()
	draft, err := b.Draft(t.Context(), letter)
	require.NoError(t, err)
	requireNoCard(t, draft.Text())
	var kept []string
	for line := range strings.Lines(draft.Text()) {
		if !strings.Contains(line, "hidden") {
			kept = append(kept, line)
		}
	}
	mended := strings.Replace(strings.Join(kept, ""), `"12345678",`, `"12345678"`, 1)
	edit, err := b.Accept(draft, mended, b.decoder)
	require.NoError(t, err)
	requireNoCard(t, strings.Join(edit.Diff, "\n"))
	require.Contains(t, edit.Diff, `-     "cardNo": "[hidden 1]",`)

	plan, err := b.PlanReplay(t.Context(), Filter{Sequence: 1})
	require.NoError(t, err)
	batch, err := b.Start(t.Context(), Request{Plan: plan, Rate: 10, Edit: edit})
	require.NoError(t, err)
	require.NotContains(t, batch.Payload, testCard)
	b.run(b.open(nil), batch.ID)
	b.work("shop")
	require.Equal(t, []string{"failed", "completed"}, b.statuses("shop")[letter.Query.Key])
	require.Equal(t, []query.AuditAction{query.AuditDeadEdit, query.AuditDeadEdit}, b.actions(), "opened, and replayed")
	require.Equal(t, "letter 1 edited", b.audits()[1].After)
}

func TestEditsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	draft, err := b.Draft(t.Context(), letter)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		from, to string
		code     fault.Code
		says     string
	}{
		"unchanged":      {"", "", fault.Unclassified, "nothing was changed"},
		"only blanks":    {`"cardBin": `, `"cardBin":       `, fault.Unclassified, "nothing was changed"},
		"not JSON":       {"}", "", fault.BadJSON, ""},
		"another id":     {`"id": "0"`, `"id": "1"`, fault.Unclassified, "its id and source"},
		"another source": {`"urn:test"`, `"urn:other"`, fault.Unclassified, "its id and source"},
		"broken schema":  {`"12345678"`, `"1"`, fault.BadSchema, ""},
		"another type":   {query.TypeRequested, query.TypeDead, fault.UnsupportedType, ""},
		"no id":          {`"id": "0",`, ``, fault.BadEnvelope, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.Accept(draft, strings.Replace(draft.Text(), test.from, test.to, 1), b.decoder)
			require.Error(t, err)
			require.Equal(t, test.code, fault.CodeOf(err))
			require.Contains(t, err.Error(), test.says)
		})
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	split := func(text string) []string {
		if text == "" {
			return nil
		}
		return strings.Split(text, "")
	}
	for name, test := range map[string]struct{ before, after, want string }{
		"same":    {"ab", "ab", "  a|  b"},
		"changed": {"abc", "axc", "  a|- b|+ x|  c"},
		"added":   {"ac", "abc", "  a|+ b|  c"},
		"gone":    {"abc", "ac", "  a|- b|  c"},
		"nothing": {"", "a", "+ a"},
		"all":     {"ab", "", "- a|- b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, strings.Join(diff(split(test.before), split(test.after)), "|"))
		})
	}
	require.Len(t, diff(make([]string, 3000), make([]string, 3000)), 2, "texts that are too long are not compared")
}
