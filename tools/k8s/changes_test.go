package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// change is one thing that is done wrong to the manifests, and what must be found then.
type change struct{ overlay, file, from, to, want string }

const (
	workerFile  = "k8s/base/worker.yaml"
	natsFile    = "k8s/base/nats.yaml"
	networkFile = "k8s/base/network.yaml"
	kedaFile    = "k8s/overlays/keda/scaledobject.yaml"
	singleFile  = "k8s/overlays/single/worker.yaml"
)

// TestChangesAreFound does one thing wrong at a time.
func TestChangesAreFound(t *testing.T) {
	t.Parallel()
	for _, table := range []map[string]change{
		typeChanges(), podChanges(), linkChanges(), networkChanges(), settingChanges(), brokerChanges(), scalingChanges(),
	} {
		for name, one := range table {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var found string
				r, err := render(changed(t, one.file, one.from, one.to), "/"+overlays()[one.overlay])
				if err == nil {
					found = strings.Join(check(r), "\n")
				} else {
					found = err.Error()
				}
				require.Contains(t, found, one.want)
			})
		}
	}
}

// typeChanges are what the API server or an operator would refuse, or take for something else.
func typeChanges() map[string]change {
	return map[string]change{
		"an unknown field": {
			"single", workerFile, "revisionHistoryLimit:", "revisionHistoryLimits:", `unknown field "spec.revisionHistoryLimits"`,
		},
		"an unknown field, KEDA":    {"keda", kedaFile, "cooldownPeriod:", "cooldown:", "additional properties 'cooldown' not allowed"},
		"a word KEDA does not know": {"keda", kedaFile, "currentReplicasIfHigher", "asBefore", "value must be one of 'static'"},
		"a field KEDA needs":        {"keda", kedaFile, "    failureThreshold: 3\n", "", "missing property 'failureThreshold'"},
		"an unknown field, operator": {
			"single", "k8s/base/monitor.yaml", "scrapeClassicHistograms", "alwaysScrapeClassicHistograms", "unknown field",
		},
		"an unknown field, rule": {"single", "k8s/base/rules.yaml", "- record:", "- records:", "unknown field"},
		"a wrong type":           {"single", workerFile, "revisionHistoryLimit: 5", "revisionHistoryLimit: five", "Deployment"},
		"an unknown kind":        {"single", "k8s/base/namespace.yaml", "kind: Namespace", "kind: Nonsense", `no kind "Nonsense"`},
		"an old version":         {"single", workerFile, "policy/v1\n", "policy/v1beta1\n", "no kind"},
		"a key twice":            {"single", workerFile, "  name: worker\n", "  name: worker\n  name: worker\n", "already"},
		"a file from another folder": {
			"single", "k8s/overlays/single/kustomization.yaml", "files: [worker.yaml]", "files: [../cluster/worker.yaml]", "is not in or below",
		},
		"a Secret in the repository": {
			"single", "k8s/base/namespace.yaml", "apiVersion: v1\n",
			"apiVersion: v1\nkind: Secret\nmetadata: {name: worker-nats}\n---\napiVersion: v1\n", "does not belong into a repository",
		},
		"a ConfigMap without a user": {
			"single", "k8s/base/namespace.yaml", "apiVersion: v1\n",
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: lost}\n---\napiVersion: v1\n", "ConfigMap/lost: nobody uses it",
		},
		"two settings of one overlay": {"single", singleFile, "nats:\n", "nats: {}\nnats:\n", "its settings"},
	}
}

func podChanges() map[string]change {
	return map[string]change{
		"a root filesystem": {
			"single", workerFile, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "its root filesystem can be written",
		},
		"a root filesystem, setup": {
			"single", "k8s/base/setup.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false",
			"Job/setup: container setup: its root",
		},
		"root": {
			"single", workerFile, "runAsNonRoot: true", "runAsNonRoot: false", "pod must not set securityContext.runAsNonRoot=false",
		},
		"user 0": {"single", workerFile, "runAsUser: 65532", "runAsUser: 0", "runAsUser=0"},
		"privileges": {
			"single", workerFile, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation=false",
		},
		"capabilities": {"single", natsFile, "drop: [ALL]", "drop: [NET_RAW]", `capabilities.drop=["ALL"]`},
		"no seccomp":   {"single", natsFile, "type: RuntimeDefault", "type: Unconfined", "seccompProfile"},
		"the node's network": {
			"single", workerFile, "enableServiceLinks: false", "enableServiceLinks: false\n      hostNetwork: true", "hostNetwork=true",
		},
		"a folder of the node": {
			"single", natsFile, "emptyDir:\n            medium: Memory\n            sizeLimit: 1Mi", "hostPath: {path: /run}", "hostPath",
		},
		"a lax namespace": {
			"single", "k8s/base/namespace.yaml", "enforce: restricted", "enforce: baseline", "enforce is \"baseline\"",
		},
		"a namespace without a version": {
			"single", "k8s/base/namespace.yaml", "warn-version: v1.33", "warn-version: latest", "the version of warn is not pinned",
		},
		"a token":                      {"single", workerFile, "      automountServiceAccountToken: false\n", "", "Deployment/worker: has a token"},
		"an account that gives tokens": {"single", natsFile, "automountServiceAccountToken: false\n", "", "ServiceAccount/nats: gives out tokens"},
		"no account":                   {"single", workerFile, "      serviceAccountName: worker\n", "", "has no service account of its own"},
		"service links":                {"single", workerFile, "      enableServiceLinks: false\n", "", "enableServiceLinks is not false"},
		"no fsGroup":                   {"single", workerFile, "        fsGroup: 65532\n", "", "no fsGroup"},
		"secrets that all may read": {
			"single", workerFile, "secretName: worker-cards\n            defaultMode: 288", "secretName: worker-cards",
			"volume cards: its mode is 0644",
		},
		"a secret in a variable": {
			"single", workerFile, "- name: GOMEMLIMIT",
			"- name: SEED\n              valueFrom: {secretKeyRef: {name: worker-nats, key: nkey}}\n            - name: GOMEMLIMIT",
			"SEED is a secret in the environment",
		},
		"secrets in the variables": {
			"single", natsFile, "- configMapRef:", "- secretRef: {name: nats-store}\n            - configMapRef:", "a secret is in the environment",
		},
		"subPath": {
			"single", workerFile, "mountPath: /etc/discount/cards,", "mountPath: /etc/discount/cards, subPath: a,", "subPath",
		},
		"a secret that can be written": {
			"single", workerFile, "mountPath: /etc/discount/cards, readOnly: true", "mountPath: /etc/discount/cards",
			"/etc/discount/cards can be written",
		},
		"no memory limit": {
			"single", workerFile, "limits: {cpu: \"2\", memory: 512Mi,", "limits: {cpu: \"2\",", "no request and limit of memory",
		},
		"a collector without a goal": {"single", workerFile, "GOMEMLIMIT", "GOGC", "no GOMEMLIMIT"},
		"a goal above the limit":     {"single", workerFile, "460MiB", "600MiB", "GOMEMLIMIT 600MiB is not nine tenths"},
		"the latest image":           {"single", natsFile, "nats:2.15.2-alpine", "nats:latest", "nats:latest is no certain image"},
		"an image without a tag":     {"single", natsFile, "nats:2.15.2-alpine", "nats", "nats is no certain image"},
		"liveness that asks readiness": {
			"single", workerFile, "livenessProbe:\n            httpGet: {path: /healthz", "livenessProbe:\n            httpGet: {path: /readyz",
			"asks something else than /healthz",
		},
		"liveness that kills soon":  {"single", workerFile, "periodSeconds: 20", "periodSeconds: 10", "kills within less than a minute"},
		"no readiness":              {"single", natsFile, "readinessProbe:", "livenessProbe:", "no readiness or no startup probe"},
		"readiness of another page": {"single", workerFile, "path: /readyz", "path: /metrics", "does not ask /readyz"},
		"a probe of no port": {
			"single", natsFile, "tcpSocket: {port: client}", "tcpSocket: {port: monitor}", "a port that the container does not have",
		},
		"a probe that takes too long": {"single", workerFile, "timeoutSeconds: 3", "timeoutSeconds: 9", "longer than its period"},
		"an update with a gap":        {"single", workerFile, "maxUnavailable: 0", "maxUnavailable: 1", "before the new one is ready"},
		"volumes that go":             {"single", natsFile, "whenDeleted: Retain", "whenDeleted: Delete", "its volumes can go with it"},
		"a job that stays":            {"single", "k8s/base/setup.yaml", "  ttlSecondsAfterFinished: 300\n", "", "is in the way of the next"},
		"a job without an end":        {"single", "k8s/base/setup.yaml", "  activeDeadlineSeconds: 1800\n", "", "may try for ever"},
		"nodes on one machine": {
			"cluster", "k8s/overlays/cluster/nats.yaml", "topologyKey: kubernetes.io/hostname", "topologyKey: topology.kubernetes.io/zone",
			"not spread over zones and nodes",
		},
	}
}

func linkChanges() map[string]change {
	return map[string]change{
		"a service of nobody": {
			"single", workerFile, "  clusterIP: None\n  selector:\n    app.kubernetes.io/name: discount-worker",
			"  clusterIP: None\n  selector:\n    app.kubernetes.io/name: worker", "Service/worker: selects 0",
		},
		"a service's wrong port": {
			"single", workerFile, "port: 8090\n      targetPort: admin", "port: 8090\n      targetPort: http",
			"port admin is not one of Deployment/worker",
		},
		"a budget of nobody": {
			"single", natsFile, "  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: nats",
			"  maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: broker", "PodDisruptionBudget/nats: selects no pods",
		},
		"a budget that lets two go": {
			"cluster", natsFile, "  maxUnavailable: 1\n  selector", "  maxUnavailable: 2\n  selector", "maxUnavailable is not 1",
		},
		"a monitor of no service": {
			"single", "k8s/base/monitor.yaml", "    matchLabels:\n      app.kubernetes.io/name: discount-worker",
			"    matchLabels:\n      app.kubernetes.io/name: worker", "ServiceMonitor/worker: selects 0 services",
		},
		"a monitor of no port": {"single", "k8s/base/monitor.yaml", "port: admin", "port: metrics", "has no port metrics"},
		"native histograms only": {
			"single", "k8s/base/monitor.yaml", "scrapeClassicHistograms: true", "scrapeClassicHistograms: false", "classic histograms",
		},
		"no headless service": {"single", natsFile, "serviceName: nats", "serviceName: broker", "has no headless service"},
		"a spread among others": {
			"single", workerFile, "          labelSelector:\n            matchLabels:\n              app.kubernetes.io/name: discount-worker",
			"          labelSelector:\n            matchLabels:\n              app.kubernetes.io/name: nats",
			"is spread among pods that are not its own",
		},
		"a selector without pods": {
			"single", workerFile, "  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: discount-worker",
			"  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: worker", "Service/worker: selects 0",
		},
		"a Secret that nobody makes": {
			"single", workerFile, "secretName: worker-cards", "secretName: worker-keys", "needs the Secret worker-keys, which nobody makes",
		},
		"a file that nobody makes": {
			"single", natsFile, "key: encryption.conf, path: encryption.conf", "key: key.conf, path: encryption.conf",
			"Secret nats-store has no key.conf",
		},
		"a file that is not there": {
			"single", "nats/kustomization.yaml", "      - roles-setup.conf=roles/setup.conf\n", "", "has no roles-setup.conf",
		},
		"a policy of nobody": {
			"single", networkFile, "      app.kubernetes.io/name: discount-setup\n  policyTypes",
			"      app.kubernetes.io/name: setup\n  policyTypes", "NetworkPolicy/setup: selects no pods",
		},
	}
}

func networkChanges() map[string]change {
	const workerIn = "        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: monitoring\n"
	return map[string]change{
		"no default": {
			"single", networkFile, "  podSelector: {}\n  policyTypes: [Ingress, Egress]", "  podSelector: {}\n  policyTypes: [Ingress]",
			"closes everything",
		},
		"no default, to strangers": {
			"single", networkFile, "  podSelector: {}\n  policyTypes: [Ingress, Egress]", "  podSelector: {}\n  policyTypes: [Egress]",
			"Prometheus to a stranger:8090: is open",
		},
		"metrics for everybody": {"single", networkFile, "    - from:\n" + workerIn + "      ports:", "    - ports:", "is open to everybody"},
		"metrics for all pods":  {"single", networkFile, workerIn, "        - podSelector: {}\n", "is open to all pods"},
		"metrics for all spaces": {
			"single", networkFile, "Selector:\n            matchLabels:\n              kubernetes.io/metadata.name: monitoring\n", "Selector: {}\n",
			"is open to all namespaces",
		},
		"metrics for others": {"single", networkFile, "name: monitoring", "name: default", "Prometheus to worker:8090: is closed"},
		"a port that is not there": {
			"single", networkFile, "{protocol: TCP, port: admin}", "{protocol: TCP, port: http}",
			"lets in at a port that Deployment/worker does not have",
		},
		"all ports":            {"single", networkFile, "      ports:\n        - {protocol: TCP, port: 443}\n", "", "is open at every port"},
		"all of the Internet":  {"single", networkFile, "203.0.113.0/24", "0.0.0.0/0", "0.0.0.0/0 is too wide"},
		"the cloud's metadata": {"single", networkFile, "203.0.113.0/24", "169.254.0.0/16", "worker to metadata:443: is open"},
		"no range":             {"single", networkFile, "203.0.113.0/24", "pgapi.easypay.co.kr", "is no range of addresses"},
		"a worker without a broker": {
			"single", networkFile, "        - {protocol: TCP, port: 4222}", "        - {protocol: TCP, port: 4223}",
			"worker to nats:4222: is closed",
		},
		"a broker for everybody": {
			"single", networkFile,
			"        - namespaceSelector:\n            matchLabels:\n              discountquery.example/nats-client: \"true\"\n          podSelector",
			"        - namespaceSelector:\n            matchExpressions: [{key: kubernetes.io/metadata.name, operator: Exists}]\n          podSelector",
			"a client without the label of its namespace to nats:4222: is open",
		},
		"nodes that can't meet": {"cluster", "k8s/overlays/cluster/network.yaml", "port: 6222", "port: 6223", "nats to nats:6222: is closed"},
		"no names":              {"single", networkFile, "k8s-app: kube-dns", "k8s-app: dns", "worker to DNS:53: is closed"},
		"a setup that calls": {
			"single", networkFile,
			"  name: worker-upstreams\nspec:\n  podSelector:\n    matchLabels:\n      app.kubernetes.io/name: discount-worker",
			"  name: worker-upstreams\nspec:\n  podSelector:\n    matchLabels:\n      app.kubernetes.io/name: discount-setup",
			"Job/setup: only the worker calls",
		},
	}
}

func settingChanges() map[string]change {
	return map[string]change{
		"an unknown setting": {"single", singleFile, "nkey_file:", "nkey:", "unknown key"},
		"an invalid setting": {"single", singleFile, "https://testpgapi", "http://testpgapi", "must begin with https"},
		"an unknown variable": {
			"single", "k8s/base/setup.yaml", "DISCOUNT_NATS__INBOX_PREFIX", "DISCOUNT_NATS__INBOX", "unknown variable",
		},
		"an embedded broker":    {"single", singleFile, "url: tls://nats-0.nats:4222", "url: \"\"", "nats.url"},
		"a broker in the clear": {"single", singleFile, "tls://nats-0", "nats://nats-0", "is not like tls://host:4222"},
		"another broker": {
			"single", singleFile, "tls://nats-0.nats", "tls://nats-0.broker", "names [nats-0.broker] instead of [nats-0.nats]",
		},
		"no queue for a client": {
			"example", "k8s/example/worker.yaml", "clients: [shop, pos]", "clients: [shop]", "clients is [shop], and the broker has accounts for [pos shop]",
		},
		"one queue for all": {"single", singleFile, "clients: [shop, pos]\n", "", "clients is [], and the broker has accounts for [pos shop]"},
		"a client without an account": {
			"cluster", "k8s/overlays/cluster/worker.yaml", "clients: [shop, pos]", "clients: [pos, shop, web]", "clients is [pos shop web]",
		},
		"a node left out": {"cluster", "k8s/overlays/cluster/worker.yaml", ",tls://nats-2.nats:4222", "", "nats.url names"},
		"streams on one node": {
			"cluster", "k8s/overlays/cluster/worker.yaml", "replicas: 3", "replicas: 1", "streams.replicas is 1 and there are 3 nodes",
		},
		"keys in another folder": {
			"single", singleFile, "keys_dir: /etc/discount/cards", "keys_dir: /etc/discount/keys",
			"/etc/discount/keys/any.jwk is in no mounted folder",
		},
		"a seed of another name": {
			"single", singleFile, "nkey_file: /etc/discount/nats/nkey", "nkey_file: /etc/discount/nats/seed", "the Secret worker-nats has no seed",
		},
		"a key that is a setting": {
			"single", singleFile, "nkey_file: /etc/discount/nats/nkey", "nkey_file: /etc/discount/config/nkey", "is in no Secret",
		},
		"any authority": {"single", singleFile, "  tls:\n    ca_file: /etc/discount/nats/ca.crt\n", "", "nats.tls.ca_file is empty"},
		"a key of UnionPay's elsewhere": {
			"example", "k8s/example/worker.yaml", "/etc/discount/upstreams/unionpay-sign.pem", "/etc/unionpay-sign.pem",
			"/etc/unionpay-sign.pem is in no mounted folder",
		},
		"pages of another port":     {"single", singleFile, `listen: ":8090"`, `listen: ":8091"`, `admin.listen ":8091" is not its port`},
		"pages that nobody reaches": {"single", singleFile, `listen: ":8090"`, "listen: 127.0.0.1:8090", "nobody outside the pod reaches it"},
		"cards in the clear":        {"single", singleFile, "cards:\n", "cards:\n  accept_plain: true\n", "cards.accept_plain is for tests"},
		"an early kill": {
			"single", workerFile, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 30",
			"terminationGracePeriodSeconds is 30s, and shutdown.grace with one attempt takes 30s",
		},
		"a longer grace": {"single", singleFile, "admin:\n", "shutdown:\n  grace: 40s\nadmin:\n", "with one attempt takes 45s"},
		"longer attempts": {
			"example", "k8s/example/worker.yaml", "    mall_id:", "    timeout: 20s\n    mall_id:", "with one attempt takes 45s",
		},
		"another file": {"single", workerFile, "config/worker.yaml", "config/settings.yaml", "1 pods read"},
	}
}

func brokerChanges() map[string]change {
	const cluster = "k8s/overlays/cluster/nats.yaml"
	return map[string]change{
		"a mistake in the files": {"single", "nats/common.conf", "max_control_line: 4KB", "max_control_lines: 4KB", "unknown field"},
		"a variable left out": {
			"single", natsFile, "            - name: NATS_TLS_VERIFY\n              value: \"false\"\n", "", "NATS_TLS_VERIFY",
		},
		"a user left out":         {"example", "k8s/example/nats-users.env", "NATS_ADMIN=public-nkey-of-the-admin\n", "", "NATS_ADMIN"},
		"a certificate elsewhere": {"single", natsFile, "/etc/nats-tls/tls.crt", "/etc/nats/tls.crt", "its configuration"},
		"another port":            {"single", natsFile, "0.0.0.0:4222", "0.0.0.0:4223", "clients connect to 4223"},
		"a store in memory":       {"single", natsFile, "value: /data", "value: /run/nats", "is not on its volume"},
		"a store larger than it":  {"single", natsFile, "storage: 32Gi", "storage: 20Gi", "its volume has"},
		"a monitoring port": {
			"single", "nats/common.conf", "listen: $NATS_LISTEN", "listen: $NATS_LISTEN\nhttp: 8222", "it has a monitoring port",
		},
		"clients that must run": {
			"single", natsFile, "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 30", "its clients take 40s to leave",
		},
		"one node that looks for two": {"single", natsFile, "/etc/nats/single.conf", "/etc/nats/cluster.conf", "its configuration"},
		"three that do not look":      {"cluster", cluster, "/etc/nats/cluster.conf", "/etc/nats/single.conf", "its routes are [] instead of"},
		"a route to nobody":           {"cluster", cluster, "nats://nats-2.nats:6222", "nats://nats-3.nats:6222", "its routes are"},
		"a route to another port":     {"cluster", cluster, "nats://nats-2.nats:6222", "nats://nats-2.nats:4222", "has another port"},
		"a listener nobody opens":     {"cluster", cluster, "0.0.0.0:6222", "0.0.0.0:6223", "nodes connect to 6223"},
		"another inbox": {
			"single", singleFile, "inbox_prefix: _INBOX_worker", "inbox_prefix: _INBOX_setup",
			"Deployment/worker: the broker does not let it read _INBOX_setup.>",
		},
		"the worker's inbox": {
			"single", "k8s/base/setup.yaml", "value: _INBOX_setup", "value: _INBOX_worker", "Job/setup: the broker does not let it read",
		},
		"no file at all": {"single", natsFile, "args: [-c, ", "args: [--config, ", "no -c among"},
	}
}

func scalingChanges() map[string]change {
	return map[string]change{
		"replicas beside it": {
			"keda", "k8s/overlays/keda/kustomization.yaml", "path: /spec/replicas", "path: /spec/minReadySeconds",
			"has replicas, and a ScaledObject too",
		},
		"nobody says how many": {"single", workerFile, "  replicas: 1\n", "", "nobody says how many"},
		"one may be enough":    {"keda", kedaFile, "minReplicaCount: 2", "minReplicaCount: 1", "scales from 1 to 10"},
		"another target": {
			"keda", kedaFile, "  scaleTargetRef:\n    name: worker", "  scaleTargetRef:\n    name: nats", "does not scale the worker",
		},
		"none without figures": {"keda", kedaFile, "behavior: currentReplicasIfHigher", "behavior: static", "when it has no figures"},
		"gone at once":         {"keda", kedaFile, "stabilizationWindowSeconds: 300", "stabilizationWindowSeconds: 0", "takes workers away at once"},
		"the lag":              {"keda", kedaFile, "type: prometheus", "type: nats-jetstream", "must be prometheus"},
		"an average":           {"keda", kedaFile, "metricType: AverageValue", "metricType: Value", "is not the number of replicas"},
		"half a replica":       {"keda", kedaFile, `threshold: "1"`, `threshold: "2"`, "is not the number of replicas"},
		"no answer":            {"keda", kedaFile, `ignoreNullValues: "false"`, `ignoreNullValues: "true"`, "takes no answer for none to do"},
		"another metric":       {"keda", kedaFile, "discount_worker_demand_replicas{", "discount_worker_backlog{", "something else than the demand"},
		"another namespace":    {"keda", kedaFile, `namespace="discount"`, `namespace="shop"`, "its query is not for"},
		"another job": {
			"keda", "k8s/base/monitor.yaml", "spec:\n", "spec:\n  jobLabel: app.kubernetes.io/name\n", "other labels than the query asks for",
		},
	}
}
