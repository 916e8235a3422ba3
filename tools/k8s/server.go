package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// brokerOf returns the broker.
func brokerOf(r *rendered) (*appsv1.StatefulSet, bool) { return named[*appsv1.StatefulSet](r, "nats") }

// checkServer has nats-server read the configuration that the broker's pod finds, and compares what it makes of it with the pod.
func checkServer(f *findings, r *rendered) {
	broker, found := brokerOf(r)
	if !found {
		f.addf("there is no StatefulSet of the broker")
		return
	}
	p := pod{PodTemplateSpec: &broker.Spec.Template, owner: broker}
	c := p.Spec.Containers[0]
	options, users, err := readServer(r, p, c)
	if err != nil {
		f.addf("%s: its configuration: %v", p, err)
		return
	}
	f.wantf(hasNumber(c, "client", options.Port), "%s: clients connect to %d, which is no port of it", p, options.Port)
	f.wantf(options.HTTPPort == 0 && options.HTTPSPort == 0, "%s: it has a monitoring port", p)
	f.wantf(options.JetStreamKey != "" && options.TLSConfig != nil, "%s: its store or its connections are not encrypted", p)
	leaving := options.LameDuckDuration + options.LameDuckGracePeriod
	given := time.Duration(deref(p.Spec.TerminationGracePeriodSeconds)) * time.Second
	f.wantf(given > leaving, "%s: terminationGracePeriodSeconds is %s, and its clients take %s to leave", p, given, leaving)
	checkStore(f, broker, options)
	checkRoutes(f, broker, c, options)
	checkPrograms(f, r, options, users)
}

// hasNumber tells whether a container has a port of a name and number.
func hasNumber(c corev1.Container, name string, number int) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name && int(p.ContainerPort) == number })
}

// checkStore looks whether the store is on a volume that is large enough.
func checkStore(f *findings, broker *appsv1.StatefulSet, options *server.Options) {
	claims := broker.Spec.VolumeClaimTemplates
	i := slices.IndexFunc(broker.Spec.Template.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
		return strings.HasSuffix(options.StoreDir, m.MountPath) && len(claims) == 1 && m.Name == claims[0].Name
	})
	f.wantf(i >= 0, "%s: its store %s is not on its volume", name(broker), options.StoreDir)
	for _, claim := range claims {
		size := claim.Spec.Resources.Requests.Storage().Value()
		f.wantf(size > options.JetStreamMaxStore, "%s: its volume has %d bytes, and its store may take %d", name(broker), size, options.JetStreamMaxStore)
	}
}

// checkRoutes looks whether the nodes of a cluster know each other, and whether one node alone looks for no others.
func checkRoutes(f *findings, broker *appsv1.StatefulSet, c corev1.Container, options *server.Options) {
	var hosts []string
	for _, route := range options.Routes {
		hosts = append(hosts, route.Hostname())
		f.wantf(route.Port() == strconv.Itoa(options.Cluster.Port), "%s: the route to %s has another port", name(broker), route.Host)
	}
	if replicasOf(broker) == 1 {
		f.wantf(len(hosts) == 0 && options.Cluster.Port == 0, "%s: one node alone is no cluster", name(broker))
		return
	}
	f.wantf(slices.Equal(hosts, nodes(broker)), "%s: its routes are %v instead of %v", name(broker), hosts, nodes(broker))
	f.wantf(hasNumber(c, "cluster", options.Cluster.Port), "%s: nodes connect to %d, which is no port of it", name(broker), options.Cluster.Port)
	f.wantf(options.Cluster.TLSConfig != nil, "%s: its routes are not encrypted", name(broker))
}

// checkPrograms compares the settings of the worker and of its setup with the broker's: whether replies arrive where they may read, and whether
// both know the same clients.
func checkPrograms(f *findings, r *rendered, options *server.Options, users map[string]string) {
	for _, p := range r.pods() {
		variable := map[string]string{"worker": "NATS_WORKER", "setup": "NATS_SETUP"}[p.owner.GetName()]
		if variable == "" {
			continue
		}
		settings, err := load(r, p, p.Spec.Containers[0])
		i := slices.IndexFunc(options.Nkeys, func(u *server.NkeyUser) bool { return u.Nkey == users[variable] })
		if err != nil || i < 0 {
			f.addf("%s: no settings, or no user %s", p, variable)
			continue
		}
		inbox := settings.NATS.InboxPrefix + ".>"
		f.wantf(slices.Contains(options.Nkeys[i].Permissions.Subscribe.Allow, inbox), "%s: the broker does not let it read %s", p, inbox)
		checkClients(f, p, settings, options)
	}
}

// readServer returns what nats-server makes of a container's files and variables, and the invented users by their variables.
func readServer(r *rendered, p pod, c corev1.Container) (*server.Options, map[string]string, error) {
	users, err := inventedUsers(r, c)
	if err != nil {
		return nil, nil, err
	}
	options, err := readServerWith(r, p, c, users)
	return options, users, err
}

// readServerWith is readServer with users that are known.
func readServerWith(r *rendered, p pod, c corev1.Container, users map[string]string) (*server.Options, error) {
	dir, err := os.MkdirTemp("", "k8s-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := mount(r, p, c, dir); err != nil {
		return nil, err
	}
	at := slices.Index(c.Args, "-c")
	if at < 0 || at+1 == len(c.Args) {
		return nil, fmt.Errorf("no -c among the arguments %q", c.Args)
	}
	variables := map[string]string{}
	for _, e := range c.Env {
		variables[e.Name] = e.Value
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "metadata.name" {
			variables[e.Name] = p.owner.GetName() + "-0"
		}
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return filepath.Dir(e.Value) == m.MountPath || e.Value == m.MountPath }) {
			variables[e.Name] = filepath.Join(dir, e.Value)
		}
	}
	return parse(filepath.Join(dir, c.Args[at+1]), variables, users)
}

// parsing keeps readings apart, because they read the variables of this process.
var parsing sync.Mutex

// parse has nats-server read a file with these variables and no others of its own.
func parse(file string, all ...map[string]string) (*server.Options, error) {
	parsing.Lock()
	defer parsing.Unlock()
	for _, variables := range all {
		for name, value := range variables {
			if err := os.Setenv(name, value); err != nil {
				return nil, err
			}
			defer func() { _ = os.Unsetenv(name) }()
		}
	}
	return server.ProcessConfigFile(file)
}

// userRe finds the variables of users in the broker's files.
var userRe = regexp.MustCompile(`nkey: \$(NATS_[A-Z_]+)`)

// inventedUsers returns a public nkey for each variable of the ConfigMap that a container takes them from. If that is made by hand, it is taken to
// have all that the files ask for.
func inventedUsers(r *rendered, c corev1.Container) (map[string]string, error) {
	var variables []string
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil {
			continue
		}
		if made, found := named[*corev1.ConfigMap](r, from.ConfigMapRef.Name); found {
			for name := range made.Data {
				variables = append(variables, name)
			}
			continue
		}
		for _, files := range all[*corev1.ConfigMap](r) {
			for _, text := range files.Data {
				for _, match := range userRe.FindAllStringSubmatch(text, -1) {
					variables = append(variables, match[1])
				}
			}
		}
	}
	users := map[string]string{}
	for _, variable := range variables {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return nil, err
		}
		if users[variable], err = pair.PublicKey(); err != nil {
			return nil, err
		}
	}
	return users, nil
}
