package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/freeport"
	"discountquery.example/worker/internal/query"
)

// newEmbedded returns a running worker with its own server and a simulated EasyPay.
func newEmbedded(t *testing.T, settings string) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), admin: freeport.Address(t)}
	easypay := freeport.Address(t)
	start(t, "worker", s.dir, "sandbox", "--easypay", easypay, "--unionpay", "", "--admin", "")
	s.config = filepath.Join(s.dir, "worker.yaml")
	text := fmt.Sprintf("embedded: {listen: \"%s\"}\nadmin: {listen: \"%s\"}\nproviders: {easypay: {base_url: \"http://%s\", mall_id: T5102001%s}}\n",
		freeport.Address(t), s.admin, easypay, settings)
	require.NoError(t, os.WriteFile(s.config, []byte(text), 0o600))
	require.Equal(t, exitOK, command(t, "", "keys", "new", "--dir", filepath.Join(s.dir, "keys")).code)
	s.startWorker(t)
	return s
}

// TestPaceIsChangedWhileTheWorkerRuns pauses, resumes and sets an account's pace, and asks meanwhile.
func TestPaceIsChangedWhileTheWorkerRuns(t *testing.T) {
	t.Parallel()
	began := time.Now()
	s := newEmbedded(t, `, pace: {rate: 50/s, burst: 5}, accounts: {outlet: {mall_ids: [T0000002], pace: {rate: 7/s, burst: 1}}}`)
	shown := s.do(t, "pace", "show")
	require.Equal(t, exitOK, shown.code, shown.stderr)
	require.Contains(t, shown.stdout, "easypay/default          50/s, as configured")
	require.Contains(t, shown.stdout, "easypay/outlet           7/s, as configured")

	paused := s.do(t, "pace", "pause", "easypay", "--reason", "key exchange", "--by", "kim")
	require.Equal(t, exitOK, paused.code, paused.stderr)
	require.Regexp(t, `easypay/default +paused;.* by kim: key exchange`, paused.stdout)
	var refused outcome
	require.Eventually(t, func() bool {
		refused = s.do(t, "ask", "easypay", "--direct", "--card-cd", "008", "--timeout", "3s")
		return refused.code == exitNo
	}, time.Minute, 50*time.Millisecond, "a paused account is not asked")
	require.Contains(t, refused.stderr, "overloaded (503)")
	other := s.do(t, "ask", "easypay", "--direct", "--mall-id", "T0000002", "--card-cd", "008", "--timeout", "30s")
	require.Equal(t, exitOK, other.code, "another account goes on: %s", other.stderr)

	require.Equal(t, exitOK, s.do(t, "pace", "resume", "easypay/default", "--by", "lee", "--reason", "keys are there").code)
	require.Eventually(t, func() bool {
		return s.do(t, "ask", "easypay", "--direct", "--card-cd", "008", "--timeout", "10s").code == exitOK
	}, time.Minute, 50*time.Millisecond)
	set := s.do(t, "pace", "set", "easypay/outlet", "120/m", "--reason", "agreed", "--by", "kim")
	require.Contains(t, set.stdout, "easypay/outlet           2/s")
	require.Contains(t, s.do(t, "pace", "set", "easypay/outlet", "default", "--by", "kim").stdout, "easypay/outlet           7/s, as configured")

	kept := s.do(t, "pace", "reset", "easypay")
	require.Equal(t, exitOK, kept.code)
	require.Contains(t, kept.stderr, "Nothing was changed")
	require.Equal(t, exitOK, s.do(t, "pace", "reset", "easypay", "--yes", "--by", "lee", "--reason", "new contract").code)

	var all []struct {
		Account    string  `json:"account"`
		Configured float64 `json:"configured"`
		Paused     bool    `json:"paused"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.do(t, "pace", "show", "--json").stdout), &all))
	require.Len(t, all, 2)
	require.Equal(t, "easypay/default", all[0].Account)
	require.InDelta(t, 50, all[0].Configured, 0)
	require.False(t, all[0].Paused)

	const easypay, outlet = "easypay/default", "easypay/outlet"
	require.Equal(t, []query.AuditData{
		{Action: query.AuditPacePause, Actor: "kim", Target: easypay, Reason: "key exchange", Before: "50/s, as configured", After: "paused"},
		{Action: query.AuditPaceResume, Actor: "lee", Target: easypay, Reason: "keys are there", Before: "paused", After: "running"},
		{Action: query.AuditPaceSet, Actor: "kim", Target: outlet, Reason: "agreed", Before: "7/s, as configured", After: "120/m"},
		{Action: query.AuditPaceSet, Actor: "kim", Target: outlet, Before: "2/s", After: "as configured"},
		{Action: query.AuditPaceReset, Actor: "lee", Target: easypay, Reason: "new contract", Before: "50/s, as configured", After: "as configured"},
	}, s.audited(t, began), "what was done is written down, and nothing else")
}

// audited returns what is written down in the audit stream, in order. All of it must have been written since a time.
func (s *site) audited(t *testing.T, since time.Time) []query.AuditData {
	t.Helper()
	settings, err := config.Load(s.config, nil)
	require.NoError(t, err)
	broker, err := app.OpenBroker(t.Context(), settings, app.BrokerOptions{Name: "test"})
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close(t.Context())) }()
	stream, err := broker.JS.Stream(t.Context(), "DISCOUNT_AUDIT")
	require.NoError(t, err)
	var all []query.AuditData
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		var event struct {
			Type string          `json:"type"`
			Time time.Time       `json:"time"`
			Data query.AuditData `json:"data"`
		}
		require.NoError(t, json.Unmarshal(message.Data, &event))
		require.Equal(t, query.TypeAudit, event.Type)
		require.Equal(t, "discount.audit."+string(event.Data.Action), message.Subject)
		require.WithinRange(t, event.Time, since, time.Now())
		all = append(all, event.Data)
	}
	return all
}

func TestPaceOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newEmbedded(t, "")
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"unknown account": {[]string{"pause", "visa"}, `no account "visa": the configuration has easypay/default`},
		"no rate":         {[]string{"set", "easypay", "fast"}, "such as 10/s"},
		"long reason":     {[]string{"pause", "easypay", "--reason", strings.Repeat("x", 257)}, "at most 256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.do(t, append([]string{"pace"}, test.args...)...)
			require.Equal(t, exitUsage, got.code)
			require.Contains(t, got.stderr, test.says)
		})
	}
}

// TestAnswerThatIsFreshEnough asks the same question several times.
func TestAnswerThatIsFreshEnough(t *testing.T) {
	t.Parallel()
	s := newEmbedded(t, "")
	ask := func(args ...string) (shared bool, asOf time.Time, attempts int) {
		t.Helper()
		got := s.do(t, append([]string{"ask", "easypay", "--card-bin", "12345678", "--amount", "51004", "--timeout", "30s"}, args...)...)
		require.Equal(t, exitOK, got.code, got.stderr)
		var event struct {
			Data struct {
				Shared   bool      `json:"shared"`
				AsOf     time.Time `json:"asOf"`
				Attempts []any     `json:"attempts"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(got.stdout), &event))
		return event.Data.Shared, event.Data.AsOf, len(event.Data.Attempts)
	}
	shared, first, attempts := ask("--max-age", "10m")
	require.False(t, shared)
	require.Positive(t, attempts)
	for _, way := range [][]string{{"--max-age", "10m"}, {"--max-age", "10m", "--direct"}, {"--max-age", "10m", "--lane", "bulk"}} {
		shared, asOf, attempts := ask(way...)
		require.True(t, shared, way)
		require.Equal(t, first, asOf)
		require.Zero(t, attempts)
	}
	shared, asOf, _ := ask()
	require.False(t, shared, "who does not say so gets a fresh answer")
	require.True(t, asOf.After(first))

	again := s.do(t, "ask", "easypay", "--card-cd", "008", "--id", "twice", "--timeout", "30s")
	require.Equal(t, exitOK, again.code, again.stderr)
	repeated := s.do(t, "ask", "easypay", "--card-cd", "008", "--id", "twice", "--timeout", "30s")
	require.Equal(t, again.stdout, repeated.stdout, "a query that has its result is told it again")
	require.Equal(t, exitUsage, s.do(t, "ask", "easypay", "--card-cd", "008", "--max-age", "25h").code)
}
