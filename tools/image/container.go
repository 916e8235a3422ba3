package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"discountquery.example/worker/tools/image/base"
)

// The image's name, licence and the sentence that describes it.
const (
	imageName   = "discount-worker"
	licence     = "Apache-2.0"
	description = "Asks card schemes for instant discounts: queries come from NATS JetStream, results go back there."
)

// programPath is where the worker lies, from the image's root.
const programPath = "worker"

// labels are those of the image and, as annotations, those of its manifests. The names are OCI's.
func labels(o origin) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       imageName,
		"org.opencontainers.image.description": description,
		"org.opencontainers.image.version":     o.version,
		"org.opencontainers.image.revision":    o.revision,
		"org.opencontainers.image.source":      o.source,
		"org.opencontainers.image.licenses":    licence,
		"org.opencontainers.image.created":     o.created.Format(time.RFC3339),
		"org.opencontainers.image.base.name":   "scratch",
	}
}

// config is how the image is run. It exposes no port: by default the pages of health and metrics are for the worker's own host only. It has no
// health check, because OCI knows none and Kubernetes asks the pages. PATH is there for whoever types `worker` in a running container.
func config(o origin) v1.Config {
	return v1.Config{
		User:       strconv.Itoa(base.Nonroot) + ":" + strconv.Itoa(base.Nonroot),
		Env:        []string{"PATH=/"},
		Entrypoint: []string{"/" + programPath},
		Cmd:        []string{"run", "-c", "/" + base.ConfigDir + "/worker.yaml"},
		WorkingDir: "/",
		Labels:     labels(o),
	}
}

// layer packs files. Everything belongs to root and carries the same time.
func layer(files []base.File, modified time.Time) (v1.Layer, error) {
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	for _, file := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: file.Path, Mode: int64(file.Mode.Perm()), Size: int64(len(file.Body)), ModTime: modified, Format: tar.FormatUSTAR,
		}
		if file.Mode.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, file.Path+"/"
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", file.Path, err)
		}
		if _, err := archive.Write(file.Body); err != nil {
			return nil, fmt.Errorf("pack %s: %w", file.Path, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("pack a layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open,
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching)
}

// platformImage makes the image of one platform from the layer that all of them share and the worker.
func platformImage(o origin, platform v1.Platform, shared v1.Layer, program []byte) (v1.Image, error) {
	own, err := layer([]base.File{{Path: programPath, Mode: base.ExecMode, Body: program}}, o.created)
	if err != nil {
		return nil, err
	}
	step := func(what string) v1.History {
		return v1.History{Created: v1.Time{Time: o.created}, CreatedBy: what}
	}
	plain := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	stacked, err := mutate.Append(plain,
		mutate.Addendum{Layer: shared, History: step("certificates, time zones, users"), MediaType: types.OCILayer},
		mutate.Addendum{Layer: own, History: step("worker " + o.version), MediaType: types.OCILayer})
	if err != nil {
		return nil, fmt.Errorf("stack the layers: %w", err)
	}
	file, err := stacked.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("configure the image: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = platform.OS, platform.Architecture
	file.Created, file.Config = v1.Time{Time: o.created}, config(o)
	configured, err := mutate.ConfigFile(stacked, file)
	if err != nil {
		return nil, fmt.Errorf("configure the image: %w", err)
	}
	return mutate.Annotations(configured, labels(o)).(v1.Image), nil //nolint:forcetypeassert // Annotations returns what it is given.
}

// index puts the images of all platforms together.
func index(o origin, platforms []v1.Platform, images []v1.Image) v1.ImageIndex {
	all := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, one := range images {
		all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &platforms[i]}})
	}
	return mutate.Annotations(all, maps.Clone(labels(o))).(v1.ImageIndex) //nolint:forcetypeassert // as above
}
