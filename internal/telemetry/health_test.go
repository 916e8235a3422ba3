package telemetry

import (
	"bufio"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"discountquery.example/worker/internal/decide"
)

// pages returns the handler of the admin pages with its health and metrics.
func pages(parts ...string) (http.Handler, *Health, *Metrics) {
	health, metrics := NewHealth(parts...), NewMetrics("test", both())
	return NewAdmin(health, metrics.Registry()).Handler, health, metrics
}

// get asks for a page.
func get(t *testing.T, handler http.Handler, method, page string, header ...string) *http.Response {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, page, nil)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder.Result()
}

func bodyOf(t *testing.T, response *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	handler, health, _ := pages("worker", "broker")
	for _, step := range []struct {
		do     func()
		status int
		body   string
	}{
		{func() {}, 503, `{"status":"not ready","problems":{"worker":"starting","broker":"starting"}}`},
		{func() { health.Ready("broker") }, 503, `{"status":"not ready","problems":{"worker":"starting"}}`},
		{func() { health.Ready("worker") }, 200, `{"status":"ready"}`},
		{func() { health.Unready("S/c", "gone") }, 503, `{"status":"not ready","problems":{"S/c":"gone"}}`},
		{func() { health.Ready("S/c") }, 200, `{"status":"ready"}`},
	} {
		step.do()
		response := get(t, handler, http.MethodGet, "/readyz")
		require.Equal(t, step.status, response.StatusCode)
		require.Equal(t, "application/json", response.Header.Get("Content-Type"))
		require.JSONEq(t, step.body, bodyOf(t, response))
		alive := get(t, handler, http.MethodGet, "/healthz")
		require.Equal(t, http.StatusOK, alive.StatusCode, "the process runs, whatever is not ready")
		require.JSONEq(t, `{"status":"ok"}`, bodyOf(t, alive))
	}
}

func TestProblemsAreACopy(t *testing.T) {
	t.Parallel()
	health := NewHealth("a")
	health.Problems()["b"] = "changed"
	require.Equal(t, map[string]string{"a": "starting"}, health.Problems())
	require.Empty(t, NewHealth().Problems())
}

func TestMethodsAndPaths(t *testing.T) {
	t.Parallel()
	handler, _, _ := pages()
	for _, page := range []string{"/healthz", "/readyz", "/metrics"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
			response := get(t, handler, method, page)
			require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode, "%s %s", method, page)
			require.Equal(t, "GET, HEAD", response.Header.Get("Allow"))
		}
		require.Equal(t, http.StatusOK, get(t, handler, http.MethodHead, page).StatusCode)
	}
	for _, page := range []string{"/", "/debug/pprof/", "/healthz/x", "/metrics/"} {
		require.Equal(t, http.StatusNotFound, get(t, handler, http.MethodGet, page).StatusCode, page)
	}
}

func TestMetricsPageHasBothFormsOfHistograms(t *testing.T) {
	t.Parallel()
	handler, _, metrics := pages()
	NewRecorder(zap.NewNop(), metrics).Observe(outcome(decide.Complete))
	text := bodyOf(t, get(t, handler, http.MethodGet, "/metrics"))
	require.Contains(t, text, `discount_worker_query_age_seconds_bucket{lane="interactive",provider="easypay",le="2.5"} 1`)
	require.Contains(t, text, `discount_worker_queries_total{action="retry",lane="bulk",provider="unionpay"} 0`)
	require.Contains(t, text, "go_goroutines ")
	require.Contains(t, text, "process_start_time_seconds ")
	requireClean(t, text)

	const protobuf = "application/vnd.google.protobuf"
	native := get(t, handler, http.MethodGet, "/metrics", "Accept", protobuf+";proto=io.prometheus.client.MetricFamily;encoding=delimited")
	media, _, err := mime.ParseMediaType(native.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, protobuf, media, "native buckets travel in this form only")
	require.Contains(t, bodyOf(t, native), "discount_worker_query_age_seconds")

	open := get(t, handler, http.MethodGet, "/metrics", "Accept", "application/openmetrics-text;version=1.0.0")
	require.Contains(t, open.Header.Get("Content-Type"), "application/openmetrics-text")
	require.True(t, strings.HasSuffix(bodyOf(t, open), "# EOF\n"))
}

func TestHealthIsSafeForManyGoroutines(t *testing.T) {
	t.Parallel()
	handler, health, _ := pages("worker")
	var using sync.WaitGroup
	for i := range 8 {
		part := string(rune('a' + i))
		using.Go(func() {
			for range 100 {
				health.Unready(part, "busy")
				_ = health.Problems()
				handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/readyz", nil))
				health.Ready(part)
			}
		})
	}
	using.Wait()
	require.Equal(t, map[string]string{"worker": "starting"}, health.Problems())
}

// TestAdminServes has the real server behind a real listener: what it writes is what a probe reads.
func TestAdminServes(t *testing.T) {
	t.Parallel()
	server := NewAdmin(NewHealth("worker"), NewMetrics("test", nil).Registry())
	require.Positive(t, server.ReadHeaderTimeout)
	require.Positive(t, server.ReadTimeout)
	require.Positive(t, server.WriteTimeout)
	served := httptest.NewUnstartedServer(server.Handler)
	served.Config = server
	served.Start()
	defer served.Close()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(served.URL + "/readyz")
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	line, err := bufio.NewReader(response.Body).ReadBytes('\n')
	require.NoError(t, err)
	var page struct {
		Problems map[string]string `json:"problems"`
	}
	require.NoError(t, json.Unmarshal(line, &page))
	require.Equal(t, map[string]string{"worker": "starting"}, page.Problems)
}
