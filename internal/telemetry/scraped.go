package telemetry

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// sample is one value of a gauge, with the values of its labels.
type sample struct {
	value  float64
	labels []string
}

// scrape is a gauge that is read when somebody looks at it.
type scrape struct {
	desc *prometheus.Desc
	read func() []sample
}

// scraped returns a gauge whose values read returns. Without any the gauge is absent.
func scraped(name, help string, read func() []sample, labels ...string) *scrape {
	return &scrape{desc: prometheus.NewDesc("discount_worker_"+name, help, labels, nil), read: read}
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(to chan<- *prometheus.Desc) { to <- s.desc }

// Collect implements prometheus.Collector. The names of files can be labels: a second value under the same labels, or one that is no
// UTF-8, would make the whole page an error, so the first value stays and the bytes are replaced.
func (s *scrape) Collect(to chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, one := range s.read() {
		for i, label := range one.labels {
			one.labels[i] = strings.ToValidUTF8(label, "\uFFFD")
		}
		if id := strings.Join(one.labels, "\xff"); !seen[id] {
			seen[id] = true
			to <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, one.value, one.labels...)
		}
	}
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "discount_worker_" + name, Help: help}, labels)
}

// truth returns 1 for yes and 0 for no.
func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
