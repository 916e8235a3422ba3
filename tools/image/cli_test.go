package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/tools/image/base"
)

func TestHelpHasExamples(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.ErrorIs(t, run(t.Context(), []string{"--help"}, noVariables, &out), flag.ErrHelp)
	for _, part := range []string{"image -C ../..", "-json", "SOURCE_DATE_EPOCH", "-platforms", "bin/image.spdx.json"} {
		require.Contains(t, out.String(), part)
	}
}

func TestBadArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "image")
	told := []string{"-C", root, "-o", out, "-version", testVersion, "-revision", testRevision}
	for name, test := range map[string]struct {
		args  []string
		epoch string
		want  string
	}{
		"an unknown flag":       {args: []string{"-push"}, want: "push"},
		"an argument":           {args: []string{"push"}, want: "flags only"},
		"no such platform":      {args: []string{"-platforms", "windows/amd64"}, want: "-platforms"},
		"no processor":          {args: []string{"-platforms", "linux"}, want: "-platforms"},
		"a platform twice":      {args: []string{"-platforms", "linux/amd64,linux/amd64"}, want: "-platforms"},
		"a variant":             {args: []string{"-platforms", "linux/arm/v7"}, want: "-platforms"},
		"too many slashes":      {args: []string{"-platforms", "linux/arm/v7/x"}, want: "-platforms"},
		"a version with a flag": {args: []string{"-version", "v1 -X main.other=x"}, want: "tag of an image"},
		"a short revision":      {args: []string{"-revision", "0123456"}, want: "40 digits"},
		"a time in words":       {epoch: "yesterday", want: "SOURCE_DATE_EPOCH"},
		"a time before 1970":    {epoch: "-1", want: "SOURCE_DATE_EPOCH"},
		"no worker there":       {args: []string{"-C", t.TempDir()}, want: "go build for linux/amd64"},
		"no such folder":        {args: []string{"-C", filepath.Join(out, "none")}, want: "go env"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			variables := func(name string) string {
				if name == "SOURCE_DATE_EPOCH" && test.epoch != "" {
					return test.epoch
				}
				return noVariables(name)
			}
			var told2 bytes.Buffer
			require.ErrorContains(t, run(t.Context(), append(append([]string{}, told...), test.args...), variables, &told2), test.want)
			require.NoDirExists(t, out)
		})
	}
}

// repository makes a repository with one commit and returns its folder.
func repository(t *testing.T, tag string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o600))
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"add", "a"},
		{"config", "user.name", "Nobody"},
		{"config", "user.email", "nobody@example.org"},
		{"config", "commit.gpgsign", "false"},
		{"commit", "--quiet", "--message", "One", "--date", "2026-03-04T05:06:07Z"},
		{"tag", tag},
	} {
		command := exec.CommandContext(t.Context(), "git", args...)
		command.Dir = dir
		command.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2026-03-04T05:06:07Z", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		printed, err := command.CombinedOutput()
		require.NoError(t, err, string(printed))
	}
	return dir
}

func TestGitSaysWhatIsBuilt(t *testing.T) {
	t.Parallel()
	dir := repository(t, "v3.2.1")
	clean, err := readOrigin(t.Context(), settings{root: dir, source: project})
	require.NoError(t, err)
	require.Equal(t, "v3.2.1", clean.version)
	require.Regexp(t, revisionForm, clean.revision)
	require.False(t, clean.modified)
	require.Equal(t, "2026-03-04T05:06:07Z", clean.created.Format(time.RFC3339))

	epoch, err := readOrigin(t.Context(), settings{root: dir, source: project, epoch: "86400", version: "v9"})
	require.NoError(t, err)
	require.Equal(t, "1970-01-02T00:00:00Z", epoch.created.Format(time.RFC3339))
	require.Equal(t, "v9", epoch.version)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("b"), 0o600))
	changed, err := readOrigin(t.Context(), settings{root: dir, source: project})
	require.NoError(t, err)
	require.True(t, changed.modified)
	require.Equal(t, "v3.2.1-dirty", changed.version)
}

func TestWithoutGitItSaysWhatToSet(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	for _, test := range []struct {
		settings settings
		want     string
	}{
		{settings{}, "set -version"},
		{settings{version: "v1"}, "set -revision"},
		{settings{version: "v1", revision: testRevision}, "set SOURCE_DATE_EPOCH"},
	} {
		test.settings.root = outside
		_, err := readOrigin(t.Context(), test.settings)
		require.ErrorContains(t, err, test.want)
	}
}

func TestTextForPeople(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := *theImage(t).report.relocated("bin/image")
	require.NoError(t, r.writeText(&out))
	for _, part := range []string{
		"discount-worker v1.2.3-test", r.Digest, "linux/arm64", "MB to send", "bin/image.cdx.json",
		"oras cp --recursive --from-oci-layout bin/image:v1.2.3-test ", "skopeo copy --all --preserve-digests oci:bin/image:v1.2.3-test docker://",
	} {
		require.Contains(t, out.String(), part)
	}
	require.NotContains(t, out.String(), "Don't release")
	r.Modified = true
	require.NoError(t, r.writeText(&out))
	require.Contains(t, out.String(), "Don't release")
}

// relocated returns a report as it is for another folder.
func (r *report) relocated(dir string) *report {
	moved := *r
	moved.Layout, moved.Documents = dir, nil
	for _, name := range r.Documents {
		moved.Documents = append(moved.Documents, dir+strings.TrimPrefix(name, r.Layout))
	}
	return &moved
}

// smallImage makes an image of a program that is none.
func smallImage(t *testing.T, o origin) v1.ImageIndex {
	t.Helper()
	shared, err := layer([]base.File{{Path: "etc", Mode: os.ModeDir | base.DirMode}}, o.created)
	require.NoError(t, err)
	platform := v1.Platform{OS: "linux", Architecture: "amd64"}
	one, err := platformImage(o, platform, shared, []byte("program"))
	require.NoError(t, err)
	return index(o, []v1.Platform{platform}, []v1.Image{one})
}

func TestAnImageLayoutIsReplacedAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "deep", "image")
	require.NoError(t, mayReplace(out), "there is nothing yet")
	documents := []attached{{suffix: ".a.json", mediaType: "application/a", artifactType: "application/a", body: []byte("one")}}
	require.NoError(t, writeAll(out, testOrigin(), smallImage(t, testOrigin()), documents))
	before := contents(t, out)
	require.NoError(t, mayReplace(out))

	changed := testOrigin()
	changed.version = "v2"
	documents[0].body = []byte("two")
	require.NoError(t, writeAll(out, changed, smallImage(t, changed), documents))
	require.NotEqual(t, before, contents(t, out))
	written, err := os.ReadFile(out + ".a.json")
	require.NoError(t, err)
	require.Equal(t, "two", string(written))
	left, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	require.Len(t, left, 2, "nothing is left over")

	require.ErrorContains(t, mayReplace(dir), "no image layout")
	require.ErrorContains(t, mayReplace(out+".a.json"), "no image layout")
	args := []string{"-C", root, "-o", dir, "-version", "v1", "-revision", testRevision}
	require.ErrorContains(t, run(t.Context(), args, noVariables, &bytes.Buffer{}), "left as it is")
}

func TestAFailureLeavesTheImageAsItWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "image")
	require.NoError(t, writeAll(out, testOrigin(), smallImage(t, testOrigin()), nil))
	before := contents(t, out)
	require.ErrorContains(t, replace(filepath.Join(dir, "never made"), out, filepath.Join(dir, "aside")), "replace the image")
	require.Equal(t, before, contents(t, out))
	require.ErrorContains(t, writeAll(out, testOrigin(), brokenIndex{smallImage(t, testOrigin())}, nil), "write the image")
	require.Equal(t, before, contents(t, out))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing is left over")
	_, err = layout.FromPath(out)
	require.NoError(t, err)
}

type anyIndex = v1.ImageIndex

// brokenIndex is an index that can't be written.
type brokenIndex struct{ anyIndex }

func (brokenIndex) RawManifest() ([]byte, error) { return nil, os.ErrInvalid }

func TestAnInterruptEndsTheBuild(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := filepath.Join(t.TempDir(), "image")
	_, err := build(ctx, settings{root: root, out: out, version: "v1", revision: testRevision, epoch: "0", source: project})
	require.ErrorIs(t, err, context.Canceled)
	require.NoDirExists(t, out)
}
