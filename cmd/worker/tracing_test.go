package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/freeport"
)

func TestTracingIsOffUntilItIsAskedFor(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"
	for name, test := range map[string]struct {
		environ []string
		want    string
		at      string
	}{
		"nothing":                {nil, "", ""},
		"empty endpoint":         {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_TRACES_EXPORTER=", "OTEL_SERVICE_NAME=x"}, "", ""},
		"other prefix":           {[]string{"XOTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"}, "", ""},
		"metrics only":           {[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://localhost:4318"}, "", ""},
		"endpoint":               {[]string{endpoint}, app.TracesHTTP, ""},
		"traces endpoint":        {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://traces.example/v1/traces"}, app.TracesHTTP, ""},
		"exporter":               {[]string{"OTEL_TRACES_EXPORTER=otlp"}, app.TracesHTTP, "http://localhost:4318/v1/traces"},
		"exporter over grpc":     {[]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, app.TracesGRPC, "http://localhost:4317"},
		"grpc":                   {[]string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, app.TracesGRPC, ""},
		"own protocol for it":    {[]string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf"}, app.TracesHTTP, ""},
		"none":                   {[]string{endpoint, "OTEL_TRACES_EXPORTER=none"}, "", ""},
		"disabled":               {[]string{endpoint, "OTEL_SDK_DISABLED=TRUE"}, "", ""},
		"not disabled":           {[]string{endpoint, "OTEL_SDK_DISABLED=yes"}, app.TracesHTTP, ""},
		"off with a bad setting": {[]string{"OTEL_TRACES_SAMPLER=dice"}, "", ""},
		"everything": {[]string{
			endpoint, "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.1", "OTEL_EXPORTER_OTLP_TIMEOUT=3000",
			"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc,x-team=shop", "OTEL_RESOURCE_ATTRIBUTES=a=b,c=d%20e", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
			"OTEL_BSP_MAX_QUEUE_SIZE=100",
		}, app.TracesHTTP, ""},
		"a sampler without a ratio": {[]string{endpoint, "OTEL_TRACES_SAMPLER=always_on", "OTEL_TRACES_SAMPLER_ARG=x"}, app.TracesHTTP, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tracing(test.environ)
			require.NoError(t, err)
			require.Equal(t, app.Tracing{Protocol: test.want, Endpoint: test.at}, got)
		})
	}
}

// TestTracingRefusesWhatItCantUse names the variable, and no value: a header is a password.
func TestTracingRefusesWhatItCantUse(t *testing.T) {
	t.Parallel()
	for set, says := range map[string]string{
		"OTEL_TRACES_EXPORTER=secret":                                  "OTEL_TRACES_EXPORTER must be otlp or none",
		"OTEL_TRACES_EXPORTER=otlp,console":                            "OTEL_TRACES_EXPORTER must be otlp or none",
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/json":                        "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=secret":                    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL must be",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=secret:4317":               "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=ftp://secret":              "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://secret\x01":         "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL",
		"OTEL_EXPORTER_OTLP_HEADERS=secret":                            "OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs",
		"OTEL_EXPORTER_OTLP_HEADERS==secret":                           "OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS=a=secret%zz":                "OTEL_EXPORTER_OTLP_TRACES_HEADERS must be name=value pairs",
		"OTEL_EXPORTER_OTLP_TIMEOUT=10s":                               "OTEL_EXPORTER_OTLP_TIMEOUT must be a whole number above 0",
		"OTEL_EXPORTER_OTLP_TIMEOUT=0":                                 "OTEL_EXPORTER_OTLP_TIMEOUT must be a whole number above 0",
		"OTEL_BSP_MAX_QUEUE_SIZE=-1":                                   "OTEL_BSP_MAX_QUEUE_SIZE must be a whole number above 0",
		"OTEL_BSP_SCHEDULE_DELAY=secret":                               "OTEL_BSP_SCHEDULE_DELAY must be a whole number above 0",
		"OTEL_EXPORTER_OTLP_COMPRESSION=secret":                        "OTEL_EXPORTER_OTLP_COMPRESSION must be gzip or none",
		"OTEL_RESOURCE_ATTRIBUTES=a=b,secret":                          "OTEL_RESOURCE_ATTRIBUTES must be name=value pairs",
		"OTEL_RESOURCE_ATTRIBUTES=a=secret%":                           "OTEL_RESOURCE_ATTRIBUTES must be name=value pairs",
		"OTEL_EXPORTER_OTLP_CERTIFICATE=nowhere.pem":                   "OTEL_EXPORTER_OTLP_CERTIFICATE: open nowhere.pem",
		"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY=nowhere.pem":             "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY: open nowhere.pem",
		"OTEL_TRACES_SAMPLER=dice":                                     "OTEL_TRACES_SAMPLER must be one of always_on,",
		"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=2":   "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1",
		"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=NaN": "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1",
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			_, err := tracing(append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"}, strings.Split(set, " ")...))
			require.ErrorContains(t, err, says)
			require.True(t, isUsage(err))
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// TestRunSaysThatItCantTrace starts the service with a variable that it can't use.
func TestRunSaysThatItCantTrace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stdout, stderr strings.Builder
	environ := []string{"DISCOUNT_DATA_DIR=" + filepath.Join(dir, "data"), "OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}
	code := run(t.Context(), []string{"run"}, environ, strings.NewReader(""), &stdout, &stderr)
	require.Equal(t, exitUsage, code, stderr.String())
	require.Contains(t, stderr.String(), "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc")
	_, err := os.Stat(filepath.Join(dir, "data"))
	require.ErrorIs(t, err, os.ErrNotExist, "nothing was started")
}

// TestAProcessTracesByItsEnvironment runs a real process: the SDK reads its variables from nowhere else.
func TestAProcessTracesByItsEnvironment(t *testing.T) {
	t.Parallel()
	type request struct{ path, authorization, body string }
	requests := make(chan request, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- request{path: r.URL.Path, authorization: r.Header.Get("Authorization"), body: string(body)}
	}))
	t.Cleanup(collector.Close)
	s := &site{dir: t.TempDir(), admin: freeport.Address(t)}
	easypay := freeport.Address(t)
	start(t, "worker", s.dir, "sandbox", "--easypay", easypay, "--unionpay", "", "--admin", "")
	s.config = filepath.Join(s.dir, "worker.yaml")
	settings := fmt.Sprintf("embedded: {listen: \"%s\"}\nadmin: {listen: \"%s\"}\nproviders: {easypay: {base_url: \"http://%s\", mall_id: T5102001}}\n",
		freeport.Address(t), s.admin, easypay)
	require.NoError(t, os.WriteFile(s.config, []byte(settings), 0o600))
	require.Equal(t, exitOK, command(t, "", "keys", "new", "--dir", filepath.Join(s.dir, "keys")).code)
	worker := startWith(t, []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc", "OTEL_SERVICE_NAME=checkout-discounts",
		"OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test", "OTEL_TRACES_SAMPLER=parentbased_always_off",
	}, "worker", s.dir, "run", "-c", s.config)
	require.Eventually(t, func() bool { return s.status("/readyz") == http.StatusOK }, time.Minute, 20*time.Millisecond)
	const sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	got := s.do(t, "ask", "easypay", "--card-cd", "008", "--timeout", "30s", "--traceparent", sampled)
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Contains(t, got.stdout, "4bf92f3577b34da6a3ce929d0e0e4736")
	require.Equal(t, exitOK, s.do(t, "ask", "easypay", "--card-cd", "008", "--timeout", "30s").code)
	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	worker.done <- <-worker.done
	require.Equal(t, exitOK, worker.cmd.ProcessState.ExitCode(), worker.output.String())

	require.NotEmpty(t, requests)
	bodies := ""
	for len(requests) > 0 {
		got := <-requests
		require.Equal(t, "/v1/traces", got.path)
		require.Equal(t, "Bearer abc", got.authorization)
		require.Contains(t, got.body, "checkout-discounts", "the operator's name counts")
		require.NotContains(t, got.body, "discount-worker")
		require.Contains(t, got.body, "deployment.environment.name")
		bodies += got.body
	}
	require.Equal(t, 1, strings.Count(bodies, "process easypay interactive"), "the sampler leaves out what no publisher traces")
}
