package sbom

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/anchore/syft/syft/license"
	"github.com/anchore/syft/syft/pkg"
	"github.com/google/licensecheck"
	"golang.org/x/mod/module"
)

// enough is how many hundredths of a licence file must be recognised: the share that pkg.go.dev and tools/licences ask for.
const enough = 75

// setLicences says of each module which licences lie in the root folder of its sources. Syft can read licences itself only together with all
// its readers of all languages, which would make this command several times as large; the recognition behind it is the same library.
func setLicences(ctx context.Context, cache string, packages []pkg.Package) error {
	for i := range packages {
		one := &packages[i]
		if isMain(*one) || one.Name == standardLibrary {
			continue
		}
		names, err := licences(cache, one.Name, one.Version)
		if err != nil {
			return fmt.Errorf("read the licences of %s: %w", one.Name, err)
		}
		one.Licenses = pkg.NewLicenseSet()
		for _, name := range names {
			one.Licenses.Add(pkg.NewLicenseFromTypeWithContext(ctx, name, license.Concluded))
		}
		one.SetID()
	}
	return nil
}

// licences returns the SPDX names of the licences in the root folder of a module's sources, each once.
func licences(cache, path, version string) ([]string, error) {
	escapedPath, err := module.EscapePath(path)
	if err != nil {
		return nil, err
	}
	escapedVersion, err := module.EscapeVersion(version)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, filepath.FromSlash(escapedPath)+"@"+escapedVersion)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !isLicenceFile(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		coverage := licensecheck.Scan(text)
		for _, match := range coverage.Match {
			if coverage.Percent >= enough && !match.IsURL {
				names = append(names, match.ID)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// isLicenceFile tells whether a file's name says that it is a licence. Go files, such as license.go, are not.
func isLicenceFile(name string) bool {
	pattern := regexp.MustCompile(`(?i)^(un)?(licen[sc]e|copying)([-._].*)?$`)
	return pattern.MatchString(name) && !strings.HasSuffix(strings.ToLower(name), ".go")
}
