// Command k8s checks the manifests of deploy/k8s, and overlays made of them, without a cluster.
//
// Usage:
//
//	k8s check DIR...     build overlays and say what is wrong with them; exit code 1 if anything is
//	k8s list DIR...      build overlays and print what they hold
//	k8s build DIR        print an overlay as `kubectl kustomize` does
//	k8s rules            write deploy/k8s/base/rules.yaml anew from deploy/prometheus
//
// It runs in its own folder, tools/k8s; DIR is relative to it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// root is the repository as seen from here.
const root = "../.."

// errFound tells that there were findings, which have been printed.
var errFound = errors.New("something is wrong")

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "k8s:", err)
		os.Exit(1)
	}
}

// run runs one command line.
func run(args []string, out io.Writer) error {
	usage := errors.New("usage: k8s check DIR... | k8s list DIR... | k8s build DIR | k8s rules")
	if len(args) == 0 {
		return usage
	}
	command, dirs := args[0], args[1:]
	switch {
	case command == "rules" && len(dirs) == 0:
		return writeRules(root)
	case command == "check" && len(dirs) > 0:
		return each(dirs, out, printFindings)
	case command == "list" && len(dirs) > 0:
		return each(dirs, out, printObjects)
	case command == "build" && len(dirs) == 1:
		text, err := build(filesys.MakeFsOnDisk(), filepath.Clean(dirs[0]))
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	default:
		return usage
	}
}

// each renders every folder and does something with it.
func each(dirs []string, out io.Writer, do func(io.Writer, string, *rendered) error) error {
	var failed error
	for _, dir := range dirs {
		r, err := render(filesys.MakeFsOnDisk(), filepath.Clean(dir))
		if err == nil {
			err = do(out, dir, r)
		}
		if err != nil && !errors.Is(err, errFound) {
			return err
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return errFound
	}
	return nil
}

func printFindings(out io.Writer, dir string, r *rendered) error {
	found := check(r)
	for _, finding := range found {
		if _, err := fmt.Fprintf(out, "%s: %s\n", dir, finding); err != nil {
			return err
		}
	}
	if len(found) > 0 {
		return errFound
	}
	_, err := fmt.Fprintf(out, "%s: %d objects, nothing found\n", dir, len(r.objects))
	return err
}

func printObjects(out io.Writer, dir string, r *rendered) error {
	for _, o := range r.objects {
		if _, err := fmt.Fprintf(out, "%s: %s\n", dir, name(o)); err != nil {
			return err
		}
	}
	return nil
}
