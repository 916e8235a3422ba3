package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// prefix begins the names of the worker's metrics.
const prefix = "discount_worker_"

// metric is what is known of one metric: the labels it has beside those of a target, and whether it is there from the start.
type metric struct {
	labels []string
	later  bool
}

// targetLabels are those that Prometheus itself, or who configures it, gives to a series.
func targetLabels() []string { return []string{"namespace", "job", "instance"} }

// metrics holds metrics by their full names.
type metrics map[string]metric

// rowRe matches a line of the tables of docs/metrics.md: name, type, labels, meaning.
var rowRe = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([a-z, ]*?) ?\\| (.*) \\|$")

// readMetrics reads the tables of docs/metrics.md, which a test of its own compares with what a worker serves.
func readMetrics(text string) metrics {
	known := metrics{
		// Prometheus's own series of alerts, and what the client library tells about the process.
		"ALERTS":                        {labels: []string{"alertname", "alertstate"}},
		"process_cpu_seconds_total":     {},
		"process_resident_memory_bytes": {},
		"process_start_time_seconds":    {},
		"go_goroutines":                 {},
	}
	for _, row := range rowRe.FindAllStringSubmatch(text, -1) {
		m := metric{later: strings.HasSuffix(row[4], "*later*")}
		if row[3] != "" {
			m.labels = strings.Split(row[3], ", ")
		}
		if row[2] != "histogram" {
			known[prefix+row[1]] = m
			continue
		}
		known[prefix+row[1]+"_count"], known[prefix+row[1]+"_sum"] = m, m
		m.labels = append(slices.Clone(m.labels), "le")
		known[prefix+row[1]+"_bucket"] = m
	}
	return known
}

var (
	textRe     = regexp.MustCompile(`"(\\.|[^"\\])*"`)
	rangeRe    = regexp.MustCompile(`\[[^\]]*\]`)
	offsetRe   = regexp.MustCompile(`\boffset\s+\w+`)
	groupingRe = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	selectorRe = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}`)
	matcherRe  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)`)
	nameRe     = regexp.MustCompile(`[a-zA-Z_:][\w:]*\s*\(?`)
	operators  = []string{"and", "or", "unless", "bool"}
)

// strange returns what an expression names that is not known: metrics, labels of a metric in a selector, labels that are grouped by.
func (known metrics) strange(expr string) []string {
	var findings []string
	expr = offsetRe.ReplaceAllString(rangeRe.ReplaceAllString(textRe.ReplaceAllString(expr, `""`), ""), "")
	for _, grouping := range groupingRe.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(grouping[2], ",") {
			if label = strings.TrimSpace(label); label != "" && !known.someHas(label) {
				findings = append(findings, "no metric has the label "+label)
			}
		}
	}
	expr = groupingRe.ReplaceAllString(expr, "")
	for _, selector := range selectorRe.FindAllStringSubmatch(expr, -1) {
		for _, matcher := range matcherRe.FindAllStringSubmatch(selector[2], -1) {
			if !slices.Contains(known[selector[1]].labels, matcher[1]) && !slices.Contains(targetLabels(), matcher[1]) {
				findings = append(findings, fmt.Sprintf("%s has no label %s", selector[1], matcher[1]))
			}
		}
	}
	for _, name := range known.names(expr) {
		if _, ok := known[name]; !ok {
			findings = append(findings, "there is no metric "+name)
		}
	}
	return findings
}

// names returns what stands in an expression where a metric would.
func (known metrics) names(expr string) []string {
	expr = offsetRe.ReplaceAllString(rangeRe.ReplaceAllString(textRe.ReplaceAllString(expr, `""`), ""), "")
	expr = selectorRe.ReplaceAllString(groupingRe.ReplaceAllString(expr, ""), "$1")
	var names []string
	for _, name := range nameRe.FindAllString(expr, -1) {
		if !strings.HasSuffix(name, "(") && !slices.Contains(operators, strings.TrimSpace(name)) {
			names = append(names, strings.TrimSpace(name))
		} else if word := strings.TrimSpace(strings.TrimSuffix(name, "(")); slices.ContainsFunc([]string{prefix, "process_"}, func(p string) bool {
			return strings.Contains(word, p)
		}) {
			names = append(names, word) // A metric before a bracket is no function.
		}
	}
	return names
}

// someHas tells whether any metric has a label.
func (known metrics) someHas(label string) bool {
	if slices.Contains(targetLabels(), label) {
		return true
	}
	for _, m := range known {
		if slices.Contains(m.labels, label) {
			return true
		}
	}
	return false
}

// later tells whether an expression reads a metric that appears with its first event.
func (known metrics) later(expr string) bool {
	return slices.ContainsFunc(known.names(expr), func(name string) bool { return known[name].later })
}

// documented returns the metrics of docs/metrics.md and the recorded ones.
func documented(t *testing.T) metrics {
	t.Helper()
	text, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	known := readMetrics(string(text))
	require.Contains(t, known, prefix+"query_age_seconds_bucket")
	require.Greater(t, len(known), 40)
	for _, r := range read[ruleFile](t, "prometheus/recording.yaml").rules() {
		for _, label := range r.grouped() {
			require.True(t, known.someHas(label), "%s: no metric has the label %s", r.Record, label)
		}
		known[r.Record] = metric{labels: slices.Concat(known[r.Record].labels, r.grouped(), slices.Collect(maps.Keys(r.Labels)))}
	}
	return known
}

func TestMetricsAreReadFromTheirPage(t *testing.T) {
	t.Parallel()
	known := readMetrics("# Metrics\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n" +
		"| `ready` | gauge | | 1 or 0 |\n| `swept_total` | counter | why, settled | queries; *later* |\n| `reply_seconds` | histogram | endpoint | time |\n")
	require.Equal(t, metric{}, known[prefix+"ready"])
	require.Equal(t, metric{labels: []string{"why", "settled"}, later: true}, known[prefix+"swept_total"])
	require.Equal(t, metric{labels: []string{"endpoint", "le"}}, known[prefix+"reply_seconds_bucket"])
	require.Equal(t, metric{labels: []string{"endpoint"}}, known[prefix+"reply_seconds_count"])
	require.NotContains(t, known, prefix+"reply_seconds")
	require.NotContains(t, known, prefix+"metric")
}

func TestStrangeNamesAreFound(t *testing.T) {
	t.Parallel()
	known := metrics{
		prefix + "ready":         {},
		prefix + "queries_total": {labels: []string{"provider", "lane", "action"}},
		"job:x:max":              {labels: []string{"stream"}},
	}
	for expr, want := range map[string]string{
		`sum by (job) (discount_worker_ready) == 0`:                                                   "",
		`rate(discount_worker_queries_total{lane="bulk", action=~"fail|bury"}[5m]) > 14.4 * 0.01`:     "",
		`job:x:max{stream=~"A{2}|B"} - min_over_time(job:x:max[1h]) > 0`:                              "",
		`sum by (provider) (rate(discount_worker_queries_total[$__rate_interval])) or on() vector(0)`: "",
		`discount_worker_ready unless discount_worker_ready offset 1h and on (instance) job:x:max`:    "",
		`sum by (job) (discount_worker_redy) == 0`:                                                    "there is no metric discount_worker_redy",
		`dicount_ready > 0`:        "there is no metric dicount_ready",
		`discount_worker_redy (x)`: "there is no metric discount_worker_redy",
		`job:x:min > 0`:            "there is no metric job:x:min",
		`rate(discount_worker_queries_total{account="default"}[5m])`: "discount_worker_queries_total has no label account",
		`job:x:max{lane="bulk"}`:                                     "job:x:max has no label lane",
		`sum by (cardNo) (discount_worker_ready)`:                    "no metric has the label cardNo",
		`discount_worker_ready and on (job, pan) job:x:max`:          "no metric has the label pan",
	} {
		got := known.strange(expr)
		if want == "" {
			require.Empty(t, got, expr)
			continue
		}
		require.Contains(t, got, want, expr)
	}
}
