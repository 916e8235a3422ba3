package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// built builds the overlays and returns them by their names.
func built(t *testing.T) map[string]string {
	t.Helper()
	tool, all := filepath.Join(t.TempDir(), "k8s"), map[string]string{}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", tool, ".")
	build.Dir = ".."
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))
	for name, dir := range map[string]string{"single": "overlays/single", "cluster": "overlays/cluster", "keda": "overlays/keda", "example": "example"} {
		show := exec.CommandContext(t.Context(), tool, "build", "../../deploy/k8s/"+dir)
		show.Dir = ".."
		text, err := show.Output()
		require.NoError(t, err)
		all[name] = string(text)
	}
	return all
}

// TestScore has kube-score look at all overlays, and then at each with one thing done wrong.
func TestScore(t *testing.T) {
	t.Parallel()
	all, seen := built(t), map[string]bool{}
	for name, text := range all {
		var out bytes.Buffer
		require.NoError(t, run(strings.NewReader(text), &out), "%s: %s", name, &out)
		found, err := scored(strings.NewReader(text))
		require.NoError(t, err)
		for _, one := range found {
			seen[one.id] = true
		}
	}
	for id := range exceptions() {
		require.True(t, seen[id], "nothing needs the exception %s", id)
	}
	for name, one := range map[string]struct{ overlay, from, to, want string }{
		"a low user":              {"single", "runAsUser: 65532", "runAsUser: 1000", "low user ID"},
		"a root filesystem":       {"cluster", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "writable root filesystem"},
		"no seccomp":              {"single", "seccompProfile:\n          type: RuntimeDefault", "supplementalGroups: []", "container-seccomp-profile"},
		"no ephemeral storage":    {"keda", "            ephemeral-storage: 64Mi\n", "", "Ephemeral Storage"},
		"the latest image":        {"single", "nats:2.15.2-alpine", "nats:latest", "container-image-tag StatefulSet/nats"},
		"a budget without a rule": {"single", "  maxUnavailable: 1\n", "", "poddisruptionbudget-has-policy"},
		"no policy for anybody":   {"example", "kind: NetworkPolicy", "kind: NoPolicy", "pod-networkpolicy"},
		"two ports of one name": {
			"single", "- containerPort: 8090\n", "- containerPort: 8091\n          name: admin\n        - containerPort: 8090\n",
			"container-ports-check Deployment/worker",
		},
		"a service on each node": {
			"single", "clusterIP: None\n  ports:\n  - name: admin", "type: NodePort\n  ports:\n  - name: admin", "service-type Service/worker",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.ReplaceAll(all[one.overlay], one.from, one.to)
			require.NotEqual(t, all[one.overlay], text)
			var out bytes.Buffer
			require.ErrorIs(t, run(strings.NewReader(text), &out), errFound)
			require.Contains(t, out.String(), one.want)
		})
	}
}

// TestNothingToLookAt shows that an empty input, such as that of a build that failed, is not taken for a good one.
func TestNothingToLookAt(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, run(strings.NewReader(""), &bytes.Buffer{}), "nothing to look at")
	require.Error(t, run(strings.NewReader("a: [\n"), &bytes.Buffer{}))
}
