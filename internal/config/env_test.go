package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEnvironmentOverridesFile(t *testing.T) {
	t.Parallel()
	cfg := mustLoad(t, "prefix: file\nlanes: {interactive: {slots: 4, horizon: 1m}}\nproviders: {easypay: {codes: {VT00: broken, R102: empty}}}\n",
		"PATH=/bin",
		"discount_prefix=ignored",
		"DISCOUNT_PREFIX=env",
		"DISCOUNT_NATS__URL=nats://u:p=w@host:4222,nats://b",
		"DISCOUNT_LANES__INTERACTIVE__SLOTS=32",
		"DISCOUNT_EMBEDDED__SYNC_ALWAYS=false",
		"DISCOUNT_STREAMS__RESULTS__MAX_AGE=48h",
		"DISCOUNT_STREAMS__RESULTS__MAX_BYTES=5GiB",
		"DISCOUNT_RETRY__JITTER=0.25",
		"DISCOUNT_PROVIDERS__EASYPAY__PACE__RATE=5000/h",
		"DISCOUNT_PROVIDERS__EASYPAY__CODES__VT00=transient",
		"DISCOUNT_PROVIDERS__EASYPAY__CODES__a_b=declined",
	)
	want := Default()
	want.Prefix = "env"
	want.NATS.URL = "nats://u:p=w@host:4222,nats://b"
	want.Lanes.Interactive = Lane{Slots: 32, Horizon: time.Minute}
	want.Embedded.SyncAlways = false
	want.Streams.Results = KeptStream{MaxAge: 48 * time.Hour, MaxBytes: 5 * gib}
	want.Retry.Jitter = 0.25
	want.Providers.EasyPay.Pace.Rate = Rate{Calls: 5000, Per: time.Hour}
	want.Providers.EasyPay.Codes = map[string]string{"VT00": "transient", "R102": "empty", "a_b": "declined"}
	require.Equal(t, want, cfg)
}

func TestEnvironmentHealsFile(t *testing.T) {
	t.Parallel()
	require.Equal(t, 5, mustLoad(t, "lanes: {bulk: {slots: many}}", "DISCOUNT_LANES__BULK__SLOTS=5").Lanes.Bulk.Slots)
}

// TestEveryKeyHasAVariable sets each key by its variable to what it has by default.
func TestEveryKeyHasAVariable(t *testing.T) {
	t.Parallel()
	cfg := Default()
	var environ []string
	for _, one := range settings(&cfg) {
		if one.kind() != single || isPath(one.key) {
			continue
		}
		environ = append(environ, variableOf(one.key)+"="+printedText(t, one))
	}
	require.Greater(t, len(environ), 70)
	require.Equal(t, Default(), mustLoad(t, "", environ...))
}

func TestEnvironmentRefused(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"DISCOUNT_NATS_URL=x":                      "DISCOUNT_NATS_URL: unknown variable; did you mean DISCOUNT_NATS__URL?",
		"DISCOUNT_LANES__INTERACTIVE__SLOT=1":      "DISCOUNT_LANES__INTERACTIVE__SLOT: unknown variable; did you mean DISCOUNT_LANES__INTERACTIVE__SLOTS?",
		"DISCOUNT_SLOTS=1":                         "DISCOUNT_SLOTS: unknown variable; did you mean DISCOUNT_LANES__INTERACTIVE__SLOTS?",
		"DISCOUNT_NATS=x":                          "DISCOUNT_NATS: names a group of keys, not one; add __ and the name of a key in it",
		"DISCOUNT_PROVIDERS__EASYPAY__CODES=x":     "DISCOUNT_PROVIDERS__EASYPAY__CODES: names a group of keys, not one; add __ and the name of a key in it",
		"DISCOUNT_PROVIDERS__EASYPAY__CODES__=x":   "DISCOUNT_PROVIDERS__EASYPAY__CODES__: unknown variable; did you mean DISCOUNT_PROVIDERS__EASYPAY__CODES?",
		"DISCOUNT_PROVIDERS__EASYPAY__CODES__A.B=": "DISCOUNT_PROVIDERS__EASYPAY__CODES__A.B: unknown variable; did you mean DISCOUNT_PROVIDERS__EASYPAY__CODES?",
		"DISCOUNT_PREFIX__A=x":                     "DISCOUNT_PREFIX__A: unknown variable; did you mean DISCOUNT_PREFIX?",
		"DISCOUNT_QQQQQQQQQ=x":                     "DISCOUNT_QQQQQQQQQ: unknown variable",
		"DISCOUNT_=x":                              "DISCOUNT_: unknown variable",
		"DISCOUNT_pass word=x":                     "unknown variable DISCOUNT_... (not shown, because it does not look like one)",
		"DISCOUNT_LANES__BULK__SLOTS=":             "DISCOUNT_LANES__BULK__SLOTS: lanes.bulk.slots: must be a whole number",
	} {
		_, err := Load("", []string{variable})
		require.Equal(t, []string{want}, lines(t, err), variable)
	}
}

// Kubernetes adds variables for each service of the namespace; one named "discount" or "discount-worker" must not stop the worker.
func TestEnvironmentOfKubernetesServicesIsIgnored(t *testing.T) {
	t.Parallel()
	require.Equal(t, Default(), mustLoad(t, "",
		"DISCOUNT_SERVICE_HOST=10.0.0.1",
		"DISCOUNT_SERVICE_PORT=8090",
		"DISCOUNT_SERVICE_PORT_HTTP_METRICS=8090",
		"DISCOUNT_PORT=tcp://10.0.0.1:8090",
		"DISCOUNT_WORKER_SERVICE_HOST=10.0.0.1",
		"DISCOUNT_WORKER_PORT=tcp://10.0.0.1:8090",
		"DISCOUNT_WORKER_PORT_8090_TCP=tcp://10.0.0.1:8090",
		"DISCOUNT_WORKER_PORT_8090_TCP_PROTO=tcp",
		"DISCOUNT_WORKER_PORT_8090_TCP_PORT=8090",
		"DISCOUNT_WORKER_PORT_8090_TCP_ADDR=10.0.0.1",
		"DISCOUNT_WITHOUT_AN_EQUALS_SIGN",
	))
	_, err := Load("", []string{"DISCOUNT_NATS__SERVICE_HOST=x"})
	require.Len(t, lines(t, err), 1)
}
