package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

// text returns a file of the repository.
func text(t *testing.T, file string) string {
	t.Helper()
	read, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	return string(read)
}

// TestRulesAreThoseOfPrometheus compares the file with what would be made anew, and the objects in it with the rule files.
func TestRulesAreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	made, err := makeRules(root)
	require.NoError(t, err)
	require.Equal(t, string(made), text(t, "deploy/k8s/base/rules.yaml"), "run make k8s-rules")
	for overlay := range overlays() {
		r := built(t, overlay)
		for _, one := range ruleFiles() {
			var want monitoringv1.PrometheusRuleSpec
			require.NoError(t, yaml.UnmarshalStrict([]byte(text(t, "deploy/prometheus/"+one.file)), &want))
			object, found := named[*monitoringv1.PrometheusRule](r, one.name)
			require.True(t, found)
			require.Equal(t, want, object.Spec)
			require.NotEmpty(t, object.Spec.Groups)
		}
	}
}

func TestRulesWithoutGroups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := makeRules(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "deploy/prometheus"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "deploy/prometheus/recording.yaml"), []byte("rules: []\n"), 0o600))
	_, err = makeRules(dir)
	require.ErrorContains(t, err, "no groups")
}

// TestWriteRules writes them somewhere else, and finds there what stands here.
func TestWriteRules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "deploy/prometheus"), os.DirFS(filepath.Join(root, "deploy/prometheus"))))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "deploy/k8s/base"), 0o700))
	require.NoError(t, writeRules(dir))
	written, err := os.ReadFile(filepath.Join(dir, "deploy/k8s/base/rules.yaml"))
	require.NoError(t, err)
	require.Equal(t, text(t, "deploy/k8s/base/rules.yaml"), string(written))
}

// TestReadmeTellsWhatIsMadeByHand looks for a command for each Secret with each of its files, and shows that pods need each of them.
func TestReadmeTellsWhatIsMadeByHand(t *testing.T) {
	t.Parallel()
	readme := strings.ReplaceAll(text(t, "deploy/k8s/README.md"), "\\\n", "")
	needed := map[string]bool{}
	for overlay := range overlays() {
		for _, p := range built(t, overlay).pods() {
			for _, ref := range p.references() {
				needed[ref.kind+"/"+ref.name] = true
			}
		}
	}
	for id, files := range byHand() {
		kind, name, _ := strings.Cut(id, "/")
		verb := map[string]string{"Secret": "secret generic ", "ConfigMap": "configmap "}[kind]
		line := regexp.MustCompile(`kubectl -n discount create ` + verb + name + ` .*`).FindString(readme)
		require.NotEmpty(t, line, "the README does not say how to make the %s %s", kind, name)
		for _, file := range files {
			require.Contains(t, line, "--from-file="+file, id)
		}
		require.True(t, needed[id], "nobody needs the %s %s", kind, name)
		require.Contains(t, readme, "| `"+name+"` |")
	}
}

// TestTheQueryAsksForMetricsThereAre compares the autoscaler's query with the table of metrics.
func TestTheQueryAsksForMetricsThereAre(t *testing.T) {
	t.Parallel()
	scaled, found := named[*scaledObject](built(t, "keda"), "worker")
	require.True(t, found)
	metrics := regexp.MustCompile(`discount_worker_([a-z_]+)`).FindAllStringSubmatch(scaled.Spec.Triggers[0].Metadata["query"], -1)
	require.Len(t, metrics, 2)
	for _, metric := range metrics {
		require.Contains(t, text(t, "docs/metrics.md"), "\n| `"+metric[1]+"` | gauge |")
	}
}

// TestBrokerFindsItsFiles mounts what the broker's pod has and compares it with deploy/nats, file by file. The key of the store is the pod's own.
func TestBrokerFindsItsFiles(t *testing.T) {
	t.Parallel()
	r := built(t, "cluster")
	broker, found := brokerOf(r)
	require.True(t, found)
	dir := t.TempDir()
	require.NoError(t, mount(r, pod{PodTemplateSpec: &broker.Spec.Template, owner: broker}, broker.Spec.Template.Spec.Containers[0], dir))
	count := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(root, "deploy/nats"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".conf" {
			return err
		}
		relative, err := filepath.Rel(filepath.Join(root, "deploy/nats"), path)
		require.NoError(t, err)
		mounted, err := os.ReadFile(filepath.Join(dir, "etc/nats", relative))
		require.NoError(t, err, "add it to deploy/nats/kustomization.yaml and to the pod's volume")
		if relative == "encryption.conf" {
			return nil
		}
		count++
		require.Equal(t, text(t, "deploy/nats/"+filepath.ToSlash(relative)), string(mounted))
		return nil
	}))
	require.Equal(t, 14, count)
}

// TestBrokersVersion has the image be the server that everything was tested with.
func TestBrokersVersion(t *testing.T) {
	t.Parallel()
	for _, overlay := range []string{"single", "cluster"} {
		broker, _ := brokerOf(built(t, overlay))
		require.Equal(t, "nats:"+server.VERSION+"-alpine", broker.Spec.Template.Spec.Containers[0].Image)
	}
}

// TestOverlaysDifferByTheBrokerOnly compares the settings of one worker with those of three.
func TestOverlaysDifferByTheBrokerOnly(t *testing.T) {
	t.Parallel()
	read := func(overlay string) map[string]any {
		var settings map[string]any
		require.NoError(t, yaml.UnmarshalStrict([]byte(text(t, overlays()[overlay]+"/worker.yaml")), &settings))
		return settings
	}
	single, cluster := read("single"), read("cluster")
	require.Equal(t, map[string]any{"replicas": 3.0}, cluster["streams"])
	delete(cluster, "streams")
	single["nats"].(map[string]any)["url"] = cluster["nats"].(map[string]any)["url"]
	require.Equal(t, single, cluster)
}

// TestExampleLeavesNothingOpen shows that it sets what must be set, and that what it can't know stops the broker instead of letting somebody in.
func TestExampleLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	r := built(t, "example")
	for _, p := range r.pods() {
		for _, c := range p.containers() {
			require.Regexp(t, `^registry\.shop\.example/[a-z-]+@sha256:[0-9a-f]{64}$`, c.Image)
		}
	}
	for _, p := range r.pods() {
		for _, one := range outside(r, p) {
			require.NotEqual(t, "203.0.113.0/24", one)
		}
	}
	policy, found := named[*networkingv1.NetworkPolicy](r, "worker-upstreams")
	require.True(t, found)
	require.Len(t, policy.Spec.Egress, 1)

	broker, _ := brokerOf(r)
	c := broker.Spec.Template.Spec.Containers[0]
	users, found := named[*corev1.ConfigMap](r, c.EnvFrom[0].ConfigMapRef.Name)
	require.True(t, found)
	require.NotEqual(t, "nats-users", users.Name, "its name has no hash, so a new key would not restart the broker")
	_, err := readServerWith(r, pod{PodTemplateSpec: &broker.Spec.Template, owner: broker}, c, users.Data)
	require.ErrorContains(t, err, "nkey")
}

// TestPlaceholdersReachNobody shows that an overlay that was left as it is finds no image and calls no address.
func TestPlaceholdersReachNobody(t *testing.T) {
	t.Parallel()
	for _, overlay := range []string{"single", "cluster", "keda"} {
		r := built(t, overlay)
		for _, p := range r.pods() {
			ranges := outside(r, p)
			if p.owner.GetName() == "worker" {
				require.Equal(t, []string{"203.0.113.0/24"}, ranges)
			}
			if p.owner.GetName() != "nats" {
				require.Equal(t, "discountquery.example/worker:set-in-your-overlay", p.Spec.Containers[0].Image)
			}
		}
	}
}
