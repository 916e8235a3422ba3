package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// ruleFile is a file of Prometheus rules.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

// rule is an alert or a recording rule.
type rule struct {
	Alert       string
	Record      string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func (f ruleFile) rules() []rule {
	var all []rule
	for _, group := range f.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// grouped returns the labels that a rule's expression groups by first: with the rule's own ones, those of what it records.
func (r rule) grouped() []string {
	var labels []string
	if grouping := groupingRe.FindStringSubmatch(r.Expr); grouping != nil {
		for label := range strings.SplitSeq(grouping[2], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
	}
	return labels
}

// testFile is a file of promtool's tests of rules.
type testFile struct {
	Tests []ruleTest
}

type ruleTest struct {
	Name       string
	AlertTests []struct {
		Alert string `yaml:"alertname"`
		Want  []any  `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
	ExprTests []struct {
		Expr string
		Want []any `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// read reads a file of YAML; one of JSON is YAML, too.
func read[T any](t *testing.T, name string) T {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(name))
	require.NoError(t, err)
	var file T
	require.NoError(t, yaml.Unmarshal(text, &file), name)
	return file
}

func alerts(t *testing.T) []rule {
	t.Helper()
	all := read[ruleFile](t, "prometheus/alerts.yaml").rules()
	require.NotEmpty(t, all)
	return all
}

// ruleTests returns all tests of all files.
func ruleTests(t *testing.T) []ruleTest {
	t.Helper()
	files, err := filepath.Glob("prometheus/tests/*.yaml")
	require.NoError(t, err)
	var all []ruleTest
	for _, name := range files {
		all = append(all, read[testFile](t, name).Tests...)
	}
	return all
}

// unproven finds alerts without a test in which they fire, or without one in which they stay silent throughout, and tests whose names
// begin with another alert.
func unproven(names []string, tests []ruleTest) []string {
	fires, silent := map[string]bool{}, map[string]bool{}
	var findings []string
	for _, test := range tests {
		fired := map[string]bool{}
		for _, one := range test.AlertTests {
			fired[one.Alert] = fired[one.Alert] || len(one.Want) > 0
			if !strings.HasPrefix(test.Name, one.Alert+" ") {
				findings = append(findings, fmt.Sprintf("%q tests %s", test.Name, one.Alert))
			}
		}
		for name, did := range fired {
			fires[name], silent[name] = fires[name] || did, silent[name] || !did
		}
	}
	for _, name := range names {
		if !fires[name] {
			findings = append(findings, name+": no test in which it fires")
		}
		if !silent[name] {
			findings = append(findings, name+": no test in which it stays silent")
		}
	}
	return findings
}

// untold finds alerts that do not say what they mean: words, severity, and a section of the runbook.
func untold(rules []rule, runbook string) []string {
	var findings, sections []string
	for _, heading := range regexp.MustCompile(`(?m)^## (Discount\w+)$`).FindAllStringSubmatch(runbook, -1) {
		sections = append(sections, heading[1])
	}
	var names []string
	for _, r := range rules {
		names = append(names, r.Alert)
		if severity := r.Labels["severity"]; severity != "page" && severity != "ticket" {
			findings = append(findings, r.Alert+": its severity is neither page nor ticket")
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			findings = append(findings, r.Alert+": no summary or no description")
		}
		if r.Annotations["runbook"] != "docs/runbook.md#"+strings.ToLower(r.Alert) {
			findings = append(findings, r.Alert+": its runbook is "+r.Annotations["runbook"])
		}
		if !slices.Contains(sections, r.Alert) {
			findings = append(findings, r.Alert+": no section in the runbook")
		}
	}
	for _, section := range sections {
		if !slices.Contains(names, section) {
			findings = append(findings, section+": a section of the runbook without an alert")
		}
	}
	return findings
}

func TestRulesReadOnlyWhatThereIs(t *testing.T) {
	t.Parallel()
	known := documented(t)
	for _, r := range slices.Concat(alerts(t), read[ruleFile](t, "prometheus/recording.yaml").rules()) {
		require.Empty(t, known.strange(r.Expr), "%s%s", r.Alert, r.Record)
		for _, text := range r.Annotations {
			for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				require.True(t, known.someHas(label[1]), "%s: no metric has the label %s", r.Alert, label[1])
			}
		}
	}
}

func TestEveryAlertSaysWhatItMeans(t *testing.T) {
	t.Parallel()
	runbook, err := os.ReadFile("../docs/runbook.md")
	require.NoError(t, err)
	require.Empty(t, untold(alerts(t), string(runbook)))
}

// TestPagesNameWhatThereIs keeps the runbook and the page about deploying true: the metrics and alerts that they name exist.
func TestPagesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	known := documented(t)
	names := map[string]bool{}
	for _, r := range alerts(t) {
		names[r.Alert] = true
	}
	for _, page := range []string{"../docs/runbook.md", "README.md"} {
		text, err := os.ReadFile(filepath.Clean(page))
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`[a-z_:]*discount_worker_[a-z0-9_:]+`).FindAllString(string(text), -1) {
			require.Contains(t, known, name, page)
		}
		for _, name := range regexp.MustCompile(`\bDiscount[A-Z]\w+`).FindAllString(string(text), -1) {
			require.True(t, names[name], "%s: there is no alert %s", page, name)
		}
	}
}

func TestEveryAlertIsTestedBothWays(t *testing.T) {
	t.Parallel()
	var names []string
	for _, r := range alerts(t) {
		names = append(names, r.Alert)
	}
	require.Empty(t, unproven(names, ruleTests(t)))
}

func TestEveryRecordingRuleIsTested(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for _, test := range ruleTests(t) {
		for _, one := range test.ExprTests {
			for _, name := range (metrics{}).names(one.Expr) {
				tested[name] = tested[name] || len(one.Want) > 0
			}
		}
	}
	for _, r := range read[ruleFile](t, "prometheus/recording.yaml").rules() {
		require.True(t, tested[r.Record], "%s has no test", r.Record)
	}
}

func TestAlertsThatSayTooLittleAreFound(t *testing.T) {
	t.Parallel()
	good := func() rule {
		return rule{
			Alert: "DiscountX", Labels: map[string]string{"severity": "page"},
			Annotations: map[string]string{"summary": "s", "description": "d", "runbook": "docs/runbook.md#discountx"},
		}
	}
	for want, change := range map[string]func(r *rule, runbook *string){
		"":                                     func(*rule, *string) {},
		"neither page nor ticket":              func(r *rule, _ *string) { r.Labels["severity"] = "info" },
		"no summary or no description":         func(r *rule, _ *string) { delete(r.Annotations, "description") },
		"its runbook is docs/runbook.md#other": func(r *rule, _ *string) { r.Annotations["runbook"] = "docs/runbook.md#other" },
		"DiscountX: no section":                func(_ *rule, runbook *string) { *runbook = "### DiscountX\n" },
		"DiscountY: a section of the runbook":  func(_ *rule, runbook *string) { *runbook += "## DiscountY\n" },
	} {
		r, runbook := good(), "# Runbook\n\n## DiscountX\n"
		change(&r, &runbook)
		got := untold([]rule{r}, runbook)
		if want == "" {
			require.Empty(t, got)
			continue
		}
		require.Len(t, got, 1)
		require.Contains(t, got[0], want)
	}
}

func TestAlertsThatAreNotTestedAreFound(t *testing.T) {
	t.Parallel()
	test := func(name, alert, want string) string {
		return fmt.Sprintf("  - {name: %s, alert_rule_test: [{alertname: %s, exp_alerts: [%s]}]}\n", name, alert, want)
	}
	for tests, want := range map[string][]string{
		test("A fires", "A", "x") + test("A stays", "A", ""): nil,
		test("A fires", "A", "x"):                            {"A: no test in which it stays silent"},
		test("A stays", "A", ""):                             {"A: no test in which it fires"},
		test("B fires", "A", "x") + test("A stays", "A", ""): {`"B fires" tests A`},
	} {
		var file testFile
		require.NoError(t, yaml.Unmarshal([]byte("tests:\n"+tests), &file))
		require.Equal(t, want, unproven([]string{"A"}, file.Tests), tests)
	}
}
