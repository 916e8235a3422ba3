package archtest

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// workflow is the part of a GitHub workflow that decides what it may do.
type workflow struct {
	On          yaml.Node         `yaml:"on"`
	Permissions map[string]string `yaml:"permissions"`
	Concurrency any               `yaml:"concurrency"`
	Jobs        map[string]job    `yaml:"jobs"`
}

type job struct {
	Permissions map[string]string `yaml:"permissions"`
	Timeout     int               `yaml:"timeout-minutes"`
	Uses        string            `yaml:"uses"`
	Container   any               `yaml:"container"`
	Services    any               `yaml:"services"`
	Steps       []step            `yaml:"steps"`
}

type step struct {
	Uses string         `yaml:"uses"`
	Run  string         `yaml:"run"`
	With map[string]any `yaml:"with"`
}

// inspector judges workflows by what the repository holds.
type inspector struct {
	targets              map[string]bool
	files                fs.FS
	pinned, named, calls *regexp.Regexp
}

func newInspector(root fs.FS) (*inspector, error) {
	text, err := fs.ReadFile(root, "Makefile")
	if err != nil {
		return nil, fmt.Errorf("read Makefile: %w", err)
	}
	targets := make(map[string]bool)
	for _, match := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):(?:[^=]|$)`).FindAllSubmatch(text, -1) {
		targets[string(match[1])] = true
	}
	return &inspector{
		targets: targets, files: root,
		pinned: regexp.MustCompile(`^[a-z0-9-]+/[a-z0-9-]+@[0-9a-f]{40}$`),
		named:  regexp.MustCompile(`(?m)^\s*-? *uses: \S+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$`),
		calls:  regexp.MustCompile(`(?m)(?:^|[;&|]\s*)\s*make((?:[ \t]+[^\s;&|]+)*)`),
	}, nil
}

// judge says what is wrong with one workflow.
func (i *inspector) judge(name string, text []byte) []string {
	var w workflow
	if err := yaml.Unmarshal(text, &w); err != nil {
		return []string{name + ": is no workflow"}
	}
	var problems []string
	say := func(format string, values ...any) {
		problems = append(problems, name+": "+fmt.Sprintf(format, values...))
	}
	if !maps.Equal(w.Permissions, map[string]string{"contents": "read"}) {
		say("the permissions at its top must be contents: read")
	}
	if w.Concurrency == nil {
		say("it has no concurrency group")
	}
	if events, err := yaml.Marshal(&w.On); err != nil || regexp.MustCompile(`pull_request_target|workflow_run`).Match(events) {
		say("it must not start on pull_request_target or workflow_run, which hand its rights to strangers")
	}
	if strings.Contains(string(text), "secrets.") || strings.Contains(string(text), "secrets: inherit") {
		say("it must do without secrets")
	}
	uses := 0
	for _, id := range slices.Sorted(maps.Keys(w.Jobs)) {
		j := w.Jobs[id]
		if j.Timeout == 0 {
			say("%s: it has no timeout-minutes", id)
		}
		for right, level := range j.Permissions {
			if level == "write" {
				say("%s: it may write %s", id, right)
			}
		}
		if j.Uses != "" || j.Container != nil || j.Services != nil {
			say("%s: no workflow, image or service of others", id)
		}
		for _, s := range j.Steps {
			if s.Uses != "" {
				uses++
			}
			problems = append(problems, i.step(name+": "+id, s)...)
		}
	}
	if got := len(i.named.FindAll(text, -1)); got != uses {
		say("%d of %d actions stand in a line with their commit and, as a comment, their version", got, uses)
	}
	return problems
}

// step says what is wrong with one step.
func (i *inspector) step(where string, s step) []string {
	var problems []string
	if s.Uses != "" && !i.pinned.MatchString(s.Uses) {
		problems = append(problems, fmt.Sprintf("%s: %s is not pinned by a commit", where, s.Uses))
	}
	if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != false {
		problems = append(problems, where+": the checkout must not leave its token behind (persist-credentials: false)")
	}
	if strings.Contains(s.Run, "${{") {
		problems = append(problems, where+": no expressions in scripts: hand values in by env")
	}
	for _, call := range i.calls.FindAllStringSubmatch(s.Run, -1) {
		for word := range strings.FieldsSeq(call[1]) {
			if !strings.Contains(word, "=") && !i.targets[word] {
				problems = append(problems, fmt.Sprintf("%s: the Makefile has no target %s", where, word))
			}
		}
	}
	if word, _, _ := strings.Cut(strings.TrimSpace(s.Run), " "); strings.HasPrefix(word, ".") {
		if _, err := fs.Stat(i.files, path.Clean(word)); err != nil {
			problems = append(problems, fmt.Sprintf("%s: there is no %s", where, word))
		}
	}
	return problems
}

// strayWorkflows judges every workflow of the repository.
func strayWorkflows(root fs.FS) (problems []string, count int, err error) {
	i, err := newInspector(root)
	if err != nil {
		return nil, 0, err
	}
	names, err := fs.Glob(root, ".github/workflows/*.y*ml")
	for _, name := range names {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return nil, 0, err
		}
		problems = append(problems, i.judge(name, text)...)
	}
	return problems, len(names), err
}

// unwatched returns the modules whose dependencies nobody updates.
func unwatched(root fs.FS) ([]string, error) {
	text, err := fs.ReadFile(root, ".github/dependabot.yml")
	if err != nil {
		return nil, err
	}
	var config struct {
		Updates []struct {
			Ecosystem   string   `yaml:"package-ecosystem"`
			Directory   string   `yaml:"directory"`
			Directories []string `yaml:"directories"`
		} `yaml:"updates"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("read dependabot.yml: %w", err)
	}
	watched := make(map[string]bool)
	for _, update := range config.Updates {
		for _, directory := range append(update.Directories, update.Directory) {
			watched[update.Ecosystem+" "+directory] = true
		}
	}
	var problems []string
	if !watched["github-actions /"] {
		problems = append(problems, "the actions of the workflows")
	}
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && path.Base(name) == "go.mod" && !entry.IsDir() && !watched["gomod "+path.Join("/", path.Dir(name))] {
			problems = append(problems, name)
		}
		return err
	})
	return problems, err
}

func TestWorkflowsMayDoNothingButRunTheGate(t *testing.T) {
	t.Parallel()
	problems, count, err := strayWorkflows(thisTree(t).root)
	require.NoError(t, err)
	require.Positive(t, count)
	none(t, problems)
}

func TestEveryModuleIsKeptUpToDate(t *testing.T) {
	t.Parallel()
	problems, err := unwatched(thisTree(t).root)
	require.NoError(t, err)
	none(t, problems)
}

// good is a workflow with nothing wrong in it.
const good = `name: ci
on: [push, pull_request]
permissions:
  contents: read
concurrency: ci
jobs:
  gate:
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    steps:
      - uses: actions/checkout@0123456789abcdef0123456789abcdef01234567 # v1.2.3
        with:
          persist-credentials: false
      - run: .ci/run
      - run: |
          make check FUZZTIME=1m
          cd bench && make build
`

func TestWorkflowsThatMayTooMuchAreFound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		from, to, want string
	}{
		"nothing wrong":           {"", "", ""},
		"no permissions":          {"permissions:\n  contents: read\n", "", "the permissions at its top"},
		"all permissions":         {"permissions:\n  contents: read\n", "permissions: write-all\n", "is no workflow"},
		"one permission more":     {"  contents: read\n", "  contents: read\n  id-token: write\n", "the permissions at its top"},
		"a job that may write":    {"    runs-on", "    permissions: {packages: write}\n    runs-on", "gate: it may write packages"},
		"a job that may read":     {"    runs-on", "    permissions: {contents: read}\n    runs-on", ""},
		"no concurrency":          {"concurrency: ci\n", "", "no concurrency group"},
		"no timeout":              {"    timeout-minutes: 10\n", "", "gate: it has no timeout-minutes"},
		"for strangers":           {"pull_request]", "pull_request_target]", "pull_request_target"},
		"for strangers, as map":   {"on: [push, pull_request]", "on:\n  workflow_run:\n    types: [completed]", "workflow_run"},
		"a secret":                {"check FUZZTIME=1m", "check TOKEN=$TOKEN # ${{ secrets.TOKEN }}", "without secrets"},
		"a tag":                   {"@0123456789abcdef0123456789abcdef01234567 # v1.2.3", "@v1", "actions/checkout@v1 is not pinned"},
		"a short commit":          {"89abcdef01234567 #", " #", "is not pinned"},
		"no version beside it":    {" # v1.2.3", "", "0 of 1 actions stand"},
		"a local action":          {"run: .ci/run", "uses: ./action", "./action is not pinned"},
		"an image":                {"    runs-on", "    container: golang:1.26\n    runs-on", "no workflow, image or service"},
		"another's workflow":      {"    runs-on", "    uses: a/b/.github/workflows/c.yml@main\n    runs-on", "no workflow, image or service"},
		"a token left behind":     {"persist-credentials: false", "fetch-depth: 0", "persist-credentials"},
		"a script from a title":   {"run: .ci/run", "run: echo ${{ github.event.pull_request.title }}", "no expressions in scripts"},
		"a target that is not":    {"make build", "make image", "the Makefile has no target image"},
		"one of two targets":      {"make build", "make build image", "no target image"},
		"a variable is no target": {"make build", "make SOAK ", "no target SOAK"},
		"a script that is not":    {".ci/run", ".ci/ran", "there is no .ci/ran"},
		"not YAML":                {"name: ci", "name: [", "is no workflow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, count, err := strayWorkflows(fstest.MapFS{
				"Makefile": {Data: []byte("SOAK ?= 60m\ncheck: build\n\t@go vet\nbuild:\n")}, ".ci/run": {},
				".github/workflows/a.yml": {Data: []byte(strings.Replace(good, test.from, test.to, 1))},
			})
			require.NoError(t, err)
			require.Equal(t, 1, count)
			if test.want == "" {
				none(t, got)
				return
			}
			require.NotEmpty(t, got)
			require.Contains(t, strings.Join(got, "\n"), test.want)
		})
	}
	_, _, err := strayWorkflows(fstest.MapFS{})
	require.ErrorContains(t, err, "Makefile")
}

func TestModulesThatNobodyUpdatesAreFound(t *testing.T) {
	t.Parallel()
	config := "updates:\n- {package-ecosystem: gomod, directories: [/, /bench]}\n- {package-ecosystem: github-actions, directory: /}\n"
	root := fstest.MapFS{"go.mod": {}, "bench/go.mod": {}, ".github/dependabot.yml": {Data: []byte(config)}}
	got, err := unwatched(root)
	require.NoError(t, err)
	require.Empty(t, got)

	root["tools/x/go.mod"] = &fstest.MapFile{}
	root[".github/dependabot.yml"] = &fstest.MapFile{Data: []byte(strings.Replace(config, "github-actions", "docker", 1))}
	got, err = unwatched(root)
	require.NoError(t, err)
	require.Equal(t, []string{"the actions of the workflows", "tools/x/go.mod"}, got)

	root[".github/dependabot.yml"] = &fstest.MapFile{Data: []byte("updates: 1")}
	_, err = unwatched(root)
	require.ErrorContains(t, err, "dependabot.yml")
}
