package main

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	appsv1 "k8s.io/api/apps/v1"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

// clientLabel marks pods that may connect to the broker and are not made here.
const clientLabel = "discountquery.example/nats-client"

// selects tells whether a selector matches labels. One that can't be read matches nothing.
func selects(selector *metav1.LabelSelector, on map[string]string) bool {
	read, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && read.Matches(labels.Set(on))
}

// selected returns the pods that a selector matches.
func (r *rendered) selected(selector *metav1.LabelSelector) []pod {
	return slices.DeleteFunc(r.pods(), func(p pod) bool { return !selects(selector, p.Labels) })
}

// portOf returns the number of a port that a pod has by name or number, 0 if it has none such.
func portOf(p pod, port intstr.IntOrString) int32 {
	for _, c := range p.containers() {
		for _, one := range c.Ports {
			if port.Type == intstr.String && one.Name == port.StrVal || port.Type == intstr.Int && one.ContainerPort == port.IntVal {
				return one.ContainerPort
			}
		}
	}
	return 0
}

// checkLinks looks at everything that finds something else by its labels or by its name.
func checkLinks(f *findings, r *rendered) {
	for _, s := range all[*corev1.Service](r) {
		pods := r.selected(&metav1.LabelSelector{MatchLabels: s.Spec.Selector})
		f.wantf(len(s.Spec.Selector) > 0 && len(pods) == 1, "%s: selects %d kinds of pods instead of one", name(s), len(pods))
		for _, p := range pods {
			for _, port := range s.Spec.Ports {
				f.wantf(portOf(p, port.TargetPort) == port.Port, "%s: port %s is not one of %s", name(s), port.Name, p)
			}
		}
	}
	for _, b := range all[*policyv1.PodDisruptionBudget](r) {
		f.wantf(len(r.selected(b.Spec.Selector)) == 1, "%s: selects no pods, or those of several", name(b))
		f.wantf(b.Spec.MaxUnavailable != nil && b.Spec.MaxUnavailable.IntValue() == 1, "%s: maxUnavailable is not 1", name(b))
	}
	for _, n := range all[*networkingv1.NetworkPolicy](r) {
		ours := n.Spec.PodSelector.MatchLabels[clientLabel] == ""
		f.wantf(!ours || len(r.selected(&n.Spec.PodSelector)) > 0, "%s: selects no pods", name(n))
	}
	checkMonitors(f, r)
	for _, s := range all[*appsv1.StatefulSet](r) {
		service, found := named[*corev1.Service](r, s.Spec.ServiceName)
		f.wantf(found && service.Spec.ClusterIP == corev1.ClusterIPNone, "%s: has no headless service", name(s))
	}
	for _, p := range r.pods() {
		_, found := named[*corev1.ServiceAccount](r, p.Spec.ServiceAccountName)
		f.wantf(found, "%s: its service account does not exist", p)
		for _, spread := range p.Spec.TopologySpreadConstraints {
			f.wantf(selects(spread.LabelSelector, p.Labels), "%s: is spread among pods that are not its own", p)
		}
	}
	for _, a := range all[*corev1.ServiceAccount](r) {
		f.wantf(a.AutomountServiceAccountToken != nil && !*a.AutomountServiceAccountToken, "%s: gives out tokens", name(a))
	}
}

// checkMonitors looks whether Prometheus finds the workers.
func checkMonitors(f *findings, r *rendered) {
	for _, m := range all[*monitoringv1.ServiceMonitor](r) {
		services := slices.DeleteFunc(all[*corev1.Service](r), func(s *corev1.Service) bool { return !selects(&m.Spec.Selector, s.Labels) })
		f.wantf(len(services) == 1, "%s: selects %d services instead of one", name(m), len(services))
		f.wantf(deref(m.Spec.ScrapeClassicHistograms), "%s: the rules need classic histograms", name(m))
		for _, s := range services {
			for _, e := range m.Spec.Endpoints {
				known := slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port })
				f.wantf(known && e.Path == "/metrics", "%s: %s has no port %s with /metrics", name(m), name(s), e.Port)
			}
		}
	}
}

// reference is a ConfigMap or Secret that a pod needs.
type reference struct {
	kind, name string
	// keys are the files that it must have, nil for whatever there is.
	keys []string
}

// references returns what a pod's volumes and environment are made of.
func (p pod) references() []reference {
	var found []reference
	add := func(kind, name string, items []corev1.KeyToPath) {
		one := reference{kind: kind, name: name}
		for _, item := range items {
			one.keys = append(one.keys, item.Key)
		}
		found = append(found, one)
	}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			add("ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items)
		case v.Secret != nil:
			add("Secret", v.Secret.SecretName, v.Secret.Items)
		case v.Projected != nil:
			for _, source := range v.Projected.Sources {
				if source.ConfigMap != nil {
					add("ConfigMap", source.ConfigMap.Name, source.ConfigMap.Items)
				}
				if source.Secret != nil {
					add("Secret", source.Secret.Name, source.Secret.Items)
				}
			}
		}
	}
	for _, c := range p.containers() {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				add("ConfigMap", from.ConfigMapRef.Name, nil)
			}
		}
	}
	return found
}

// byHand returns what is made by hand, as the README says, and the files that each must have, nil for whatever there is.
func byHand() map[string][]string {
	certificate := []string{"tls.crt", "tls.key", "ca.crt"}
	return map[string][]string{
		"Secret/worker-nats": {"nkey", "ca.crt"}, "Secret/setup-nats": {"nkey", "ca.crt"}, "Secret/worker-cards": nil, "Secret/worker-upstreams": nil,
		"Secret/nats-tls": certificate, "Secret/nats-cluster-tls": certificate, "Secret/nats-store": {"encryption.conf"}, "ConfigMap/nats-users": nil,
	}
}

// checkReferences looks whether there is everything that pods need: made here, or known to be made by hand. A Secret is never made here.
func checkReferences(f *findings, r *rendered) {
	for _, s := range all[*corev1.Secret](r) {
		f.addf("%s: a Secret does not belong into a repository", name(s))
	}
	for _, p := range r.pods() {
		for _, ref := range p.references() {
			made, found := named[*corev1.ConfigMap](r, ref.name)
			keys, known := byHand()[ref.kind+"/"+ref.name]
			switch {
			case ref.kind == "ConfigMap" && found:
				for _, key := range ref.keys {
					f.wantf(made.Data[key] != "", "%s: %s has no %s", p, name(made), key)
				}
			case known:
				for _, key := range ref.keys {
					f.wantf(slices.Contains(keys, key), "%s: %s %s has no %s", p, ref.kind, ref.name, key)
				}
			default:
				f.addf("%s: needs the %s %s, which nobody makes", p, ref.kind, ref.name)
			}
		}
	}
	for _, c := range all[*corev1.ConfigMap](r) {
		used := slices.ContainsFunc(r.pods(), func(p pod) bool {
			return slices.ContainsFunc(p.references(), func(ref reference) bool { return fmt.Sprintf("%s/%s", ref.kind, ref.name) == name(c) })
		})
		f.wantf(used, "%s: nobody uses it", name(c))
	}
}
