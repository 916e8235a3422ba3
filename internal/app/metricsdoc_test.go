package app

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/sweeper"
	"discountquery.example/worker/internal/telemetry"
)

// documented returns what docs/metrics.md says of each metric: its type and its labels.
func documented(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	all := map[string]string{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.HasPrefix(line, "| `") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[1], "`")
		require.NotContains(t, all, name, "it is there twice")
		require.NotEmpty(t, cells[4], name)
		all[name] = describe(cells[2], strings.Split(cells[3], ", "))
	}
	require.NotEmpty(t, all)
	return all
}

func describe(kind string, labels []string) string {
	labels = slices.DeleteFunc(labels, func(label string) bool { return label == "" })
	slices.Sort(labels)
	return kind + " of " + strings.Join(labels, ", ")
}

// served returns the same of what a worker serves.
func (a *App) served(t *testing.T) map[string]string {
	t.Helper()
	families, err := a.metrics.Registry().Gather()
	require.NoError(t, err)
	all := map[string]string{}
	for _, family := range families {
		name, own := strings.CutPrefix(family.GetName(), "discount_worker_")
		if !own {
			require.True(t, strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_"), name)
			continue
		}
		var labels []string
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		all[name] = describe(strings.ToLower(family.GetType().String()), labels)
	}
	return all
}

// TestMetricsAreDocumented compares the page with what a worker serves, both ways, after the events that some wait for.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.gauged(t)
	r.requireValues(t, map[string]float64{`replays{state="done"}`: 0})
	early := r.served(t)
	r.requireValues(t, map[string]float64{
		`swept_total{settled="false",why="given_up"}`: 0, `store_troubles_total{write="schedule retry"}`: 0, `store_troubles_total{write="keep answer"}`: 0,
		`pace_changes_total{account="default",provider="unionpay",why="throttled"}`: 0,
	})

	r.storeTrouble("store result", fault.New("store", fault.Unavailable, fault.BrokerUnreachable))
	r.swept(sweeper.Overdue, true)
	r.paceChanged(quota.Change{Account: quota.Account{Provider: query.EasyPay, Name: defaultAccount}, Why: quota.Begun, To: 1000})
	telemetry.NewRecorder(r.log, r.metrics).Observe(decide.Outcome{
		Query:   &query.Query{Provider: query.EasyPay, Lane: query.Bulk},
		Verdict: decide.Verdict{Action: decide.Retry, Fault: fault.New("call", fault.Unavailable, fault.HTTPStatus)},
	})
	want := documented(t)
	require.Equal(t, want, r.served(t))

	page, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	for line := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			if strings.Contains(line, "*later*") {
				continue
			}
			require.Contains(t, early, name, "it is there from the start")
		}
	}
}
