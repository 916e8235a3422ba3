package main

import (
	"math"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// checkPodSecurity asks the API server's own evaluator whether the namespace enforces the restricted standard, and whether the pods pass it.
func checkPodSecurity(f *findings, r *rendered) {
	namespaces := all[*corev1.Namespace](r)
	f.wantf(len(namespaces) == 1, "there are %d namespaces instead of one", len(namespaces))
	for _, namespace := range namespaces {
		standard, wrong := psa.PolicyToEvaluate(namespace.Labels, psa.Policy{})
		for _, err := range wrong {
			f.addf("%s: %v", name(namespace), err)
		}
		for mode, level := range map[string]psa.LevelVersion{"enforce": standard.Enforce, "audit": standard.Audit, "warn": standard.Warn} {
			f.wantf(level.Level == psa.LevelRestricted, "%s: %s is %q instead of restricted", name(namespace), mode, level.Level)
			f.wantf(!level.Version.Latest(), "%s: the version of %s is not pinned", name(namespace), mode)
		}
		evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
		if err != nil {
			f.addf("no evaluator of pod security: %v", err)
			return
		}
		for _, p := range r.pods() {
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(standard.Enforce, &p.ObjectMeta, &p.Spec))
			f.wantf(result.Allowed, "%s: not restricted: %s", p, result.ForbiddenDetail())
			f.wantf(p.owner.GetNamespace() == namespace.Name, "%s: is not in the namespace %s", p, namespace.Name)
		}
	}
}

// checkSecrets looks at what a pod is given: secrets are files of their own folder, and there is no token of the API server.
func checkSecrets(f *findings, p pod) {
	spec := p.Spec
	f.wantf(spec.AutomountServiceAccountToken != nil && !*spec.AutomountServiceAccountToken, "%s: has a token of the API server", p)
	f.wantf(spec.ServiceAccountName != "" && spec.ServiceAccountName != "default", "%s: has no service account of its own", p)
	f.wantf(spec.EnableServiceLinks != nil && !*spec.EnableServiceLinks, "%s: enableServiceLinks is not false", p)
	f.wantf(spec.SecurityContext != nil && spec.SecurityContext.FSGroup != nil, "%s: no fsGroup, so it can't read its secrets", p)
	for _, v := range spec.Volumes {
		mode := secretMode(v)
		f.wantf(mode == nil || *mode&^0o440 == 0, "%s: volume %s: its mode is %#o instead of 0440 at most", p, v.Name, deref(mode))
	}
	for _, c := range p.containers() {
		for _, e := range c.Env {
			f.wantf(e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil, "%s: container %s: %s is a secret in the environment", p, c.Name, e.Name)
		}
		for _, from := range c.EnvFrom {
			f.wantf(from.SecretRef == nil, "%s: container %s: a secret is in the environment", p, c.Name)
		}
		for _, m := range c.VolumeMounts {
			f.wantf(m.SubPath == "" && m.SubPathExpr == "", "%s: container %s: %s is mounted with subPath and would never change", p, c.Name, m.MountPath)
			i := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
			f.wantf(i < 0 || secretMode(spec.Volumes[i]) == nil || m.ReadOnly, "%s: container %s: %s can be written", p, c.Name, m.MountPath)
		}
	}
}

// secretMode returns the mode of the files of a volume of secrets, nil if it is another volume. Without a mode everybody may read them.
func secretMode(v corev1.Volume) *int32 {
	everybody := int32(0o644)
	switch {
	case v.Secret != nil && v.Secret.DefaultMode != nil:
		return v.Secret.DefaultMode
	case v.Projected != nil && v.Projected.DefaultMode != nil:
		return v.Projected.DefaultMode
	case v.Secret != nil || v.Projected != nil:
		return &everybody
	}
	return nil
}

func deref[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// checkContainer looks at what the standard leaves open: a root filesystem that can't be written, resources, images and probes.
func checkContainer(f *findings, p pod, c corev1.Container) {
	where := p.String() + ": container " + c.Name
	f.wantf(c.SecurityContext != nil && deref(c.SecurityContext.ReadOnlyRootFilesystem), "%s: its root filesystem can be written", where)
	for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		request, limit := c.Resources.Requests[resource], c.Resources.Limits[resource]
		f.wantf(!request.IsZero() && !limit.IsZero() && request.Cmp(limit) <= 0, "%s: no request and limit of %s that fit", where, resource)
	}
	checkMemory(f, where, c)
	tagged := strings.Contains(c.Image, "@sha256:") || strings.Contains(c.Image[strings.LastIndexByte(c.Image, '/')+1:], ":")
	f.wantf(tagged && !strings.HasSuffix(c.Image, ":latest"), "%s: %s is no certain image", where, c.Image)
	if _, once := p.owner.(*batchv1.Job); once {
		return
	}
	f.wantf(c.ReadinessProbe != nil && c.StartupProbe != nil, "%s: has no readiness or no startup probe", where)
	for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.StartupProbe, c.LivenessProbe} {
		if probe == nil {
			continue
		}
		f.wantf(probe.TimeoutSeconds <= probe.PeriodSeconds, "%s: a probe's timeout is longer than its period", where)
		f.wantf(probe.HTTPGet == nil || hasPort(c, probe.HTTPGet.Port.StrVal), "%s: a probe asks a port that the container does not have", where)
		f.wantf(probe.TCPSocket == nil || hasPort(c, probe.TCPSocket.Port.StrVal), "%s: a probe asks a port that the container does not have", where)
	}
	alive := c.LivenessProbe
	if alive == nil {
		return
	}
	f.wantf(alive.HTTPGet != nil && alive.HTTPGet.Path == "/healthz", "%s: the liveness probe asks something else than /healthz", where)
	f.wantf(alive.PeriodSeconds*alive.FailureThreshold >= 60, "%s: the liveness probe kills within less than a minute", where)
}

// checkMemory compares the goal of Go's collector with the memory that there is.
func checkMemory(f *findings, where string, c corev1.Container) {
	i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
	if i < 0 {
		f.addf("%s: no GOMEMLIMIT", where)
		return
	}
	number, ok := strings.CutSuffix(c.Env[i].Value, "MiB")
	mib, err := strconv.Atoi(number)
	limit := c.Resources.Limits.Memory().Value()
	part := float64(mib) * (1 << 20) / math.Max(float64(limit), 1)
	f.wantf(ok && err == nil && part >= 0.85 && part <= 0.92, "%s: GOMEMLIMIT %s is not nine tenths of the memory limit", where, c.Env[i].Value)
}

// hasPort tells whether a container has a port of a name.
func hasPort(c corev1.Container, name string) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
}

// checkWorkloads looks at how pods are replaced, and at the job.
func checkWorkloads(f *findings, r *rendered) {
	for _, d := range all[*appsv1.Deployment](r) {
		rolling := d.Spec.Strategy.RollingUpdate
		f.wantf(rolling != nil && rolling.MaxUnavailable != nil && rolling.MaxUnavailable.IntValue() == 0 && rolling.MaxSurge.IntValue() == 1,
			"%s: an update takes a worker away before the new one is ready", name(d))
		f.wantf(d.Spec.RevisionHistoryLimit != nil, "%s: no revisionHistoryLimit", name(d))
		f.wantf(spread(d.Spec.Template.Spec, corev1.ScheduleAnyway), "%s: not spread over zones and nodes", name(d))
	}
	for _, s := range all[*appsv1.StatefulSet](r) {
		kept := s.Spec.PersistentVolumeClaimRetentionPolicy
		f.wantf(kept != nil && kept.WhenDeleted == appsv1.RetainPersistentVolumeClaimRetentionPolicyType && kept.WhenScaled == kept.WhenDeleted,
			"%s: its volumes can go with it", name(s))
		f.wantf(replicasOf(s) == 1 || spread(s.Spec.Template.Spec, corev1.DoNotSchedule), "%s: not spread over zones and nodes", name(s))
	}
	for _, j := range all[*batchv1.Job](r) {
		f.wantf(j.Spec.TTLSecondsAfterFinished != nil, "%s: stays when it has finished, and is in the way of the next", name(j))
		f.wantf(j.Spec.ActiveDeadlineSeconds != nil && j.Spec.BackoffLimit != nil, "%s: may try for ever", name(j))
	}
}

// spread tells whether pods are spread over zones where that is possible, and over nodes as strictly as is said.
func spread(spec corev1.PodSpec, nodes corev1.UnsatisfiableConstraintAction) bool {
	over := func(key string, action corev1.UnsatisfiableConstraintAction) bool {
		return slices.ContainsFunc(spec.TopologySpreadConstraints, func(c corev1.TopologySpreadConstraint) bool {
			return c.TopologyKey == key && c.WhenUnsatisfiable == action && c.MaxSkew == 1
		})
	}
	return over(corev1.LabelTopologyZone, corev1.ScheduleAnyway) && over(corev1.LabelHostname, nodes)
}

// replicasOf returns how many pods a StatefulSet has.
func replicasOf(s *appsv1.StatefulSet) int {
	if s.Spec.Replicas == nil {
		return 1
	}
	return int(*s.Spec.Replicas)
}
