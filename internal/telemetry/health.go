package telemetry

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health knows whether the worker is ready for work, and why not. Each part of the worker reports for itself.
type Health struct {
	mu    sync.Mutex
	parts map[string]string
}

// NewHealth returns a health in which the given parts are not ready yet.
func NewHealth(parts ...string) *Health {
	h := &Health{parts: map[string]string{}}
	for _, part := range parts {
		h.parts[part] = "starting"
	}
	return h
}

// Ready notes that a part works, and tells whether that is news.
func (h *Health) Ready(part string) bool { return h.set(part, "") }

// Unready notes that a part does not work and why, in words that hold nothing of a query, and tells whether that is news.
func (h *Health) Unready(part, why string) bool { return h.set(part, why) }

func (h *Health) set(part, why string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, known := h.parts[part]
	h.parts[part] = why
	return before != why || !known && why != ""
}

// Problems returns what is not ready, by part. It is empty if the worker is ready.
func (h *Health) Problems() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	problems := map[string]string{}
	for part, why := range h.parts {
		if why != "" {
			problems[part] = why
		}
	}
	return problems
}

// Admin timeouts: the pages are small and their readers close by.
const adminTimeout = 10 * time.Second

// NewAdmin returns the server of the admin pages: /healthz says that the process runs and depends on nothing else, /readyz whether it
// can do its work, /metrics its figures.
func NewAdmin(health *Health, registry *prometheus.Registry) *http.Server {
	pages := http.NewServeMux()
	pages.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	pages.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if problems := health.Problems(); len(problems) > 0 {
			writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "problems": problems})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"status": "ready"})
	})
	pages.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	return &http.Server{
		Handler: pages, ReadHeaderTimeout: adminTimeout, ReadTimeout: adminTimeout, WriteTimeout: adminTimeout,
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // The reader may have gone; there is nobody else to tell.
}
