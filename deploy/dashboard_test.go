package deploy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dashboardFile is the dashboard of the worker.
const dashboardFile = "grafana/discount-worker.json"

// dashboard is the part of a Grafana dashboard that the tests look at.
type dashboard struct {
	Templating struct {
		List []struct {
			Name  string
			Query any
		}
	}
	Panels []dashPanel
}

type dashPanel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  struct{ UID string }
	Place       struct{ X, Y, W, H int } `yaml:"gridPos"`
	Field       struct {
		Defaults struct {
			Unit    string
			NoValue string `yaml:"noValue"`
		}
	} `yaml:"fieldConfig"`
	Targets []struct {
		Expr   string
		Legend string `yaml:"legendFormat"`
	}
}

// overlaps tells whether two panels lie on each other.
func (p dashPanel) overlaps(other dashPanel) bool {
	a, b := p.Place, other.Place
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// misplaced finds panels without an id of their own, off the grid, or on others.
func misplaced(panels []dashPanel) []string {
	var findings []string
	for i, p := range panels {
		if p.ID <= 0 || p.Place.W <= 0 || p.Place.H <= 0 || p.Place.X < 0 || p.Place.X+p.Place.W > 24 {
			findings = append(findings, p.Title+": no id, or off the grid")
		}
		for _, other := range panels[:i] {
			if p.ID == other.ID {
				findings = append(findings, fmt.Sprintf("%s and %s: the same id", other.Title, p.Title))
			}
			if p.overlaps(other) {
				findings = append(findings, fmt.Sprintf("%s and %s: one lies on the other", other.Title, p.Title))
			}
		}
	}
	return findings
}

// unclear finds panels that do not say what they show, or show nothing where there was nothing to count.
func unclear(p dashPanel, known metrics) []string {
	var findings []string
	if p.Title == "" || !strings.HasSuffix(p.Description, ".") && !strings.HasSuffix(p.Description, ".)") {
		findings = append(findings, "no title, or no description in sentences")
	}
	if p.Field.Defaults.Unit == "" || p.Field.Defaults.NoValue == "" {
		findings = append(findings, "no unit, or nothing to show without a value")
	}
	if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
		findings = append(findings, "another data source, or no query")
	}
	for _, target := range p.Targets {
		findings = append(findings, known.strange(target.Expr)...)
		if known.later(target.Expr) && !strings.HasSuffix(target.Expr, "or on() vector(0)") {
			findings = append(findings, "reads what appears with its first event, and has no zero for before: "+target.Expr)
		}
		if !strings.Contains(target.Expr, `job=~"$job"`) {
			findings = append(findings, "mixes deployments: "+target.Expr)
		}
	}
	return findings
}

func TestPanelsHaveTheirPlaces(t *testing.T) {
	t.Parallel()
	panels := read[dashboard](t, dashboardFile).Panels
	require.NotEmpty(t, panels)
	require.Empty(t, misplaced(panels))
}

func TestEveryPanelSaysWhatItShows(t *testing.T) {
	t.Parallel()
	known := documented(t)
	var rows []string
	for _, p := range read[dashboard](t, dashboardFile).Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		require.Empty(t, unclear(p, known), p.Title)
	}
	require.Equal(t, []string{
		"Service level", "Upstream", "Pace", "Queues", "Dead letters and replays", "Broker", "Fleet", "Keys and process",
	}, rows)
}

// TestEveryMetricIsShown keeps that what a worker measures can be looked at.
func TestEveryMetricIsShown(t *testing.T) {
	t.Parallel()
	known := documented(t)
	var shown []string
	for _, p := range read[dashboard](t, dashboardFile).Panels {
		for _, target := range p.Targets {
			shown = append(shown, known.names(target.Expr)...)
		}
	}
	for _, r := range read[ruleFile](t, "prometheus/recording.yaml").rules() {
		if slices.Contains(shown, r.Record) {
			shown = append(shown, known.names(r.Expr)...)
		}
	}
	for name := range known {
		if !strings.HasPrefix(name, prefix) || strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_sum") {
			continue
		}
		require.Contains(t, shown, name)
	}
}

func TestTheDashboardAsksWhatToShow(t *testing.T) {
	t.Parallel()
	known := documented(t)
	var names []string
	for _, variable := range read[dashboard](t, dashboardFile).Templating.List {
		names = append(names, variable.Name)
		query, ok := variable.Query.(map[string]any)
		if !ok {
			require.Equal(t, "prometheus", variable.Query)
			continue
		}
		text, label, found := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(query["query"].(string), "label_values("), ")"), ", ")
		require.True(t, found)
		require.Empty(t, known.strange(text))
		require.True(t, known.someHas(label))
	}
	require.Equal(t, []string{"datasource", "job", "provider", "lane"}, names)
}

func TestUnclearAndMisplacedPanelsAreFound(t *testing.T) {
	t.Parallel()
	known := metrics{prefix + "ready": {}, prefix + "swept_total": {later: true}}
	good := func() dashPanel {
		p := dashPanel{ID: 1, Title: "A", Description: "What it is."}
		p.Datasource.UID, p.Field.Defaults.Unit, p.Field.Defaults.NoValue = "${datasource}", "s", "0"
		p.Place.W, p.Place.H = 8, 8
		p.Targets = append(p.Targets, struct {
			Expr   string
			Legend string `yaml:"legendFormat"`
		}{Expr: `discount_worker_ready{job=~"$job"}`})
		return p
	}
	require.Empty(t, unclear(good(), known))
	for want, change := range map[string]func(p *dashPanel){
		"no description":        func(p *dashPanel) { p.Description = "" },
		"no unit":               func(p *dashPanel) { p.Field.Defaults.Unit = "" },
		"without a value":       func(p *dashPanel) { p.Field.Defaults.NoValue = "" },
		"another data source":   func(p *dashPanel) { p.Datasource.UID = "prometheus" },
		"no query":              func(p *dashPanel) { p.Targets = nil },
		"there is no metric":    func(p *dashPanel) { p.Targets[0].Expr = `discount_worker_redy{job=~"$job"}` },
		"mixes deployments":     func(p *dashPanel) { p.Targets[0].Expr = `discount_worker_ready` },
		"has no zero for befor": func(p *dashPanel) { p.Targets[0].Expr = `discount_worker_swept_total{job=~"$job"}` },
	} {
		p := good()
		change(&p)
		require.Contains(t, strings.Join(unclear(p, known), "\n"), want)
	}
	for want, change := range map[string]func(p *dashPanel){
		"the same id":          func(p *dashPanel) { p.Place.X = 8 },
		"lies on the other":    func(p *dashPanel) { p.ID, p.Place.X, p.Place.Y = 2, 7, 7 },
		"no id, or off the gr": func(p *dashPanel) { p.ID, p.Place.X = 2, 17 },
	} {
		p := good()
		change(&p)
		require.Contains(t, strings.Join(misplaced([]dashPanel{good(), p}), "\n"), want)
	}
	beside := good()
	beside.ID, beside.Place.X = 2, 8
	require.Empty(t, misplaced([]dashPanel{good(), beside}))
}
