package main

import (
	"fmt"
	"slices"
)

// findings are what is wrong with an overlay, one sentence each.
type findings []string

func (f *findings) addf(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// wantf notes something that is not as it should be.
func (f *findings) wantf(ok bool, format string, args ...any) {
	if !ok {
		f.addf(format, args...)
	}
}

// check looks at everything that can be known of an overlay without a cluster.
func check(r *rendered) findings {
	f := &findings{}
	checkPodSecurity(f, r)
	for _, p := range r.pods() {
		checkSecrets(f, p)
		for _, c := range p.containers() {
			checkContainer(f, p, c)
		}
	}
	checkWorkloads(f, r)
	checkLinks(f, r)
	checkReferences(f, r)
	checkPolicies(f, r)
	checkWays(f, r)
	checkSettings(f, r)
	checkServer(f, r)
	checkScaling(f, r)
	slices.Sort(*f)
	return slices.Compact(*f)
}
