package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/tools/image/base"
)

// The most that an image may weigh, in bytes: to send, and unpacked.
const (
	mostCompressed = 20_000_000
	mostUnpacked   = 40_000_000
)

func TestLayoutIsWhole(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	require.NoError(t, validate.Index(f.index), "digests, sizes and media types agree all the way down")
	entry, err := f.entry()
	require.NoError(t, err)
	require.Equal(t, types.OCIImageIndex, entry.MediaType)
	require.Equal(t, f.report.Digest, entry.Digest.String())

	version, err := os.ReadFile(filepath.Join(f.dir, "oci-layout"))
	require.NoError(t, err)
	require.JSONEq(t, `{"imageLayoutVersion": "1.0.0"}`, string(version))

	require.Equal(t, f.reachable(t), f.blobs(t), "every blob is needed, and what is needed is there")
	raw := f.bytes(t, entry.Digest)
	var whole v1.IndexManifest
	require.NoError(t, json.Unmarshal(raw, &whole))
	require.Equal(t, labels(testOrigin()), whole.Annotations)
	require.Len(t, whole.Manifests, 2)
	for i, platform := range []string{"linux/amd64", "linux/arm64"} {
		require.Equal(t, platform, whole.Manifests[i].Platform.String())
		require.Equal(t, types.OCIManifestSchema1, whole.Manifests[i].MediaType)
		require.Equal(t, f.report.Platforms[i].Digest, whole.Manifests[i].Digest.String())
		manifest, err := f.images[platform].Manifest()
		require.NoError(t, err)
		require.Equal(t, types.OCIConfigJSON, manifest.Config.MediaType)
		require.Equal(t, labels(testOrigin()), manifest.Annotations)
		require.Len(t, manifest.Layers, 2)
		for _, layer := range manifest.Layers {
			require.Equal(t, types.OCILayer, layer.MediaType)
		}
	}
}

// testOrigin is what the image of these tests is made of.
func testOrigin() origin {
	return origin{version: testVersion, revision: testRevision, source: project, created: time.Unix(testEpoch, 0).UTC()}
}

// blobs returns the digests of all blobs, after it has compared them with what they are named by.
func (f *fixture) blobs(t *testing.T) []string {
	t.Helper()
	var digests []string
	entries, err := os.ReadDir(filepath.Join(f.dir, "blobs", "sha256"))
	require.NoError(t, err)
	for _, entry := range entries {
		content, err := os.Open(filepath.Join(f.dir, "blobs", "sha256", entry.Name()))
		require.NoError(t, err)
		digest, _, err := v1.SHA256(content)
		require.NoError(t, err)
		require.NoError(t, content.Close())
		require.Equal(t, entry.Name(), digest.Hex)
		digests = append(digests, digest.String())
	}
	slices.Sort(digests)
	return digests
}

// reachable returns the digests of everything that the layout leads to.
func (f *fixture) reachable(t *testing.T) []string {
	t.Helper()
	found := make(map[string]bool)
	waiting, err := f.entries()
	require.NoError(t, err)
	for len(waiting) > 0 {
		one := waiting[0]
		waiting = waiting[1:]
		found[one.Digest.String()] = true
		info, err := os.Stat(filepath.Join(f.dir, "blobs", "sha256", one.Digest.Hex))
		require.NoError(t, err)
		require.Equal(t, one.Size, info.Size(), one.Digest)
		switch one.MediaType {
		case types.OCIImageIndex:
			var manifest v1.IndexManifest
			require.NoError(t, json.Unmarshal(f.bytes(t, one.Digest), &manifest))
			waiting = append(waiting, manifest.Manifests...)
		case types.OCIManifestSchema1:
			var manifest v1.Manifest
			require.NoError(t, json.Unmarshal(f.bytes(t, one.Digest), &manifest))
			waiting = append(append(waiting, manifest.Config), manifest.Layers...)
			if manifest.Subject != nil {
				waiting = append(waiting, *manifest.Subject)
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func TestConfigurationOfTheImage(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	for _, arch := range []string{"amd64", "arm64"} {
		file, err := f.images["linux/"+arch].ConfigFile()
		require.NoError(t, err)
		require.Equal(t, "linux", file.OS)
		require.Equal(t, arch, file.Architecture)
		require.Equal(t, testCreated, file.Created.Format(time.RFC3339))
		require.Equal(t, v1.Config{
			User: "65532:65532", Env: []string{"PATH=/"}, WorkingDir: "/",
			Entrypoint: []string{"/worker"}, Cmd: []string{"run", "-c", "/etc/discount/worker.yaml"},
			Labels: map[string]string{
				"org.opencontainers.image.title":       "discount-worker",
				"org.opencontainers.image.description": description,
				"org.opencontainers.image.version":     testVersion,
				"org.opencontainers.image.revision":    testRevision,
				"org.opencontainers.image.source":      "https://discountquery.example/worker",
				"org.opencontainers.image.licenses":    "Apache-2.0",
				"org.opencontainers.image.created":     testCreated,
				"org.opencontainers.image.base.name":   "scratch",
			},
		}, file.Config)
		require.Len(t, file.RootFS.DiffIDs, 2)
		require.Len(t, file.History, 2)
		for _, step := range file.History {
			require.Equal(t, testCreated, step.Created.Format(time.RFC3339))
			require.False(t, step.EmptyLayer)
		}
	}
}

// entry is one file of an image, as its tar archive has it.
type entry struct {
	header *tar.Header
	body   []byte
}

// unpacked returns the files of all layers of a platform by path.
func (f *fixture) unpacked(t *testing.T, platform string) map[string]entry {
	t.Helper()
	layers, err := f.images[platform].Layers()
	require.NoError(t, err)
	files := make(map[string]entry)
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		require.NoError(t, err)
		archive := tar.NewReader(content)
		for {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			body, err := io.ReadAll(archive)
			require.NoError(t, err)
			require.NotContains(t, files, header.Name, "no layer replaces a file of another")
			files[header.Name] = entry{header, body}
		}
		require.NoError(t, content.Close())
	}
	return files
}

func TestFilesOfTheImage(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	zones := distributedZones(t)
	for platform := range f.images {
		files := f.unpacked(t, platform)
		var others []string
		for name, file := range files {
			zone, found := strings.CutPrefix(name, base.ZonesDir+"/")
			if found && zone != "" && file.header.Typeflag == tar.TypeReg {
				require.Equal(t, zones[zone], file.body, name)
			} else if !found || zone == "" {
				others = append(others, fmt.Sprintf("%s %c %03o", name, file.header.Typeflag, file.header.Mode))
			}
			require.Empty(t, misplaced(file.header), name)
		}
		slices.Sort(others)
		require.Equal(t, []string{
			"etc/ 5 755", "etc/discount/ 5 755", "etc/group 0 644", "etc/passwd 0 644", "etc/ssl/ 5 755", "etc/ssl/certs/ 5 755",
			"etc/ssl/certs/ca-certificates.crt 0 644", "usr/ 5 755", "usr/share/ 5 755", "usr/share/zoneinfo/ 5 755", "worker 0 755",
		}, others, platform)
		count := 0
		for name, file := range files {
			if strings.HasPrefix(name, base.ZonesDir+"/") && file.header.Typeflag == tar.TypeReg {
				count++
			}
		}
		require.Equal(t, len(zones), count, "every zone is there once")
		require.Contains(t, string(files["etc/passwd"].body), ":65532:65532:")
		require.Contains(t, string(files["etc/group"].body), ":65532:")
	}
}

// distributedZones returns the zones of the Go distribution by name.
func distributedZones(t *testing.T) map[string][]byte {
	t.Helper()
	tools, err := readToolchain(t.Context(), root)
	require.NoError(t, err)
	packed, err := base.ReadZones(tools.GOROOT)
	require.NoError(t, err)
	files, err := base.Files(packed)
	require.NoError(t, err)
	zones := make(map[string][]byte)
	for _, file := range files {
		if zone, found := strings.CutPrefix(file.Path, base.ZonesDir+"/"); found && !file.Mode.IsDir() {
			zones[zone] = file.Body
		}
	}
	require.Greater(t, len(zones), 400)
	return zones
}

// misplaced says what is wrong with the owner, the rights, the kind or the time of a file.
func misplaced(header *tar.Header) (problems []string) {
	mode := fs.FileMode(header.Mode)
	if header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Gname != "" {
		problems = append(problems, "it belongs to somebody else than root")
	}
	if mode&0o022 != 0 {
		problems = append(problems, "others than its owner may write to it")
	}
	if header.Mode&^0o777 != 0 {
		problems = append(problems, "it is setuid, setgid or sticky")
	}
	if header.Typeflag != tar.TypeReg && header.Typeflag != tar.TypeDir {
		problems = append(problems, "it is neither a file nor a folder")
	}
	if mode&0o111 != 0 && header.Typeflag == tar.TypeReg && header.Name != programPath {
		problems = append(problems, "it is a program, and no program belongs here but the worker")
	}
	if header.ModTime.Unix() != testEpoch {
		problems = append(problems, "its time is not that of the commit")
	}
	return problems
}

func TestMisplacedFilesAreSeen(t *testing.T) {
	t.Parallel()
	right := tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(testEpoch, 0)}
	require.Empty(t, misplaced(&right))
	for name, test := range map[string]struct {
		change func(*tar.Header)
		want   string
	}{
		"its owner":           {func(h *tar.Header) { h.Uid = base.Nonroot }, "belongs to somebody else"},
		"its group":           {func(h *tar.Header) { h.Gid = base.Nonroot }, "belongs to somebody else"},
		"its owner's name":    {func(h *tar.Header) { h.Uname = "nonroot" }, "belongs to somebody else"},
		"writable by a group": {func(h *tar.Header) { h.Mode = 0o664 }, "may write"},
		"writable by all":     {func(h *tar.Header) { h.Mode = 0o646 }, "may write"},
		"setuid":              {func(h *tar.Header) { h.Mode = 0o4644 }, "setuid"},
		"a link":              {func(h *tar.Header) { h.Typeflag = tar.TypeSymlink }, "neither a file"},
		"a second program":    {func(h *tar.Header) { h.Mode = 0o755 }, "is a program"},
		"now":                 {func(h *tar.Header) { h.ModTime = time.Now() }, "its time"},
	} {
		wrong := right
		test.change(&wrong)
		got := misplaced(&wrong)
		require.Len(t, got, 1, name)
		require.Contains(t, got[0], test.want, name)
	}
}

func TestNothingOfTheBuildIsInTheCompression(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	for _, one := range f.images {
		layers, err := one.Layers()
		require.NoError(t, err)
		for _, layer := range layers {
			content, err := layer.Compressed()
			require.NoError(t, err)
			packed, err := gzip.NewReader(content)
			require.NoError(t, err)
			require.True(t, packed.ModTime.IsZero(), "no time")
			require.Empty(t, packed.Name, "no name")
			require.Equal(t, byte(255), packed.OS, "no system")
			require.NoError(t, content.Close())
		}
	}
}

func TestImageIsSmall(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	require.Len(t, f.report.Platforms, 2)
	for _, one := range f.report.Platforms {
		t.Logf("%s: %d bytes to send, %d unpacked", one.Platform, one.Compressed, one.Unpacked)
		require.Less(t, one.Compressed, int64(mostCompressed), one.Platform)
		require.Less(t, one.Unpacked, int64(mostUnpacked), one.Platform)
		sum := int64(0)
		for _, file := range f.unpacked(t, one.Platform) {
			sum += int64(len(file.body))
		}
		require.Less(t, sum, one.Unpacked, "an archive is larger than what is in it")
	}
}

func TestProgramIsStaticAndStripped(t *testing.T) {
	t.Parallel()
	f := theImage(t)
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		program := f.unpacked(t, "linux/"+arch)[programPath].body
		parsed, err := elf.NewFile(bytes.NewReader(program))
		require.NoError(t, err)
		require.Equal(t, machine, parsed.Machine)
		require.Equal(t, binary.ByteOrder(binary.LittleEndian), parsed.ByteOrder)
		for _, part := range parsed.Progs {
			require.NotContains(t, []elf.ProgType{elf.PT_INTERP, elf.PT_DYNAMIC}, part.Type, "it needs no library")
		}
		require.Nil(t, parsed.Section(".symtab"))
		require.Nil(t, parsed.Section(".debug_info"))

		info, err := buildinfo.Read(bytes.NewReader(program))
		require.NoError(t, err)
		settings := make(map[string]string)
		for _, setting := range info.Settings {
			settings[setting.Key] = setting.Value
		}
		require.Equal(t, "0", settings["CGO_ENABLED"])
		require.Equal(t, "true", settings["-trimpath"])
		require.Equal(t, arch, settings["GOARCH"])
		require.NotContains(t, settings, "vcs.revision")
		require.NotContains(t, settings, "-tags")
		require.Contains(t, string(program), testVersion)
		here, err := filepath.Abs(root)
		require.NoError(t, err)
		tools, err := readToolchain(t.Context(), root)
		require.NoError(t, err)
		for _, path := range []string{here + "/internal", here + "/cmd", tools.GOROOT + "/src/runtime", tools.GOMODCACHE, workspace} {
			require.NotContains(t, string(program), path, "nothing says where it was built")
		}
	}
}
