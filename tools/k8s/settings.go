package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"discountquery.example/worker/internal/config"
)

// settingsFile is where a pod of ours has its settings, and adminPort the name of the port of its pages.
const (
	settingsFile = "/etc/discount/config/worker.yaml"
	adminPort    = "admin"
)

// checkSettings reads the settings of each pod that runs the worker's binary with the worker's own loader, and compares them with the pod.
func checkSettings(f *findings, r *rendered) {
	readers := 0
	for _, p := range r.pods() {
		for _, c := range p.containers() {
			if !slices.Contains(c.Args, settingsFile) {
				continue
			}
			readers++
			settings, err := load(r, p, c)
			if err != nil {
				f.addf("%s: its settings: %v", p, err)
				continue
			}
			checkAddresses(f, r, p, settings)
			checkFiles(f, p, c, settings)
			f.wantf(!settings.Cards.AcceptPlain, "%s: cards.accept_plain is for tests", p)
			if _, serves := p.owner.(*appsv1.Deployment); serves {
				checkServing(f, p, c, settings)
			}
		}
	}
	f.wantf(readers == 2, "%d pods read %s instead of the worker and its setup", readers, settingsFile)
}

// load returns the settings that a container runs with: its file, and the variables that win over it.
func load(r *rendered, p pod, c corev1.Container) (config.Config, error) {
	dir, err := os.MkdirTemp("", "k8s-")
	if err != nil {
		return config.Config{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := mount(r, p, c, dir); err != nil {
		return config.Config{}, err
	}
	var environ []string
	for _, e := range c.Env {
		environ = append(environ, e.Name+"="+e.Value)
	}
	settings, err := config.Load(filepath.Join(dir, settingsFile), environ)
	if err == nil {
		err = settings.Validate()
	}
	return settings, err
}

// checkAddresses looks whether the broker's addresses are those of its pods, and whether each stream has a place on as many.
func checkAddresses(f *findings, r *rendered, p pod, settings config.Config) {
	broker, found := brokerOf(r)
	if !found || settings.NATS.URL == "" {
		f.addf("%s: there is no broker: nats.url is %q", p, settings.NATS.URL)
		return
	}
	var hosts []string
	for address := range strings.SplitSeq(string(settings.NATS.URL), ",") {
		parsed, err := url.Parse(address)
		f.wantf(err == nil && parsed.Scheme == "tls" && parsed.Port() == "4222", "%s: nats.url: %s is not like tls://host:4222", p, address)
		if err == nil {
			hosts = append(hosts, parsed.Hostname())
		}
	}
	f.wantf(slices.Equal(hosts, nodes(broker)), "%s: nats.url names %v instead of %v", p, hosts, nodes(broker))
	copies, places := settings.Streams.Replicas, replicasOf(broker)
	f.wantf(copies == places, "%s: streams.replicas is %d and there are %d nodes", p, copies, places)
}

// nodes returns the names of the broker's nodes.
func nodes(broker *appsv1.StatefulSet) []string {
	var all []string
	for i := range replicasOf(broker) {
		all = append(all, fmt.Sprintf("%s-%d.%s", broker.Name, i, broker.Spec.ServiceName))
	}
	return all
}

// checkFiles looks whether each file that the settings name comes from a mounted folder.
func checkFiles(f *findings, p pod, c corev1.Container, settings config.Config) {
	tls := settings.NATS.TLS
	files := []string{settings.NATS.CredentialsFile, settings.NATS.NKeyFile, tls.CAFile, tls.CertFile, tls.KeyFile}
	if _, serves := p.owner.(*appsv1.Deployment); serves {
		files = append(files, upstreamFiles(settings.Providers)...)
		files = append(files, filepath.Join(settings.Cards.KeysDir, "any.jwk"))
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		m := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == filepath.Dir(file) })
		if m < 0 {
			f.addf("%s: %s is in no mounted folder", p, file)
			continue
		}
		v := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == c.VolumeMounts[m].Name })
		if v < 0 || p.Spec.Volumes[v].Secret == nil {
			f.addf("%s: %s is in no Secret", p, file)
			continue
		}
		secret := p.Spec.Volumes[v].Secret.SecretName
		keys := byHand()["Secret/"+secret]
		f.wantf(keys == nil || slices.Contains(keys, filepath.Base(file)), "%s: the Secret %s has no %s", p, secret, filepath.Base(file))
	}
	f.wantf(settings.NATS.TLS.CAFile != "", "%s: nats.tls.ca_file is empty", p)
}

// checkClients looks whether each client that has an account at the broker has a queue of its own. In one queue for all of them, whoever fills it
// keeps the others waiting.
func checkClients(f *findings, p pod, settings config.Config, options *server.Options) {
	var accounts []string
	for _, account := range options.Accounts {
		if client, is := strings.CutPrefix(account.Name, "CLIENT_"); is {
			accounts = append(accounts, client)
		}
	}
	slices.Sort(accounts)
	clients := slices.Sorted(slices.Values(settings.Clients))
	f.wantf(slices.Equal(clients, accounts), "%s: clients is %v, and the broker has accounts for %v", p, clients, accounts)
}

// upstreamFiles returns the files of keys and certificates of the providers, those that are not set as "".
func upstreamFiles(providers config.Providers) []string {
	var files []string
	for _, tls := range []config.TLS{providers.UnionPay.TLS, providers.EasyPay.TLS} {
		files = append(files, tls.CAFile, tls.CertFile, tls.KeyFile)
	}
	for _, account := range providers.UnionPay.AccountNames() {
		one := providers.UnionPay.Account(account)
		files = append(files, one.JWS.PrivateKeyFile, one.Encryption.PublicKeyFile)
		for _, file := range one.Response.KeyFiles {
			files = append(files, file)
		}
	}
	return files
}

// checkServing looks at the worker's pages and at its end.
func checkServing(f *findings, p pod, c corev1.Container, settings config.Config) {
	host, port, err := net.SplitHostPort(settings.Admin.Listen)
	i := slices.IndexFunc(c.Ports, func(one corev1.ContainerPort) bool { return one.Name == adminPort })
	same := err == nil && i >= 0 && port == strconv.Itoa(int(c.Ports[i].ContainerPort))
	f.wantf(same, "%s: admin.listen %q is not its port", p, settings.Admin.Listen)
	f.wantf(host == "", "%s: admin.listen %q: nobody outside the pod reaches it", p, settings.Admin.Listen)
	grace := settings.Shutdown.Grace + longestAttempt(settings)
	given := time.Duration(deref(p.Spec.TerminationGracePeriodSeconds)) * time.Second
	f.wantf(given > grace, "%s: terminationGracePeriodSeconds is %s, and shutdown.grace with one attempt takes %s", p, given, grace)
	f.wantf(c.LivenessProbe != nil && c.ReadinessProbe != nil && c.ReadinessProbe.HTTPGet != nil && c.ReadinessProbe.HTTPGet.Path == "/readyz",
		"%s: no liveness probe, or a readiness probe that does not ask /readyz", p)
}

// longestAttempt returns the longest time that a call to an upstream may take.
func longestAttempt(settings config.Config) time.Duration {
	var longest time.Duration
	easyPay, unionPay := settings.Providers.EasyPay, settings.Providers.UnionPay
	for _, name := range easyPay.AccountNames() {
		longest = max(longest, settings.HTTP.Timeout(easyPay.Account(name).Timeout))
	}
	for _, name := range unionPay.AccountNames() {
		longest = max(longest, settings.HTTP.Timeout(unionPay.Account(name).Timeout))
	}
	return longest
}
