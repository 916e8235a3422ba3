package main

import (
	"fmt"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
)

// checkScaling looks at who says how many workers there are: the autoscaler, if there is one, and nobody beside it.
func checkScaling(f *findings, r *rendered) {
	worker, found := named[*appsv1.Deployment](r, "worker")
	if !found {
		f.addf("there is no Deployment of the worker")
		return
	}
	scaled := all[*scaledObject](r)
	f.wantf(len(scaled) == 0 || worker.Spec.Replicas == nil, "%s: has replicas, and a ScaledObject too", name(worker))
	f.wantf(len(scaled) > 0 || worker.Spec.Replicas != nil, "%s: nobody says how many there are", name(worker))
	for _, s := range scaled {
		target := s.Spec.ScaleTargetRef
		f.wantf(target.Name == worker.Name && (target.Kind == "" || target.Kind == "Deployment"), "%s: does not scale the worker", name(s))
		least, most := s.Spec.MinReplicaCount, s.Spec.MaxReplicaCount
		f.wantf(least >= 2 && most > least, "%s: scales from %d to %d: at least 2, and then some", name(s), least, most)
		fallback := s.Spec.Fallback
		f.wantf(fallback.Replicas >= least && fallback.Behavior == "currentReplicasIfHigher",
			"%s: takes workers away when it has no figures", name(s))
		down := s.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior.ScaleDown
		f.wantf(down != nil && deref(down.StabilizationWindowSeconds) >= 300, "%s: takes workers away at once", name(s))
		f.wantf(len(s.Spec.Triggers) == 1, "%s: has %d triggers instead of one", name(s), len(s.Spec.Triggers))
		for _, t := range s.Spec.Triggers {
			checkTrigger(f, r, s, t)
		}
	}
}

// checkTrigger looks whether KEDA makes the right number of what Prometheus answers.
func checkTrigger(f *findings, r *rendered, s *scaledObject, t trigger) {
	query := t.Metadata["query"]
	f.wantf(t.Type == "prometheus", "%s: the trigger is %s: see its comment for why it must be prometheus", name(s), t.Type)
	f.wantf(t.MetricType == "AverageValue" && t.Metadata["threshold"] == "1", "%s: the metric is not the number of replicas", name(s))
	f.wantf(t.Metadata["ignoreNullValues"] == "false", "%s: takes no answer for none to do", name(s))
	f.wantf(strings.Contains(query, "discount_worker_demand_replicas"), "%s: asks for something else than the demand", name(s))
	// A service's name is the job, unless the ServiceMonitor says otherwise.
	labels := fmt.Sprintf("{namespace=%q, job=%q}", s.Namespace, "worker")
	f.wantf(strings.Count(query, labels) == 2 && strings.Count(query, "{") == 2, "%s: its query is not for %s", name(s), labels)
	for _, m := range all[*monitoringv1.ServiceMonitor](r) {
		f.wantf(m.Spec.JobLabel == "" && m.Namespace == s.Namespace, "%s: its figures have other labels than the query asks for", name(m))
	}
}
