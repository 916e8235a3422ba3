package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

const adminHelp = `Sandbox of two upstreams. Not for real cards.

GET  /faults      the faults in force
PUT  /faults      replaces them; the body is their list, empty for none
GET  /stats       counts as JSON
GET  /arrivals    ?provider=easypay|unionpay [&account=ID]: offsets since the start in nanoseconds, as a JSON array
POST /reset       forgets arrivals and counts, arms the faults anew
GET  /healthz     ok

`

// Admin returns the handler of the admin API, through which another process changes faults and reads counts. It has no access
// control: serve it on a loopback address only.
func (s *Sandbox) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, adminHelp+FaultHelp()) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, FormatFaults(s.Faults())+"\n")
	})
	mux.HandleFunc("PUT /faults", s.putFaults)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Stats()) })
	mux.HandleFunc("GET /arrivals", s.getArrivals)
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// putFaults replaces the faults and answers with their list as it was understood.
func (s *Sandbox) putFaults(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	if err != nil {
		writeText(w, http.StatusRequestEntityTooLarge, "the list of faults is too long\n")
		return
	}
	faults, err := ParseFaults(string(body))
	if err == nil {
		err = s.SetFaults(faults)
	}
	if err != nil {
		writeText(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	writeText(w, http.StatusOK, FormatFaults(faults)+"\n")
}

func (s *Sandbox) getArrivals(w http.ResponseWriter, r *http.Request) {
	provider := Provider(r.URL.Query().Get("provider"))
	if s.ledgers[provider] == nil {
		writeText(w, http.StatusBadRequest, "provider must be easypay or unionpay\n")
		return
	}
	times := s.Arrivals(provider)
	if account := r.URL.Query().Get("account"); account != "" {
		times = s.ArrivalsOf(provider, account)
	}
	if times == nil {
		times = []time.Duration{}
	}
	writeJSON(w, times)
}

func writeText(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // Only a client that is gone can fail here.
}
