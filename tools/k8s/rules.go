package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ruleFiles are the files of deploy/prometheus, and the names of the objects they become.
func ruleFiles() []struct{ file, name string } {
	return []struct{ file, name string }{{"recording.yaml", "discount-recording"}, {"alerts.yaml", "discount-alerts"}}
}

// writeRules writes the rules into the manifests.
func writeRules(root string) error {
	text, err := makeRules(root)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "deploy", "k8s", "base", "rules.yaml"), text, 0o644) //nolint:gosec // It is a file of the repository.
}

// makeRules returns Prometheus's rule files as objects of its operator. The operator's groups are those of the files as they stand, so all it
// takes is to move them to the right; kustomize can't put a file into a field.
func makeRules(root string) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Made from deploy/prometheus by `make k8s-rules`: change those files, not this one.\n")
	for i, one := range ruleFiles() {
		text, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", one.file))
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		_, groups, found := strings.Cut("\n"+string(text), "\ngroups:\n")
		if !found {
			return nil, fmt.Errorf("%s has no groups", one.file)
		}
		if i > 0 {
			b.WriteString("---\n")
		}
		fmt.Fprintf(&b, "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: %s\n"+
			"  labels:\n    app.kubernetes.io/name: discount-worker\nspec:\n  groups:\n", one.name)
		for line := range strings.Lines(groups) {
			if strings.TrimSpace(line) != "" {
				b.WriteString("  ")
			}
			b.WriteString(line)
		}
	}
	return []byte(b.String()), nil
}
