package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
)

// kinds are the documents that are attached, with the ending of the file beside the layout.
func kinds() map[string]string {
	return map[string]string{
		"application/spdx+json": ".spdx.json", "application/vnd.cyclonedx+json": ".cdx.json", "application/vnd.in-toto+json": ".provenance.json",
	}
}

// attached returns a document as a client finds it that knows nothing but the image's digest: a manifest whose subject is the image.
func (f *fixture) attached(t *testing.T, artifactType string) []byte {
	t.Helper()
	image, err := f.entry()
	require.NoError(t, err)
	entries, err := f.entries()
	require.NoError(t, err)
	var found [][]byte
	for _, one := range entries {
		if one.MediaType != types.OCIManifestSchema1 {
			continue
		}
		var manifest v1.Manifest
		require.NoError(t, json.Unmarshal(f.bytes(t, one.Digest), &manifest))
		require.NotNil(t, manifest.Subject, "nothing lies in the layout that is not about the image")
		require.Equal(t, v1.Descriptor{MediaType: types.OCIImageIndex, Size: image.Size, Digest: image.Digest}, *manifest.Subject)
		require.Equal(t, types.OCIManifestSchema1, manifest.MediaType)
		require.Equal(t, types.OCIEmptyJSON, manifest.Config.MediaType)
		require.Equal(t, "{}", string(f.bytes(t, manifest.Config.Digest)))
		require.Equal(t, one.ArtifactType, manifest.ArtifactType)
		require.Equal(t, testCreated, manifest.Annotations["org.opencontainers.image.created"])
		require.Len(t, manifest.Layers, 1)
		if manifest.ArtifactType == artifactType {
			require.Equal(t, artifactType, string(manifest.Layers[0].MediaType))
			found = append(found, f.bytes(t, manifest.Layers[0].Digest))
		}
	}
	require.Len(t, found, 1, artifactType)
	return found[0]
}

func TestDocumentsAreAttachedAndBesideTheImage(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	entries, err := f.entries()
	require.NoError(t, err)
	require.Len(t, entries, 1+len(kinds()))
	for artifactType, suffix := range kinds() {
		beside, err := os.ReadFile(f.dir + suffix)
		require.NoError(t, err)
		require.Equal(t, string(beside), string(f.attached(t, artifactType)), suffix)
		require.Contains(t, f.report.Documents, f.dir+suffix)
		require.NotContains(t, string(beside), filepath.Dir(workspace)+string(filepath.Separator), "no path of a machine")
	}
	require.Contains(t, string(f.attached(t, "application/vnd.in-toto+json")), provenanceType)
}

// linkedModules returns the modules in the programs of all platforms, as the Go toolchain wrote them there.
func (f *fixture) linkedModules(t *testing.T) map[string]*debug.Module {
	t.Helper()
	modules := make(map[string]*debug.Module)
	for platform := range f.images {
		info, err := buildinfo.Read(bytes.NewReader(f.unpacked(t, platform)[programPath].body))
		require.NoError(t, err)
		for _, module := range info.Deps {
			require.Nil(t, module.Replace)
			modules[module.Path] = module
		}
	}
	require.Greater(t, len(modules), 30)
	return modules
}

func (f *fixture) provenance(t *testing.T) statement {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(f.attached(t, inTotoMediaType)))
	decoder.DisallowUnknownFields()
	var said statement
	require.NoError(t, decoder.Decode(&said))
	return said
}

func TestProvenanceIsAboutTheImage(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	said := f.provenance(t)
	require.Equal(t, "https://in-toto.io/Statement/v1", said.Type)
	require.Equal(t, "https://slsa.dev/provenance/v1", said.PredicateType)
	var digests []string
	for _, subject := range said.Subject {
		require.NotEmpty(t, subject.Name)
		digests = append(digests, "sha256:"+subject.Digest["sha256"])
	}
	require.Equal(t, []string{f.report.Digest, f.report.Platforms[0].Digest, f.report.Platforms[1].Digest}, digests)

	definition := said.Predicate.Definition
	require.Equal(t, buildType, definition.BuildType)
	require.Equal(t, map[string]any{
		"source": project, "revision": testRevision, "version": testVersion, "platforms": []any{"linux/amd64", "linux/arm64"},
	}, definition.External)
	require.Equal(t, []any{"-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.version=" + testVersion}, definition.Internal["flags"])
	require.InDelta(t, testEpoch, definition.Internal["sourceDateEpoch"], 0)
	require.Contains(t, definition.Internal["environment"], "linux/arm64")
	require.Equal(t, project+"/tools/image/local", said.Predicate.Details.Builder.ID)

	document, err := os.ReadFile(filepath.Join(root, "docs", "image.md"))
	require.NoError(t, err)
	_, heading, found := strings.Cut(buildType, "docs/image.md#")
	require.True(t, found)
	heading = strings.ReplaceAll(strings.ToUpper(heading[:1])+heading[1:], "-", " ")
	require.Contains(t, string(document), "\n## "+heading+"\n", "the build type is explained")
}

func TestProvenanceNamesEverythingThatWentIn(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	byName := make(map[string]resource)
	for _, one := range f.provenance(t).Predicate.Definition.Resolved {
		require.NotContains(t, byName, one.Name, "each once")
		require.NotContains(t, one.Annotations, "modified", "the commit was named, so nobody looked")
		byName[one.Name] = one
	}
	require.Equal(t, map[string]string{"gitCommit": testRevision}, byName["source"].Digest)
	require.Equal(t, "git+"+project+"@"+testRevision, byName["source"].URI)
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		sum := sha256.Sum256(content)
		require.Equal(t, hex.EncodeToString(sum[:]), byName[name].Digest["sha256"])
	}
	tools, err := readToolchain(t.Context(), root)
	require.NoError(t, err)
	require.Equal(t, "pkg:generic/go@"+strings.TrimPrefix(tools.GOVERSION, "go"), byName["go"].URI)

	modules := f.linkedModules(t)
	for path, module := range modules {
		sum, err := hex.DecodeString(byName[path].Digest["dirHash"])
		require.NoError(t, err)
		require.Equal(t, module.Sum, "h1:"+base64.StdEncoding.EncodeToString(sum), path)
		require.Equal(t, "pkg:golang/"+path+"@"+module.Version, byName[path].URI)
	}
	require.Len(t, byName[rootsModule].Digest["dirHash"], 64)
	require.Len(t, byName, len(modules)+len([]string{"source", "go.mod", "go.sum", "go", rootsModule}))
}

func TestProvenanceSaysThatFilesWereChanged(t *testing.T) {
	t.Parallel()
	o := testOrigin()
	o.modified = true
	all, err := resolved(root, o, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"modified": true}, all[0].Annotations)
	_, err = resolved(t.TempDir(), o, nil)
	require.ErrorContains(t, err, "go.mod")
}

func TestModulesWithoutAChecksumAreRefused(t *testing.T) {
	t.Parallel()
	for name, module := range map[string]*debug.Module{
		"replaced by a folder": {Path: "example.org/a", Version: "v1.0.0", Sum: "h1:x", Replace: &debug.Module{Path: "../a"}},
		"too short":            {Path: "example.org/a", Version: "v1.0.0", Sum: "h1:AAAA"},
		"no base64":            {Path: "example.org/a", Version: "v1.0.0", Sum: "h1:!"},
	} {
		_, err := resolvedModule(module)
		require.ErrorContains(t, err, "has no checksum", name)
	}
	sum := "h1:" + base64.StdEncoding.EncodeToString(make([]byte, sha256.Size))
	got, err := resolvedModule(&debug.Module{Path: "a", Version: "v1", Replace: &debug.Module{Path: "example.org/b", Version: "v2.0.0", Sum: sum}})
	require.NoError(t, err)
	require.Equal(t, resource{
		Name: "example.org/b", URI: "pkg:golang/example.org/b@v2.0.0", Digest: map[string]string{"dirHash": strings.Repeat("0", 64)},
	}, got)
}

// named is one module as a document has it.
type named struct {
	version  string
	licences []string
}

// inSPDX returns the packages of the document that have a purl for Go, by path, and fails if one is there twice.
func inSPDX(t *testing.T, text []byte) map[string]named {
	t.Helper()
	var document struct {
		Packages []struct {
			Name      string `json:"name"`
			Version   string `json:"versionInfo"`
			Declared  string `json:"licenseDeclared"`
			Concluded string `json:"licenseConcluded"`
			External  []struct {
				Kind    string `json:"referenceType"`
				Locator string `json:"referenceLocator"`
			} `json:"externalRefs"`
		} `json:"packages"`
	}
	require.NoError(t, json.Unmarshal(text, &document))
	found := make(map[string]named)
	images := 0
	for _, one := range document.Packages {
		purls := 0
		for _, reference := range one.External {
			if reference.Kind != "purl" {
				continue
			}
			purls++
			if strings.HasPrefix(reference.Locator, "pkg:oci/") {
				require.NotContains(t, reference.Locator, "?")
				images++
				continue
			}
			require.NotContains(t, found, one.Name, "each module once")
			require.Equal(t, purlOf(one.Name, one.Version), reference.Locator)
			found[one.Name] = named{version: one.Version, licences: asserted(one.Declared, one.Concluded)}
		}
		require.Equal(t, 1, purls, one.Name)
	}
	require.Equal(t, 1, images, "and the image itself")
	return found
}

// asserted returns the licences that are named, be it several in one expression.
func asserted(all ...string) (names []string) {
	for _, expression := range all {
		for name := range strings.SplitSeq(strings.Trim(expression, "()"), " AND ") {
			if name != "" && name != "NOASSERTION" && name != "NONE" {
				names = append(names, name)
			}
		}
	}
	return names
}

// inCycloneDX is inSPDX for the other document.
func inCycloneDX(t *testing.T, text []byte) map[string]named {
	t.Helper()
	var document struct {
		Components []struct {
			Name     string `json:"name"`
			Version  string `json:"version"`
			Purl     string `json:"purl"`
			Licenses []struct {
				Expression string `json:"expression"`
				License    struct {
					ID   string `json:"id"`
					Name string `json:"name"`
				} `json:"license"`
			} `json:"licenses"`
		} `json:"components"`
	}
	require.NoError(t, json.Unmarshal(text, &document))
	found := make(map[string]named)
	for _, one := range document.Components {
		require.NotContains(t, found, one.Name, "each module once")
		require.Equal(t, purlOf(one.Name, one.Version), one.Purl)
		module := named{version: one.Version}
		for _, licence := range one.Licenses {
			module.licences = append(module.licences, asserted(licence.Expression, licence.License.ID, licence.License.Name)...)
		}
		found[one.Name] = module
	}
	return found
}

// purlOf returns the package URL of a module. Those of the standard library have no "go" before their version.
func purlOf(path, version string) string {
	if path == "stdlib" {
		version = strings.TrimPrefix(version, "go")
	}
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}

func TestListsHoldWhatIsLinkedInAndNothingElse(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	tools, err := readToolchain(t.Context(), root)
	require.NoError(t, err)
	want := map[string]string{"stdlib": tools.GOVERSION, "discountquery.example/worker": testVersion}
	for path, module := range f.linkedModules(t) {
		want[path] = module.Version
	}
	for name, found := range map[string]map[string]named{
		"SPDX":      inSPDX(t, f.attached(t, "application/spdx+json")),
		"CycloneDX": inCycloneDX(t, f.attached(t, "application/vnd.cyclonedx+json")),
	} {
		got := make(map[string]string)
		for path, module := range found {
			got[path] = module.version
			require.NotEmpty(t, module.licences, "%s: %s has no licence", name, path)
			require.Subset(t, []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}, module.licences, "%s: %s", name, path)
		}
		require.Equal(t, want, got, name)
		require.Contains(t, found["discountquery.example/worker"].licences, "Apache-2.0", name)
	}
}

func TestListsSayOnlyWhatAnotherBuildWouldSay(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	var spdx struct {
		Version   string `json:"spdxVersion"`
		Namespace string `json:"documentNamespace"`
		Creation  struct {
			Created  string   `json:"created"`
			Creators []string `json:"creators"`
		} `json:"creationInfo"`
	}
	require.NoError(t, json.Unmarshal(f.attached(t, "application/spdx+json"), &spdx))
	require.Equal(t, "SPDX-2.3", spdx.Version)
	require.Equal(t, testCreated, spdx.Creation.Created)
	syft, err := ownVersion("github.com/anchore/syft")
	require.NoError(t, err)
	require.Contains(t, spdx.Creation.Creators, "Tool: syft-"+syft)

	var cyclone struct {
		Version  string `json:"specVersion"`
		Serial   string `json:"serialNumber"`
		Metadata struct {
			Timestamp string `json:"timestamp"`
			Component struct {
				Type string `json:"type"`
				Name string `json:"name"`
			} `json:"component"`
		} `json:"metadata"`
	}
	require.NoError(t, json.Unmarshal(f.attached(t, "application/vnd.cyclonedx+json"), &cyclone))
	require.Equal(t, "1.6", cyclone.Version)
	require.Equal(t, testCreated, cyclone.Metadata.Timestamp)
	require.Equal(t, "container", cyclone.Metadata.Component.Type)
	require.Equal(t, imageName, cyclone.Metadata.Component.Name)
	id, found := strings.CutPrefix(cyclone.Serial, "urn:uuid:")
	require.True(t, found)
	require.Equal(t, project+"/sbom/spdx/"+id, spdx.Namespace)
}

func TestBothListsAgree(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	spdx := inSPDX(t, f.attached(t, "application/spdx+json"))
	cyclone := inCycloneDX(t, f.attached(t, "application/vnd.cyclonedx+json"))
	require.Equal(t, slices.Sorted(maps.Keys(spdx)), slices.Sorted(maps.Keys(cyclone)))
}
