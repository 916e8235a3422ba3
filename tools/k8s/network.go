package main

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// metadataAddress is where clouds tell machines their credentials.
var metadataAddress = netip.MustParseAddr("169.254.169.254")

// checkPolicies looks at each rule: it must name a peer and a port, and not everybody.
func checkPolicies(f *findings, r *rendered) {
	closed := false
	for _, n := range all[*networkingv1.NetworkPolicy](r) {
		both := len(n.Spec.PolicyTypes) == 2
		closed = closed || both && len(n.Spec.PodSelector.MatchLabels)+len(n.Spec.PodSelector.MatchExpressions)+len(n.Spec.Ingress)+len(n.Spec.Egress) == 0
		for _, rule := range n.Spec.Ingress {
			checkRule(f, name(n)+": ingress", rule.From, rule.Ports)
			for _, p := range r.selected(&n.Spec.PodSelector) {
				for _, port := range rule.Ports {
					f.wantf(port.Port != nil && portOf(p, *port.Port) != 0, "%s: lets in at a port that %s does not have", name(n), p)
				}
			}
		}
		for _, rule := range n.Spec.Egress {
			checkRule(f, name(n)+": egress", rule.To, rule.Ports)
		}
	}
	f.wantf(closed, "no NetworkPolicy closes everything that the others do not open")
}

// checkRule looks at one rule. One that names nobody means everybody, and one that names no port means all of them.
func checkRule(f *findings, where string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	f.wantf(len(peers) > 0, "%s: is open to everybody", where)
	f.wantf(len(ports) > 0, "%s: is open at every port", where)
	for _, port := range ports {
		f.wantf(port.Port != nil && port.EndPort == nil, "%s: is open at more than one port", where)
	}
	for _, peer := range peers {
		f.wantf(peer.NamespaceSelector == nil || !empty(peer.NamespaceSelector), "%s: is open to all namespaces", where)
		f.wantf(peer.PodSelector == nil || !empty(peer.PodSelector), "%s: is open to all pods", where)
		if peer.IPBlock == nil {
			continue
		}
		prefix, err := netip.ParsePrefix(peer.IPBlock.CIDR)
		f.wantf(err == nil, "%s: %q is no range of addresses", where, peer.IPBlock.CIDR)
		f.wantf(err != nil || prefix.Bits() >= 8, "%s: %s is too wide", where, prefix)
		f.wantf(err != nil || !prefix.Contains(metadataAddress), "%s: %s holds the cloud's metadata", where, prefix)
	}
}

func empty(s *metav1.LabelSelector) bool { return len(s.MatchLabels)+len(s.MatchExpressions) == 0 }

// party is one end of a connection: a pod of an overlay, or somebody else.
type party struct {
	name string
	// pod is nil for somebody else.
	pod *pod
	// labels are the pod's, and namespace those of its namespace.
	labels, namespace map[string]string
	// own tells that it is in the namespace of the overlay.
	own bool
	// address is that of who is no pod.
	address netip.Addr
}

// parties are who is at one or the other end: the pods, and others whom they meet.
func parties(r *rendered) map[string]party {
	label := func(key, value string) map[string]string { return map[string]string{key: value} }
	client := label(clientLabel, "true")
	everybody := map[string]party{
		"DNS":        {labels: label("k8s-app", "kube-dns"), namespace: label(corev1.LabelMetadataName, "kube-system")},
		"Prometheus": {labels: label("app.kubernetes.io/name", "prometheus"), namespace: label(corev1.LabelMetadataName, "monitoring")},
		"a client":   {labels: client, namespace: client},
		"a client without the label of its namespace": {labels: client, namespace: label(corev1.LabelMetadataName, "shop")},
		"an operator": {labels: client, own: true},
		"a stranger":  {labels: label("app", "stranger"), own: true},
		"metadata":    {address: metadataAddress},
	}
	for _, p := range r.pods() {
		everybody[p.owner.GetName()] = party{pod: &p, labels: p.Labels, own: true}
	}
	for id, one := range everybody {
		one.name = id
		everybody[id] = one
	}
	return everybody
}

// matches tells whether a peer of a rule is somebody.
func matches(peer networkingv1.NetworkPolicyPeer, who party) bool {
	switch {
	case peer.IPBlock != nil:
		prefix, err := netip.ParsePrefix(peer.IPBlock.CIDR)
		return err == nil && who.address.IsValid() && prefix.Contains(who.address)
	case who.address.IsValid():
		return false
	case peer.NamespaceSelector != nil:
		return selects(peer.NamespaceSelector, who.namespace) && (peer.PodSelector == nil || selects(peer.PodSelector, who.labels))
	default:
		return who.own && peer.PodSelector != nil && selects(peer.PodSelector, who.labels)
	}
}

// reaches tells whether the policies let a connection through. Who is not in the namespace has policies of his own, which are not known here.
func reaches(r *rendered, from, to party, port int32) bool {
	return opens(r, from, networkingv1.PolicyTypeEgress, to, to, port) && opens(r, to, networkingv1.PolicyTypeIngress, from, to, port)
}

// opens tells whether one side of a connection lets it through: nothing selects it, or a rule that does names the other side and the port.
func opens(r *rendered, side party, way networkingv1.PolicyType, other, to party, port int32) bool {
	if !side.own {
		return true
	}
	closed := false
	for _, n := range all[*networkingv1.NetworkPolicy](r) {
		if !slices.Contains(n.Spec.PolicyTypes, way) || !selects(&n.Spec.PodSelector, side.labels) {
			continue
		}
		closed = true
		for _, rule := range n.Spec.Ingress {
			if way == networkingv1.PolicyTypeIngress && fits(rule.From, rule.Ports, other, to, port) {
				return true
			}
		}
		for _, rule := range n.Spec.Egress {
			if way == networkingv1.PolicyTypeEgress && fits(rule.To, rule.Ports, other, to, port) {
				return true
			}
		}
	}
	return !closed
}

func fits(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, other, to party, port int32) bool {
	named := func(p intstr.IntOrString) int32 {
		if p.Type == intstr.Int || to.pod == nil {
			return p.IntVal
		}
		return portOf(*to.pod, p)
	}
	return slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool { return matches(peer, other) }) &&
		slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port != nil && named(*p.Port) == port })
}

// ways are the connections that there must be. All others between these parties there must not be.
func ways(r *rendered) map[string]bool {
	must := map[string]bool{}
	for from, to := range map[string][]string{
		"worker": {"DNS:53", "nats:4222"}, "setup": {"DNS:53", "nats:4222"}, "nats": {"DNS:53"}, "Prometheus": {"worker:8090"},
		"a client": {"nats:4222"}, "an operator": {"nats:4222", "DNS:53"}, "a stranger": {"DNS:53"},
	} {
		for _, one := range to {
			must[from+" to "+one] = true
		}
	}
	if broker, found := brokerOf(r); found && replicasOf(broker) > 1 {
		must["nats to nats:6222"] = true
	}
	return must
}
