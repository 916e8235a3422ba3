package sbom

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/pkg"
	"github.com/stretchr/testify/require"
)

// program builds a program without dependencies for a processor, as the worker is built.
func program(t *testing.T, arch string) Program {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.org/tools/program\n\ngo 1.26.0\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600))
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", "program", ".")
	command.Dir = dir
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOWORK=off")
	printed, err := command.CombinedOutput()
	require.NoError(t, err, string(printed))
	body, err := os.ReadFile(filepath.Join(dir, "program"))
	require.NoError(t, err)
	return Program{Path: "/program", Body: body}
}

func image(t *testing.T) Image {
	t.Helper()
	return Image{
		Name: "an-image", Version: "v1.2.3+meta", Licence: "ISC", Digest: "sha256:" + strings.Repeat("ab", 32),
		MediaType: "application/vnd.oci.image.index.v1+json", Labels: map[string]string{"a": "b"},
		Namespace: "https://example.org/sbom", Created: time.Unix(86400, 0), Tool: "v0.0.0", ModuleCache: t.TempDir(),
	}
}

func TestTheProgramItselfIsDescribed(t *testing.T) {
	t.Parallel()
	collected, err := Collect(t.Context(), image(t), []Program{program(t, "amd64")})
	require.NoError(t, err)
	packages := collected.Artifacts.Packages.Sorted()
	require.Len(t, packages, 2)
	own := packages[0]
	require.Equal(t, "example.org/tools/program", own.Name)
	require.Equal(t, "v1.2.3+meta", own.Version)
	require.Equal(t, "pkg:golang/example.org/tools/program@v1.2.3%2Bmeta", own.PURL)
	require.Equal(t, "ISC", own.Licenses.ToSlice()[0].SPDXExpression)
	require.Equal(t, "/program", own.Locations.ToSlice()[0].RealPath)
	require.Equal(t, "stdlib", packages[1].Name)
	entry, ok := own.Metadata.(pkg.GolangBinaryBuildinfoEntry)
	require.True(t, ok)
	require.Equal(t, "amd64", entry.Architecture)
	require.Len(t, collected.Relationships, 1)
	require.Equal(t, packages[1].ID(), collected.Relationships[0].From.ID())
	require.Equal(t, own.ID(), collected.Relationships[0].To.ID())
}

func TestSeveralPlatformsAreOneList(t *testing.T) {
	t.Parallel()
	amd64, arm64 := program(t, "amd64"), program(t, "arm64")
	both, err := Collect(t.Context(), image(t), []Program{amd64, arm64})
	require.NoError(t, err)
	require.Equal(t, 2, both.Artifacts.Packages.PackageCount(), "each module once")
	for one := range both.Artifacts.Packages.Enumerate() {
		entry, ok := one.Metadata.(pkg.GolangBinaryBuildinfoEntry)
		require.True(t, ok)
		require.Empty(t, entry.Architecture, one.Name)
		require.Empty(t, entry.BuildSettings, one.Name)
	}
	turned, err := Collect(t.Context(), image(t), []Program{arm64, amd64})
	require.NoError(t, err)
	require.Equal(t, ids(both.Artifacts.Packages.Sorted()), ids(turned.Artifacts.Packages.Sorted()))
}

// ids names packages by their ids, which hash everything that is said of them.
func ids(packages []pkg.Package) (all []string) {
	for _, one := range packages {
		all = append(all, string(one.ID()))
	}
	return all
}

func TestDocumentsAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	built := program(t, "amd64")
	about := image(t)
	write := func(about Image) (string, string) {
		collected, err := Collect(t.Context(), about, []Program{built})
		require.NoError(t, err)
		spdx, err := SPDX(about, collected)
		require.NoError(t, err)
		cyclone, err := CycloneDX(about, collected)
		require.NoError(t, err)
		return string(spdx), string(cyclone)
	}
	spdx, cyclone := write(about)
	for range 3 {
		again, cycloneAgain := write(about)
		require.Equal(t, spdx, again)
		require.Equal(t, cyclone, cycloneAgain)
	}
	require.Contains(t, spdx, `"created": "1970-01-02T00:00:00Z"`)
	require.Contains(t, cyclone, `"timestamp": "1970-01-02T00:00:00Z"`)
	for _, text := range []string{spdx, cyclone} {
		require.NotContains(t, text, about.ModuleCache)
	}

	other := about
	other.Digest = "sha256:" + strings.Repeat("cd", 32)
	spdxOfOther, cycloneOfOther := write(other)
	require.NotEqual(t, namespace(t, spdx), namespace(t, spdxOfOther), "another image, another document")
	require.NotEqual(t, cyclone, cycloneOfOther)
}

// namespace returns the line with the id of an SPDX document.
func namespace(t *testing.T, text string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.Contains(line, "documentNamespace") {
			return line
		}
	}
	t.Fatal("no namespace")
	return ""
}

func TestWhatIsNoProgramIsRefused(t *testing.T) {
	t.Parallel()
	for name, body := range map[string][]byte{"nothing": nil, "a text": []byte("worker")} {
		_, err := Collect(t.Context(), image(t), []Program{{Path: "/program", Body: body}})
		require.ErrorContains(t, err, "/program", name)
	}
	_, err := Collect(t.Context(), image(t), nil)
	require.ErrorContains(t, err, "none of the 0 modules")
}

func TestLicencesAreThoseOfTheSources(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(cache, "example.org", "!upper@v1.0.0", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("README.md", "MIT")
	none, err := licences(cache, "example.org/Upper", "v1.0.0")
	require.NoError(t, err)
	require.Empty(t, none, "a text that only names a licence is none")
	own, err := os.ReadFile("../../../LICENSE")
	require.NoError(t, err)
	write("LICENSE", string(own))
	write("COPYING.other", "All rights reserved. Ask us first.")
	write("license.go", "package upper")
	write("deep/LICENSE", "All rights reserved.")
	found, err := licences(cache, "example.org/Upper", "v1.0.0")
	require.NoError(t, err)
	require.Equal(t, []string{"Apache-2.0"}, found)
	for _, wrong := range [][2]string{{"example.org/none", "v1.0.0"}, {"../etc", "v1.0.0"}, {"example.org/Upper", "../v"}} {
		_, err := licences(cache, wrong[0], wrong[1])
		require.Error(t, err, wrong)
	}
}

func TestSyftSeesTheProgramAndNothingElse(t *testing.T) {
	t.Parallel()
	s := single{Program{Path: "/program", Body: []byte("body")}}
	require.True(t, s.HasPath("/program"))
	require.False(t, s.HasPath("/etc/passwd"))
	found, err := s.FilesByPath("/etc/os-release", "/program")
	require.NoError(t, err)
	require.Len(t, found, 1)
	for _, none := range []func() ([]file.Location, error){
		func() ([]file.Location, error) { return s.FilesByPath("/etc/passwd") },
		func() ([]file.Location, error) { return s.FilesByGlob("**/*") },
	} {
		found, err := none()
		require.NoError(t, err)
		require.Empty(t, found)
	}
	require.Nil(t, s.RelativeFileByPath(found[0], "/etc/passwd"))
	content, err := s.FileContentsByLocation(found[0])
	require.NoError(t, err)
	body, err := io.ReadAll(content)
	require.NoError(t, err)
	require.NoError(t, content.Close())
	require.Equal(t, "body", string(body))
	count := 0
	for location := range s.AllLocations(context.Background()) {
		require.Equal(t, "/program", location.RealPath)
		count++
	}
	require.Equal(t, 1, count)
	metadata, err := s.FileMetadataByLocation(found[0])
	require.NoError(t, err)
	require.Equal(t, "/program", metadata.Path)
}
