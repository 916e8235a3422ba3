package demo

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/query"
)

// lettersAt returns the dead letters of the demo whose configuration is in the file given.
func lettersAt(t *testing.T, configFile string) *app.DeadLetters {
	t.Helper()
	settings, err := config.Load(configFile, nil)
	require.NoError(t, err)
	require.NoError(t, settings.Validate())
	letters, err := app.OpenDeadLetters(t.Context(), settings, app.DeadLettersOptions{Actor: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { letters.Close(context.Background()) })
	return letters
}

// groupsAt returns the causes there, each as "provider reason code upstream's code", with how many died of it.
func groupsAt(t *testing.T, letters *app.DeadLetters) map[string]int {
	t.Helper()
	groups, err := letters.Groups(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	counts := map[string]int{}
	for _, g := range groups {
		counts[strings.Join(strings.Fields(strings.Join([]string{string(g.Provider), string(g.Reason), string(g.Code), g.Upstream}, " ")), " ")] = g.Count
	}
	return counts
}

func failureCauses() map[string]int {
	return map[string]int{
		"easypay rejected upstream_broken Z123": 5,
		"easypay malformed bad_envelope":        3,
		"easypay malformed unsupported_type":    2,
		"easypay malformed bad_schema":          2,
		"easypay malformed forbidden_card_data": 2,
		"easypay exhausted http_status":         2,
		"unionpay malformed unknown_key":        3,
		"unionpay malformed seal_mismatch":      1,
		"unionpay rejected upstream_broken 99":  1,
	}
}

// TestFailuresDieOfTheirCausesOnly asks, looks while it runs, and looks again when the demo is opened a second time.
func TestFailuresDieOfTheirCausesOnly(t *testing.T) {
	t.Parallel()
	kept := filepath.Join(t.TempDir(), "kept")
	looked := 0
	summary, err := Run(t.Context(), Options{Queries: 60, Workers: 2, Keep: kept, Build: "test", WithFailures: true, OnAsked: func(s Summary) error {
		looked++
		require.Equal(t, filepath.Join(kept, ConfigFile), s.Site.Config)
		require.Equal(t, failureCauses(), groupsAt(t, lettersAt(t, s.Site.Config)))
		return nil
	}})
	require.NoError(t, err)
	require.Equal(t, 1, looked)
	require.True(t, summary.OK(), "who asked what dies is told so, once")
	require.Equal(t, []int{81, 60, 21, 21}, []int{summary.Sent, summary.Completed, summary.Failed, summary.Dead})
	requireKept(t, kept)

	require.NoError(t, Reopen(t.Context(), Options{Workers: 1, Keep: kept, Build: "test", OnAsked: func(s Summary) error {
		looked++
		requireRepaired(t, s.Site)
		return nil
	}}))
	require.Equal(t, 2, looked)
	requireKept(t, kept)
}

// requireRepaired replays what the upstreams refused, and what a lost key kept from being read, and sees both answered.
func requireRepaired(t *testing.T, site Site) {
	t.Helper()
	letters := lettersAt(t, site.Config)
	require.Equal(t, failureCauses(), groupsAt(t, letters), "nothing was lost meanwhile")
	for _, filter := range []deadletter.Filter{{Reason: query.ReasonRejected}, {Reason: query.ReasonExhausted}} {
		plan, err := letters.PlanReplay(t.Context(), filter)
		require.NoError(t, err)
		require.Positive(t, plan.Ready)
		batch, err := letters.Start(t.Context(), deadletter.Request{Plan: plan, Rate: 100})
		require.NoError(t, err)
		done, err := letters.Run(t.Context(), batch.ID, func(deadletter.Progress) {})
		require.NoError(t, err)
		require.Equal(t, deadletter.Done, done.State)
		require.Eventually(t, func() bool {
			again, err := letters.PlanReplay(t.Context(), filter)
			return err == nil && again.LeftOut[deadletter.Answered] == plan.Ready
		}, patience, patience/1000, "the upstreams behave now")
	}
}

func TestEndOfTheLookEndsTheDemo(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	_, err := Run(t.Context(), Options{OnAsked: func(s Summary) error {
		require.NotEmpty(t, s.Site.Upstreams)
		require.Empty(t, groupsAt(t, lettersAt(t, s.Site.Config)))
		return enough
	}})
	require.ErrorIs(t, err, enough)
}

func TestReopenNeedsADemo(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, Reopen(t.Context(), Options{Keep: t.TempDir()}), "holds no demo")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, ConfigFile), nil, 0o600))
	require.ErrorContains(t, Reopen(t.Context(), Options{Keep: dir}), "load keys")
}

func TestWithoutTheFlagNothingFails(t *testing.T) {
	t.Parallel()
	d := &demo{Options: Options{Queries: 7}}
	require.Empty(t, d.failures())
	require.Equal(t, 7, d.total())
	require.Equal(t, faults, d.faults())
	d.again = true
	require.Empty(t, d.faults(), "upstreams of a demo that is opened again behave")
}

func TestFailingQueriesHaveAnIdentityAndNoCardInTheClear(t *testing.T) {
	t.Parallel()
	d := &demo{Options: Options{WithFailures: true}, dir: t.TempDir()}
	require.NoError(t, d.makeRing())
	seen := map[string]bool{}
	for _, f := range d.failures() {
		event, err := d.failing(f, f.name+"-0")
		require.NoError(t, err)
		body, err := json.Marshal(event)
		require.NoError(t, err)
		require.NotContains(t, string(body), testCards[0])
		require.NotEmpty(t, event.Source)
		require.False(t, seen[event.ID])
		seen[event.ID] = true
	}
	lost, err := card.LoadRing(filepath.Join(d.dir, lostKeys))
	require.NoError(t, err)
	require.Less(t, lost.Sealer().KeyID(), d.ring.Sealer().KeyID(), "a key that is given back must not become the newest")
}
