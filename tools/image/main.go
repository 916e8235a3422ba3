// Command image builds the worker's container image without Docker: a folder in the form of an OCI image layout that holds the image for each
// platform, and attached to it two lists of what is linked in (SPDX, CycloneDX) and a statement of how it was built (SLSA). The same commit
// and the same Go version give the same bytes on every machine. It pushes nothing and signs nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// project is where the project says it lives: the beginning of its Go module path.
const project = "https://discountquery.example/worker"

const help = `Builds the worker's container image as an OCI image layout, without Docker.

Usage: image [flags]

  image -C ../..                                  # bin/image and its documents, for linux/amd64 and linux/arm64
  image -C ../.. -json                            # the same, told to a machine
  image -C ../.. -platforms linux/amd64           # one platform
  image -C ../.. -o bin/release -version v1.2.3   # another folder, another version
  SOURCE_DATE_EPOCH=1767225600 image -C ../.. -version v1.2.3 -revision 0123456789abcdef0123456789abcdef01234567   # no git needed

Beside the folder (bin/image) it writes bin/image.spdx.json, bin/image.cdx.json and bin/image.provenance.json; the same documents are
attached to the image. An image layout that is there already is replaced, once the new one is complete. Anything else that is there is not.

Flags:
`

// settings say what is to be built.
type settings struct {
	// root is the folder of the worker's go.mod.
	root string
	// out is the folder of the layout.
	out string
	// platforms are those to build for.
	platforms []v1.Platform
	// builder names who builds, in the provenance.
	builder string
	// version, revision and source are told, or empty if git is to be asked; source is never empty.
	version, revision, source string
	// epoch is the content of SOURCE_DATE_EPOCH.
	epoch string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run builds what the arguments ask for and reports to out.
func run(ctx context.Context, args []string, environment func(string) string, out io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		_, _ = io.WriteString(out, help)
		flags.PrintDefaults()
	}
	s := settings{epoch: environment("SOURCE_DATE_EPOCH")}
	flags.StringVar(&s.root, "C", ".", "the `folder` of the worker's go.mod")
	flags.StringVar(&s.out, "o", "", "the `folder` to write the image to (default bin/image in the folder of -C)")
	flags.StringVar(&s.version, "version", "", "the image's `version` (default what git describe says)")
	flags.StringVar(&s.revision, "revision", "", "the `commit` that is built (default what git says)")
	flags.StringVar(&s.source, "source", project, "the `address` of the source code, for labels and provenance")
	flags.StringVar(&s.builder, "builder", project+"/tools/image/local", "the `address` that names who builds, for the provenance")
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "the `platforms`, separated by commas")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is not understood: image takes flags only; see image -help", flags.Arg(0))
	}
	var err error
	if s.platforms, err = parsePlatforms(*platforms); err != nil {
		return err
	}
	if s.out == "" {
		s.out = filepath.Join(s.root, "bin", "image")
	}
	built, err := build(ctx, s)
	if err != nil {
		return err
	}
	if *asJSON {
		return built.writeJSON(out)
	}
	return built.writeText(out)
}

// parsePlatforms reads names of platforms. The worker is built for Linux, whatever its processor.
func parsePlatforms(text string) ([]v1.Platform, error) {
	var platforms []v1.Platform
	known := make(map[string]bool)
	for name := range strings.SplitSeq(text, ",") {
		platform, err := v1.ParsePlatform(strings.TrimSpace(name))
		if err != nil || platform.OS != "linux" || platform.Architecture == "" || platform.Variant != "" || known[platform.String()] {
			return nil, fmt.Errorf("-platforms: %q: name each platform once, such as linux/amd64,linux/arm64", name)
		}
		known[platform.String()] = true
		platforms = append(platforms, *platform)
	}
	return platforms, nil
}
