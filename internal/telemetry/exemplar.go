package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// timed notes a time in a histogram, with the trace it was taken in as its exemplar; "" for none.
func timed(histogram prometheus.Observer, took time.Duration, trace string) {
	recorder, ok := histogram.(prometheus.ExemplarObserver)
	if trace == "" || !ok {
		histogram.Observe(took.Seconds())
		return
	}
	recorder.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": trace})
}
