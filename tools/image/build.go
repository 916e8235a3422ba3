package main

import (
	"context"
	_ "embed"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"golang.org/x/mod/modfile"

	"discountquery.example/worker/tools/image/base"
	"discountquery.example/worker/tools/image/sbom"
)

// The modules that this command was built with, for the documents that name its parts.
var (
	//go:embed go.mod
	ownModules string
	//go:embed go.sum
	ownSums string
)

// build makes the image and its documents and writes them.
func build(ctx context.Context, s settings) (*report, error) {
	o, err := readOrigin(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := mayReplace(s.out); err != nil {
		return nil, err
	}
	tools, err := readToolchain(ctx, s.root)
	if err != nil {
		return nil, err
	}
	shared, err := sharedLayer(o, tools.GOROOT)
	if err != nil {
		return nil, err
	}
	var images []v1.Image
	var programs []sbom.Program
	for _, platform := range s.platforms {
		program, err := compile(ctx, s.root, o.version, platform)
		if err != nil {
			return nil, err
		}
		one, err := platformImage(o, platform, shared, program)
		if err != nil {
			return nil, err
		}
		images, programs = append(images, one), append(programs, sbom.Program{Path: "/" + programPath, Body: program})
	}
	whole := index(o, s.platforms, images)
	documents, err := document(ctx, s, o, tools, whole, programs)
	if err != nil {
		return nil, err
	}
	if err := writeAll(s.out, o, whole, documents); err != nil {
		return nil, err
	}
	return newReport(s, o, whole, images, documents)
}

// sharedLayer makes the layer that is the same on all platforms.
func sharedLayer(o origin, goroot string) (v1.Layer, error) {
	zones, err := base.ReadZones(goroot)
	if err != nil {
		return nil, err
	}
	files, err := base.Files(zones)
	if err != nil {
		return nil, err
	}
	return layer(files, o.created)
}

// attached is a document about the image.
type attached struct {
	// suffix is what its file's name ends with.
	suffix string
	// mediaType is that of its content, artifactType that of the manifest which attaches it.
	mediaType, artifactType string
	annotations             map[string]string
	body                    []byte
}

// document writes all documents about the image.
func document(ctx context.Context, s settings, o origin, tools toolchain, whole v1.ImageIndex, programs []sbom.Program) ([]attached, error) {
	subject, err := partial.Descriptor(whole)
	if err != nil {
		return nil, fmt.Errorf("describe the image: %w", err)
	}
	syft, err := ownVersion("github.com/anchore/syft")
	if err != nil {
		return nil, err
	}
	image := sbom.Image{
		Name: imageName, Version: o.version, Licence: licence, Digest: subject.Digest.String(), MediaType: string(subject.MediaType),
		Labels: labels(o), Namespace: project + "/sbom", Created: o.created, Tool: syft, ModuleCache: tools.GOMODCACHE,
	}
	collected, err := sbom.Collect(ctx, image, programs)
	if err != nil {
		return nil, err
	}
	spdx, err := sbom.SPDX(image, collected)
	if err != nil {
		return nil, err
	}
	cyclone, err := sbom.CycloneDX(image, collected)
	if err != nil {
		return nil, err
	}
	provenance, err := prove(s, o, whole, programs)
	if err != nil {
		return nil, err
	}
	return []attached{
		{suffix: ".spdx.json", mediaType: sbom.SPDXMediaType, artifactType: sbom.SPDXMediaType, body: spdx},
		{suffix: ".cdx.json", mediaType: sbom.CycloneDXMediaType, artifactType: sbom.CycloneDXMediaType, body: cyclone},
		{
			suffix: ".provenance.json", mediaType: inTotoMediaType, artifactType: inTotoMediaType,
			annotations: map[string]string{"in-toto.io/predicate-type": provenanceType}, body: provenance,
		},
	}, nil
}

// ownVersion returns the version of a module that this command was built with.
func ownVersion(path string) (string, error) {
	parsed, err := modfile.Parse("go.mod", []byte(ownModules), nil)
	if err != nil {
		return "", fmt.Errorf("read the own go.mod: %w", err)
	}
	for _, required := range parsed.Require {
		if required.Mod.Path == path {
			return required.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("the own go.mod has no %s", path)
}
