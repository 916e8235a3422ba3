package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// report says what was built.
type report struct {
	Digest    string           `json:"digest"`
	Version   string           `json:"version"`
	Revision  string           `json:"revision"`
	Modified  bool             `json:"modified"`
	Created   time.Time        `json:"created"`
	Layout    string           `json:"layout"`
	Documents []string         `json:"documents"`
	Platforms []platformReport `json:"platforms"`
}

// platformReport says how large the image of one platform is, in bytes.
type platformReport struct {
	Platform   string `json:"platform"`
	Digest     string `json:"digest"`
	Compressed int64  `json:"compressed"`
	Unpacked   int64  `json:"unpacked"`
}

func newReport(s settings, o origin, whole v1.ImageIndex, images []v1.Image, documents []attached) (*report, error) {
	digest, err := whole.Digest()
	if err != nil {
		return nil, fmt.Errorf("describe the image: %w", err)
	}
	r := &report{
		Digest: digest.String(), Version: o.version, Revision: o.revision, Modified: o.modified, Created: o.created, Layout: s.out,
	}
	for _, one := range documents {
		r.Documents = append(r.Documents, s.out+one.suffix)
	}
	for i, one := range images {
		measured, err := measure(one)
		if err != nil {
			return nil, fmt.Errorf("measure the image: %w", err)
		}
		measured.Platform = s.platforms[i].String()
		r.Platforms = append(r.Platforms, measured)
	}
	return r, nil
}

// measure adds up the layers of an image: as they are sent, and as tar files.
func measure(one v1.Image) (platformReport, error) {
	digest, err := one.Digest()
	if err != nil {
		return platformReport{}, err
	}
	layers, err := one.Layers()
	if err != nil {
		return platformReport{}, err
	}
	r := platformReport{Digest: digest.String()}
	for _, layer := range layers {
		compressed, err := layer.Size()
		if err != nil {
			return platformReport{}, err
		}
		unpacked, err := partial.UncompressedSize(layer)
		if err != nil {
			return platformReport{}, err
		}
		r.Compressed, r.Unpacked = r.Compressed+compressed, r.Unpacked+unpacked
	}
	return r, nil
}

func (r *report) writeJSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// writeText says what was built, and how to go on.
func (r *report) writeText(out io.Writer) error {
	lines := []string{"image\t" + imageName + " " + r.Version, "digest\t" + r.Digest, "layout\t" + r.Layout}
	for _, one := range r.Platforms {
		lines = append(lines, fmt.Sprintf("%s\t%.1f MB to send, %.1f MB unpacked", one.Platform, float64(one.Compressed)/1e6, float64(one.Unpacked)/1e6))
	}
	for _, name := range r.Documents {
		lines = append(lines, "attached\t"+name)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(table, strings.Join(lines, "\n")+"\n"); err != nil {
		return err
	}
	if err := table.Flush(); err != nil {
		return err
	}
	text := fmt.Sprintf(pushing, r.Layout, r.Version)
	if r.Modified {
		text = "\nThe files are not those of commit " + r.Revision + ": the provenance says so. Don't release this.\n" + text
	}
	_, err := io.WriteString(out, text)
	return err
}

// pushing says how to push, with tools that take a layout of several manifests.
const pushing = `
Push it, with everything that is attached to it:
  oras cp --recursive --from-oci-layout %[1]s:%[2]s REGISTRY/REPOSITORY:%[2]s
or the image alone:
  skopeo copy --all --preserve-digests oci:%[1]s:%[2]s docker://REGISTRY/REPOSITORY:%[2]s
`
