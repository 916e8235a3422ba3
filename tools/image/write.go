package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// mayReplace refuses a folder that holds something else than an image layout.
func mayReplace(out string) error {
	if _, err := os.Lstat(out); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := layout.FromPath(out); err != nil {
		return fmt.Errorf("%s is there already and is no image layout: it is left as it is; name another folder with -o", out)
	}
	return nil
}

// writeAll writes the layout and, beside it, the documents. What was there before stays until the new layout is complete.
func writeAll(out string, o origin, whole v1.ImageIndex, documents []attached) (err error) {
	parent := filepath.Dir(out)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("make the folder of the image: %w", err)
	}
	fresh, err := os.MkdirTemp(parent, ".image-")
	if err != nil {
		return fmt.Errorf("make the folder of the image: %w", err)
	}
	defer func() {
		if removed := os.RemoveAll(fresh); err == nil {
			err = removed
		}
	}()
	made := filepath.Join(fresh, "image")
	if err := writeLayout(made, o, whole, documents); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	for _, one := range documents {
		name := filepath.Join(fresh, "document")
		if err := os.WriteFile(name, one.body, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", one.suffix, err)
		}
		if err := os.Rename(name, out+one.suffix); err != nil {
			return fmt.Errorf("write %s: %w", one.suffix, err)
		}
	}
	return replace(made, out, filepath.Join(fresh, "before"))
}

// replace puts the folder made where out is. What was there is moved to before, and back if that fails.
func replace(made, out, before string) error {
	moved := os.Rename(out, before)
	if moved != nil && !errors.Is(moved, fs.ErrNotExist) {
		return fmt.Errorf("replace the image: %w", moved)
	}
	if err := os.Rename(made, out); err != nil {
		if moved == nil {
			err = errors.Join(err, os.Rename(before, out))
		}
		return fmt.Errorf("replace the image: %w", err)
	}
	return nil
}

// writeLayout writes an OCI image layout: the image, named by its version, and the documents as manifests that refer to it.
func writeLayout(dir string, o origin, whole v1.ImageIndex, documents []attached) error {
	written, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := written.AppendIndex(whole, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": o.version})); err != nil {
		return err
	}
	subject, err := describeIndex(whole)
	if err != nil {
		return err
	}
	for _, one := range documents {
		if err := attach(written, o, subject, one); err != nil {
			return fmt.Errorf("attach %s: %w", one.suffix, err)
		}
	}
	// The library makes this one file executable.
	return os.Chmod(filepath.Join(dir, "index.json"), 0o644)
}

// attach writes a document and the manifest that makes it a referrer of the subject, as OCI's image specification 1.1 has it.
func attach(written layout.Path, o origin, subject v1.Descriptor, document attached) error {
	content, err := blob(written, types.MediaType(document.mediaType), document.body)
	if err != nil {
		return err
	}
	content.Annotations = map[string]string{"org.opencontainers.image.title": "image" + document.suffix}
	nothing, err := blob(written, types.OCIEmptyJSON, []byte("{}"))
	if err != nil {
		return err
	}
	annotations := map[string]string{"org.opencontainers.image.created": o.created.Format(time.RFC3339)}
	maps.Copy(annotations, document.annotations)
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: document.artifactType,
		Config: nothing, Layers: []v1.Descriptor{content}, Subject: &subject, Annotations: annotations,
	})
	if err != nil {
		return err
	}
	described, err := blob(written, types.OCIManifestSchema1, manifest)
	if err != nil {
		return err
	}
	described.ArtifactType, described.Annotations = document.artifactType, annotations
	return written.AppendDescriptor(described)
}

// blob writes content and describes it.
func blob(written layout.Path, mediaType types.MediaType, content []byte) (v1.Descriptor, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest}, written.WriteBlob(digest, io.NopCloser(bytes.NewReader(content)))
}
