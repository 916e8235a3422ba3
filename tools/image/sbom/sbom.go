// Package sbom says which modules are linked into the worker, in SPDX and in CycloneDX. It reads that from the built program and from
// nothing else; it never asks the network, and never writes a time or an id that another build of the same image would not write.
package sbom

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anchore/packageurl-go"
	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/pkg/cataloger/golang"
	"github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
)

// Program is the worker as it was built for one platform.
type Program struct {
	// Path is where it lies in the image.
	Path string
	// Body is the program itself.
	Body []byte
}

// Image is what the documents are about.
type Image struct {
	// Name and Version are those of the image; Licence is the SPDX name of the worker's own licence.
	Name, Version, Licence string
	// Digest is that of the image's index, as in sha256:0123.
	Digest string
	// MediaType is that of the index.
	MediaType string
	// Labels are those of the image.
	Labels map[string]string
	// Namespace is an address that the documents' ids begin with.
	Namespace string
	// Created is the time that the documents carry.
	Created time.Time
	// Tool is the version of syft.
	Tool string
	// ModuleCache is the folder with the sources of modules, as `go env GOMODCACHE` says. Licences are read there.
	ModuleCache string
}

// Collect reads the modules that are linked into at least one of the programs, which are one program for several platforms. Each module is
// there once. What holds for a single platform only, such as its architecture, is left out if there are several.
func Collect(ctx context.Context, image Image, programs []Program) (sbom.SBOM, error) {
	packages, err := catalog(ctx, programs)
	if err != nil {
		return sbom.SBOM{}, err
	}
	main := slices.IndexFunc(packages, isMain)
	if main < 0 {
		return sbom.SBOM{}, fmt.Errorf("none of the %d modules is the program's own", len(packages))
	}
	if err := setLicences(ctx, image.ModuleCache, packages); err != nil {
		return sbom.SBOM{}, err
	}
	describe(ctx, &packages[main], image)
	if len(programs) > 1 {
		forAll(packages)
	}
	var relationships []artifact.Relationship
	for i, one := range packages {
		if i != main {
			relationships = append(relationships, artifact.Relationship{From: one, To: packages[main], Type: artifact.DependencyOfRelationship})
		}
	}
	return sbom.SBOM{
		Artifacts:     sbom.Artifacts{Packages: pkg.NewCollection(packages...)},
		Relationships: relationships,
		Source: source.Description{
			ID: image.Digest, Name: image.Name, Version: image.Version, Supplier: "",
			Metadata: source.ImageMetadata{
				ID: image.Digest, UserInput: image.Name, ManifestDigest: image.Digest, MediaType: image.MediaType, OS: "linux", Labels: image.Labels,
			},
		},
		Descriptor: sbom.Descriptor{Name: "syft", Version: image.Tool},
	}, nil
}

// standardLibrary is what syft calls the packages that come with Go.
const standardLibrary = "stdlib"

// catalog has syft look at the programs and returns what it finds, each module once.
func catalog(ctx context.Context, programs []Program) ([]pkg.Package, error) {
	config := golang.DefaultCatalogerConfig().WithSearchRemoteLicenses(false).WithUsePackagesLib(false)
	var packages []pkg.Package
	known := make(map[string]bool)
	for _, program := range programs {
		found, _, err := golang.NewGoModuleBinaryCataloger(config).Catalog(ctx, single{program})
		if err != nil {
			return nil, fmt.Errorf("read the modules of %s: %w", program.Path, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("read the modules of %s: it is no Go program", program.Path)
		}
		for _, one := range found {
			if !known[one.Name] {
				known[one.Name] = true
				packages = append(packages, one)
			}
		}
	}
	slices.SortFunc(packages, func(a, b pkg.Package) int { return strings.Compare(a.Name, b.Name) })
	return packages, nil
}

// isMain tells whether a package is the program's own module.
func isMain(one pkg.Package) bool {
	entry, ok := one.Metadata.(pkg.GolangBinaryBuildinfoEntry)
	return ok && entry.MainModule != "" && entry.MainModule == one.Name
}

// describe says of the program's own module what the Go toolchain does not write into a program that was built in a way that can be repeated.
func describe(ctx context.Context, main *pkg.Package, image Image) {
	main.Version = image.Version
	main.Licenses = pkg.NewLicenseSet(pkg.NewLicenseWithContext(ctx, image.Licence))
	namespace, name := "", main.Name
	if slash := strings.LastIndex(main.Name, "/"); slash > 0 {
		namespace, name = main.Name[:slash], main.Name[slash+1:]
	}
	main.PURL = packageurl.NewPackageURL(packageurl.TypeGolang, namespace, name, image.Version, nil, "").ToString()
	main.SetID()
}

// forAll leaves out of packages what differs between platforms.
func forAll(packages []pkg.Package) {
	for i := range packages {
		if entry, ok := packages[i].Metadata.(pkg.GolangBinaryBuildinfoEntry); ok {
			entry.Architecture, entry.BuildSettings = "", nil
			packages[i].Metadata = entry
			packages[i].SetID()
		}
	}
}
