package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// enough is how many hundredths of a licence file must be recognised: the share that pkg.go.dev asks for.
const enough = 75

// module is a dependency and the folders of it that are compiled.
type module struct {
	path, version, dir string
	packages           []string
}

func (m module) String() string { return m.path + "@" + m.version }

// licence is what one licence file says.
type licence struct {
	// file is its path from the module's root.
	file string
	// names are the SPDX names of the licences in it.
	names []string
	// covered is how many hundredths of the file's words belong to them.
	covered float64
}

// listed is the part of what `go list -json` prints for a package that is needed here.
type listed struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// linked returns the modules whose packages are compiled into the packages given, for Linux and without cgo, as the release is built.
func linked(ctx context.Context, root string, packages []string) ([]module, error) {
	command := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-json=Dir,Module", "--"}, packages...)...)
	command.Dir = root
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	var told bytes.Buffer
	command.Stderr = &told
	printed, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, strings.TrimSpace(told.String()))
	}
	return gather(bytes.NewReader(printed))
}

// gather reads what `go list` printed and returns its modules by path. The standard library and the main module are left out.
func gather(printed io.Reader) ([]module, error) {
	byPath := make(map[string]*module)
	for decoder := json.NewDecoder(printed); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read what go list printed: %w", err)
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		m, known := byPath[p.Module.Path]
		if !known {
			m = &module{path: p.Module.Path, version: p.Module.Version, dir: p.Module.Dir}
			if r := p.Module.Replace; r != nil {
				m.version, m.dir = r.Path+" "+r.Version, r.Dir
			}
			byPath[m.path] = m
		}
		m.packages = append(m.packages, p.Dir)
	}
	modules := make([]module, 0, len(byPath))
	for _, m := range byPath {
		modules = append(modules, *m)
	}
	slices.SortFunc(modules, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return modules, nil
}

// licences reads the licence files in the folders of the compiled packages and in all folders above them, up to the module's root.
func (m module) licences() ([]licence, error) {
	var found []licence
	for _, dir := range m.folders() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if !entry.Type().IsRegular() || !isLicenceFile(entry.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				return nil, err
			}
			file, err := filepath.Rel(m.dir, filepath.Join(dir, entry.Name()))
			if err != nil {
				return nil, err
			}
			names, covered := recognise(text)
			found = append(found, licence{file: filepath.ToSlash(file), names: names, covered: covered})
		}
	}
	return found, nil
}

// folders returns the module's root and what lies between it and its packages, each once.
func (m module) folders() []string {
	folders := []string{m.dir}
	for _, dir := range m.packages {
		for len(dir) > len(m.dir) && strings.HasPrefix(dir, m.dir) {
			folders = append(folders, dir)
			dir = filepath.Dir(dir)
		}
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// isLicenceFile tells whether a file's name says that it is a licence. Go files, such as license.go, are not.
func isLicenceFile(name string) bool {
	pattern := regexp.MustCompile(`(?i)^(un)?(licen[sc]e|copying)([-._].*)?$`)
	return pattern.MatchString(name) && !strings.HasSuffix(strings.ToLower(name), ".go")
}

// recognise names the licences in text, and how many hundredths of its words they are.
func recognise(text []byte) (names []string, covered float64) {
	coverage := licensecheck.Scan(text)
	for _, match := range coverage.Match {
		if !match.IsURL {
			names = append(names, match.ID)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), coverage.Percent
}
