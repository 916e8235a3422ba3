package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// What the image of these tests is told to be.
const (
	root         = "../.."
	testVersion  = "v1.2.3-test"
	testRevision = "0123456789abcdef0123456789abcdef01234567"
	testEpoch    = 1_767_225_600
	testCreated  = "2026-01-01T00:00:00Z"
)

// workspace is a folder that is removed when all tests are over.
var workspace string

// suite runs the tests with a workspace.
type suite struct{ m *testing.M }

func (s suite) Run() int {
	dir, err := os.MkdirTemp("", "image-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	workspace = dir
	code := s.m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	if plan := os.Getenv(jailPlan); plan != "" {
		os.Exit(enterJail(plan))
	}
	goleak.VerifyTestMain(suite{m})
}

// fixture is an image that was built and read back from its folder.
type fixture struct {
	report report
	dir    string
	layout layout.Path
	index  v1.ImageIndex
	images map[string]v1.Image
}

// builtOnce builds the image of this tree for all tests, for it takes a while.
var builtOnce = sync.OnceValues(func() (*fixture, error) { return buildInto(filepath.Join(workspace, "image"), root) })

// theImage returns the image of this tree.
func theImage(t *testing.T) *fixture {
	t.Helper()
	f, err := builtOnce()
	require.NoError(t, err)
	return f
}

// noVariables is an environment with the time of these tests and nothing else.
func noVariables(name string) string {
	if name == "SOURCE_DATE_EPOCH" {
		return strconv.Itoa(testEpoch)
	}
	return ""
}

// buildInto builds the image of the tree at from, without git, and reads it back.
func buildInto(out, from string) (*fixture, error) {
	var told bytes.Buffer
	args := []string{"-C", from, "-o", out, "-version", testVersion, "-revision", testRevision, "-json"}
	if err := run(context.Background(), args, noVariables, &told); err != nil {
		return nil, err
	}
	f := &fixture{dir: out, images: make(map[string]v1.Image)}
	if err := json.Unmarshal(told.Bytes(), &f.report); err != nil {
		return nil, err
	}
	return f, f.read()
}

// read opens the layout, finds the image by its version, and the image of each platform in it.
func (f *fixture) read() error {
	var err error
	if f.layout, err = layout.FromPath(f.dir); err != nil {
		return err
	}
	entry, err := f.entry()
	if err != nil {
		return err
	}
	top, err := f.layout.ImageIndex()
	if err != nil {
		return err
	}
	if f.index, err = top.ImageIndex(entry.Digest); err != nil {
		return err
	}
	manifest, err := f.index.IndexManifest()
	if err != nil {
		return err
	}
	for _, one := range manifest.Manifests {
		if f.images[one.Platform.String()], err = f.index.Image(one.Digest); err != nil {
			return err
		}
	}
	return nil
}

// entries returns what the layout lists.
func (f *fixture) entries() ([]v1.Descriptor, error) {
	top, err := f.layout.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		return nil, err
	}
	return manifest.Manifests, nil
}

// entry returns what the layout lists under the image's version.
func (f *fixture) entry() (v1.Descriptor, error) {
	entries, err := f.entries()
	for _, one := range entries {
		if one.Annotations["org.opencontainers.image.ref.name"] == testVersion {
			return one, nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("the layout has no %s: %w", testVersion, err)
}

// bytes returns a blob.
func (f *fixture) bytes(t *testing.T, digest v1.Hash) []byte {
	t.Helper()
	content, err := f.layout.Bytes(digest)
	require.NoError(t, err)
	return content
}
