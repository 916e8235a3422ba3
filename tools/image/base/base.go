// Package base makes the files of the image that are not the worker: certificates, time zones and the names of two users. It takes nothing
// from the machine it runs on but the Go distribution, so that the same Go version makes the same files everywhere.
package base

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Nonroot is the id of the user and of the group that the worker runs as. Other minimal images use the same number.
const Nonroot = 65532

// The modes of what is in the image. Everything belongs to root, so that the worker can change nothing of it.
const (
	DirMode  fs.FileMode = 0o755
	FileMode fs.FileMode = 0o644
	ExecMode fs.FileMode = 0o755
)

// The places of files that somebody may want to name.
const (
	CertificatesFile = "etc/ssl/certs/ca-certificates.crt"
	ZonesDir         = "usr/share/zoneinfo"
	// ConfigDir is where the worker's configuration is mounted. It is empty in the image.
	ConfigDir = "etc/discount"
)

const (
	passwd = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
	group  = "root:x:0:\nnonroot:x:65532:\n"
)

// File is one file or folder of the image.
type File struct {
	// Path is its path from the image's root, with slashes and without one at its beginning.
	Path string
	// Mode holds its permissions, and fs.ModeDir for a folder.
	Mode fs.FileMode
	// Body is what a file holds.
	Body []byte
}

// Files returns the files and the folders that they are in, sorted by path. zones is the zoneinfo.zip of the Go distribution.
//
// The zones lie there as single files, because that is where Go looks for the zone that the variable TZ names, which is the worker's zone in
// its log. For TZ it would not look into a zip file, whatever ZONEINFO says; and the build tag timetzdata would have the whole worker
// compiled a second time, since package time itself changes with it.
func Files(zones []byte) ([]File, error) {
	certificates, err := Certificates()
	if err != nil {
		return nil, err
	}
	files := []File{
		{Path: ConfigDir, Mode: fs.ModeDir | DirMode},
		{Path: "etc/passwd", Mode: FileMode, Body: []byte(passwd)},
		{Path: "etc/group", Mode: FileMode, Body: []byte(group)},
		{Path: CertificatesFile, Mode: FileMode, Body: certificates},
	}
	unpacked, err := unzip(zones)
	if err != nil {
		return nil, fmt.Errorf("read the time zones: %w", err)
	}
	return withFolders(append(files, unpacked...)), nil
}

// ReadZones returns the zoneinfo.zip of a Go distribution, given what `go env GOROOT` says.
func ReadZones(goroot string) ([]byte, error) {
	zones, err := os.ReadFile(filepath.Join(goroot, "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, fmt.Errorf("read the time zones of the Go distribution: %w", err)
	}
	return zones, nil
}

// unzip returns the zones in a zip file.
func unzip(zones []byte) ([]File, error) {
	archive, err := zip.NewReader(bytes.NewReader(zones), int64(len(zones)))
	if err != nil {
		return nil, err
	}
	var files []File
	for _, entry := range archive.File {
		if strings.HasSuffix(entry.Name, "/") {
			continue
		}
		if !fs.ValidPath(entry.Name) {
			return nil, fmt.Errorf("%q is no path", entry.Name)
		}
		body, err := read(entry)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name, err)
		}
		files = append(files, File{Path: path.Join(ZonesDir, entry.Name), Mode: FileMode, Body: body})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is none in %d bytes", len(zones))
	}
	return files, nil
}

func read(entry *zip.File) ([]byte, error) {
	reader, err := entry.Open()
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		return nil, err
	}
	return body, reader.Close()
}

// withFolders adds the folders that files are in and sorts everything by path, so that a folder comes before what is in it.
func withFolders(files []File) []File {
	known := make(map[string]bool, len(files))
	for _, file := range files {
		known[file.Path] = true
	}
	all := slices.Clone(files)
	for _, file := range files {
		for dir := path.Dir(file.Path); dir != "." && !known[dir]; dir = path.Dir(dir) {
			known[dir] = true
			all = append(all, File{Path: dir, Mode: fs.ModeDir | DirMode})
		}
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all
}
