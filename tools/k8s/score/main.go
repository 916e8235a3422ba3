// Command score has kube-score look at manifests: those of deploy/k8s, or an overlay made of them. What it finds is mended, or stands in a table
// with the reason why it may stay.
//
// Usage: kubectl kustomize DIR | score
//
// It is a module of its own because kube-score needs versions of the API's types that Kubernetes has dropped since.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/zegl/kube-score/config"
	"github.com/zegl/kube-score/domain"
	"github.com/zegl/kube-score/parser"
	"github.com/zegl/kube-score/score"
	"github.com/zegl/kube-score/scorecard"
)

// errFound tells that there were findings, which have been printed.
var errFound = errors.New("kube-score found something")

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "score:", err)
		os.Exit(1)
	}
}

// run prints what kube-score finds in the manifests of in and no exception allows.
func run(in io.Reader, out io.Writer) error {
	all, err := scored(in)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(f finding) bool { return exceptions()[f.id] != "" })
	for _, f := range all {
		if _, err := fmt.Fprintf(out, "%s: %s\n", f.id, f.why); err != nil {
			return err
		}
	}
	if len(all) > 0 {
		return errFound
	}
	return nil
}

// exceptions are the checks that do not hold here, by check and object, and why.
func exceptions() map[string]string {
	image := "an image is named by its digest, which a node that has it need not ask the registry for: pods start while the registry is away"
	spread := "topologySpreadConstraints say the same, and for zones as well"
	return map[string]string{
		"container-image-pull-policy Deployment/worker":         image,
		"container-image-pull-policy Job/setup":                 image,
		"container-image-pull-policy StatefulSet/nats":          image,
		"deployment-has-host-podantiaffinity Deployment/worker": spread,
		"statefulset-has-host-podantiaffinity StatefulSet/nats": spread,
		"deployment-replicas Deployment/worker":                 "the overlay single has one worker, which is what it is for",
		"networkpolicy-targets-pod NetworkPolicy/nats-clients":  "the pods that it is for are somebody else's",
	}
}

// finding is one of kube-score's: the check and the object, and what it says.
type finding struct{ id, why string }

// manifests are what is read, by a name.
type manifests struct{ io.Reader }

// Name returns how the manifests are called.
func (manifests) Name() string { return "manifests" }

// scored returns what kube-score finds, warnings included.
func scored(in io.Reader) ([]finding, error) {
	p, err := parser.New(nil)
	if err != nil {
		return nil, err
	}
	objects, err := p.ParseFiles([]domain.NamedReader{manifests{in}})
	if err != nil {
		return nil, err
	}
	if len(objects.Metas()) == 0 {
		return nil, errors.New("there is nothing to look at on the standard input")
	}
	settings := &config.RunConfiguration{
		KubernetesVersion: config.Semver{Major: 1, Minor: 33}, MinReplicasDeployment: 2, MinReplicasHPA: 2,
		EnabledOptionalTests: map[string]struct{}{"container-seccomp-profile": {}, "container-ports-check": {}},
	}
	card, err := score.Score(objects, score.RegisterAllChecks(objects, nil, settings), settings)
	if err != nil {
		return nil, err
	}
	var all []finding
	for _, o := range *card {
		for _, check := range o.Checks {
			if check.Skipped || check.Grade > scorecard.GradeWarning {
				continue
			}
			found := finding{id: fmt.Sprintf("%s %s/%s", check.Check.ID, o.TypeMeta.Kind, o.ObjectMeta.Name)}
			for _, comment := range check.Comments {
				found.why = comment.Summary
			}
			all = append(all, found)
		}
	}
	return all, nil
}
