package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"discountquery.example/worker/tools/image/sbom"
)

// The names that say what a statement is: in-toto's statement v1 (github.com/in-toto/attestation, spec/v1), SLSA's provenance v1
// (slsa.dev/provenance/v1), and how our images are built (docs/image.md).
const (
	statementType   = "https://in-toto.io/Statement/v1"
	provenanceType  = "https://slsa.dev/provenance/v1"
	inTotoMediaType = "application/vnd.in-toto+json"
	buildType       = project + "/docs/image.md#build-type-v1"
	// rootsModule is the module that the certificates in the image come from.
	rootsModule = "golang.org/x/crypto/x509roots/fallback"
)

// statement says that a predicate holds for subjects.
type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     provenance `json:"predicate"`
}

// resource is something with a digest: in-toto's resource descriptor.
type resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// provenance says how something was built. It holds no times of the build itself: they would differ each time.
type provenance struct {
	Definition struct {
		BuildType string         `json:"buildType"`
		External  map[string]any `json:"externalParameters"`
		Internal  map[string]any `json:"internalParameters"`
		Resolved  []resource     `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	Details struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// prove writes the provenance of the image. It is not signed: that is for whoever builds a release.
func prove(s settings, o origin, whole v1.ImageIndex, programs []sbom.Program) ([]byte, error) {
	said := statement{Type: statementType, PredicateType: provenanceType}
	var err error
	if said.Subject, err = subjects(whole); err != nil {
		return nil, err
	}
	names := make([]string, len(s.platforms))
	environments := make(map[string][]string, len(s.platforms))
	for i, platform := range s.platforms {
		names[i] = platform.String()
		environments[names[i]] = buildEnvironment(platform)
	}
	definition := &said.Predicate.Definition
	definition.BuildType = buildType
	definition.External = map[string]any{"source": o.source, "revision": o.revision, "version": o.version, "platforms": names}
	definition.Internal = map[string]any{
		"package": "./cmd/worker", "flags": buildFlags(o.version), "environment": environments, "sourceDateEpoch": o.created.Unix(),
	}
	if definition.Resolved, err = resolved(s.root, o, programs); err != nil {
		return nil, err
	}
	said.Predicate.Details.Builder.ID = s.builder
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(said); err != nil {
		return nil, fmt.Errorf("write the provenance: %w", err)
	}
	return text.Bytes(), nil
}

// subjects returns the image and then the image of each platform, which is what a node names that runs it.
func subjects(whole v1.ImageIndex) ([]resource, error) {
	digest, err := whole.Digest()
	if err != nil {
		return nil, fmt.Errorf("describe the image: %w", err)
	}
	manifest, err := whole.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("describe the image: %w", err)
	}
	all := []resource{{Name: imageName, Digest: digestSet(digest)}}
	for _, one := range manifest.Manifests {
		all = append(all, resource{Name: imageName + " for " + one.Platform.String(), Digest: digestSet(one.Digest)})
	}
	return all, nil
}

func digestSet(hash v1.Hash) map[string]string { return map[string]string{hash.Algorithm: hash.Hex} }

// resolved returns everything that the image was made of: the commit, the files that pin the modules, Go, and each module with its sum.
func resolved(root string, o origin, programs []sbom.Program) ([]resource, error) {
	commit := resource{Name: "source", URI: "git+" + o.source + "@" + o.revision, Digest: map[string]string{"gitCommit": o.revision}}
	if o.modified {
		commit.Annotations = map[string]any{"modified": true}
	}
	all := []resource{commit}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("describe what was built: %w", err)
		}
		sum := sha256.Sum256(content)
		all = append(all, resource{Name: name, Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}})
	}
	modules := make(map[string]resource)
	for _, program := range programs {
		info, err := buildinfo.Read(bytes.NewReader(program.Body))
		if err != nil {
			return nil, fmt.Errorf("read what is linked in: %w", err)
		}
		modules[""] = resource{Name: "go", URI: "pkg:generic/go@" + strings.TrimPrefix(info.GoVersion, "go")}
		for _, module := range info.Deps {
			if modules[module.Path], err = resolvedModule(module); err != nil {
				return nil, err
			}
		}
	}
	roots, err := certificatesModule()
	if err != nil {
		return nil, err
	}
	modules[rootsModule] = roots
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		all = append(all, modules[path])
	}
	return all, nil
}

// resolvedModule describes a module. Its digest is what go.sum calls h1, in hexadecimal: in-toto names that dirHash.
func resolvedModule(module *debug.Module) (resource, error) {
	if module.Replace != nil {
		module = module.Replace
	}
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(module.Sum, "h1:"))
	if err != nil || len(sum) != sha256.Size {
		return resource{}, fmt.Errorf("describe %s: it has no checksum, because it is replaced by a folder", module.Path)
	}
	return resource{
		Name: module.Path, URI: "pkg:golang/" + module.Path + "@" + module.Version, Digest: map[string]string{"dirHash": hex.EncodeToString(sum)},
	}, nil
}

// certificatesModule describes the module that the certificates come from: it is linked into this command and not into the worker.
func certificatesModule() (resource, error) {
	version, err := ownVersion(rootsModule)
	if err != nil {
		return resource{}, err
	}
	lines := bufio.NewScanner(strings.NewReader(ownSums))
	for lines.Scan() {
		if sum, found := strings.CutPrefix(lines.Text(), rootsModule+" "+version+" "); found {
			return resolvedModule(&debug.Module{Path: rootsModule, Version: version, Sum: sum})
		}
	}
	return resource{}, fmt.Errorf("the own go.sum has no %s %s", rootsModule, version)
}

// describeIndex returns the descriptor of the image, for the manifests that attach something to it.
func describeIndex(whole v1.ImageIndex) (v1.Descriptor, error) {
	described, err := partial.Descriptor(whole)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("describe the image: %w", err)
	}
	return v1.Descriptor{MediaType: described.MediaType, Size: described.Size, Digest: described.Digest}, nil
}
