package main

import (
	"bytes"
	"testing"

	"github.com/anchore/syft/syft/format/cyclonedxjson"
	"github.com/anchore/syft/syft/format/spdxjson"
	"github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/sbom"
	"github.com/stretchr/testify/require"
)

func TestSyftReadsTheListsBack(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	want := f.linkedModules(t)
	for artifactType, decoder := range map[string]sbom.FormatDecoder{
		"application/spdx+json": spdxjson.NewFormatDecoder(), "application/vnd.cyclonedx+json": cyclonedxjson.NewFormatDecoder(),
	} {
		read, _, version, err := decoder.Decode(bytes.NewReader(f.attached(t, artifactType)))
		require.NoError(t, err)
		require.NotEmpty(t, version)
		count := 0
		for one := range read.Artifacts.Packages.Enumerate(pkg.GoModulePkg) {
			if module, known := want[one.Name]; known {
				require.Equal(t, module.Version, one.Version)
				require.False(t, one.Licenses.Empty(), one.Name)
				count++
			}
		}
		require.Equal(t, len(want), count, artifactType)
		require.Equal(t, len(want)+len([]string{"stdlib", "the worker"}), read.Artifacts.Packages.PackageCount(), artifactType)
		depends := 0
		for _, relationship := range read.Relationships {
			if relationship.Type == "dependency-of" {
				depends++
			}
		}
		require.Equal(t, len(want)+len([]string{"stdlib"}), depends, "each is something that the worker depends on")
	}
}
