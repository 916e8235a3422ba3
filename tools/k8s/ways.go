package main

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
)

// checkWays tries every connection between the parties: those that must be possible are, and no other is.
func checkWays(f *findings, r *rendered) {
	must, everybody := ways(r), parties(r)
	for _, from := range everybody {
		for _, to := range everybody {
			if !from.own && !to.own {
				continue
			}
			for _, port := range []int32{53, 443, 4222, 6222, 8090} {
				way := fmt.Sprintf("%s to %s:%d", from.name, to.name, port)
				open := reaches(r, from, to, port)
				f.wantf(open || !must[way], "%s: is closed", way)
				f.wantf(!open || must[way], "%s: is open", way)
			}
		}
	}
	for _, p := range r.pods() {
		calls := len(outside(r, p)) > 0
		f.wantf(calls == (p.owner.GetName() == "worker"), "%s: only the worker calls somebody outside, and it must", p)
	}
}

// outside returns the ranges of addresses that a pod may call.
func outside(r *rendered, p pod) []string {
	var ranges []string
	for _, n := range all[*networkingv1.NetworkPolicy](r) {
		if !selects(&n.Spec.PodSelector, p.Labels) {
			continue
		}
		for _, rule := range n.Spec.Egress {
			for _, peer := range rule.To {
				if peer.IPBlock != nil {
					ranges = append(ranges, peer.IPBlock.CIDR)
				}
			}
		}
	}
	return ranges
}
