package sbom

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/anchore/syft/syft/file"
)

// single shows syft one program and nothing else: no folder is walked, so nothing of the machine enters a document.
type single struct{ program Program }

// contents can be read from anywhere, which is why syft does not copy it.
type contents struct{ *bytes.Reader }

// Close does nothing.
func (contents) Close() error { return nil }

func (s single) reader() *bytes.Reader { return bytes.NewReader(s.program.Body) }

func (s single) location() file.Location { return file.NewLocation(s.program.Path) }

// FileContentsByLocation returns the program.
func (s single) FileContentsByLocation(file.Location) (io.ReadCloser, error) {
	return contents{s.reader()}, nil
}

// FileMetadataByLocation returns what is known of the program: nothing but its path.
func (s single) FileMetadataByLocation(file.Location) (file.Metadata, error) {
	return file.Metadata{Path: s.program.Path}, nil
}

// HasPath tells whether the program lies there.
func (s single) HasPath(path string) bool { return path == s.program.Path }

// FilesByPath returns the program if it is asked for.
func (s single) FilesByPath(paths ...string) ([]file.Location, error) {
	if slices.Contains(paths, s.program.Path) {
		return []file.Location{s.location()}, nil
	}
	return nil, nil
}

// FilesByGlob returns nothing: patterns are for sources and licences, and the image has none.
func (s single) FilesByGlob(...string) ([]file.Location, error) { return nil, nil }

// FilesByMIMEType returns the program: syft asks for programs only.
func (s single) FilesByMIMEType(...string) ([]file.Location, error) {
	return []file.Location{s.location()}, nil
}

// RelativeFileByPath returns nothing: there is no second file.
func (s single) RelativeFileByPath(file.Location, string) *file.Location { return nil }

// AllLocations returns the program.
func (s single) AllLocations(context.Context) <-chan file.Location {
	all := make(chan file.Location, 1)
	all <- s.location()
	close(all)
	return all
}
