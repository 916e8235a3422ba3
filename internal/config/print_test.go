package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// printed returns what Print writes.
func printed(t *testing.T, cfg Config) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, cfg.Print(&out))
	return out.String()
}

// printedText returns one setting's value as it is written in a file or a variable.
func printedText(t *testing.T, one setting) string {
	t.Helper()
	return fmt.Sprint(one.printable())
}

func TestPrintCanBeLoaded(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.NATS.URL = "nats://a:4222,nats://b:4222"
	cfg.Lanes.Bulk = BulkLane{Lane: Lane{Slots: 3, Horizon: 36*time.Hour + 30*time.Minute}, Share: 0.25}
	cfg.Retry.Multiplier = 1.5
	cfg.Streams.Queries.MaxMsgSize = 100_001
	cfg.Providers.EasyPay.MallID = "05500001"
	cfg.Providers.EasyPay.Codes = map[string]string{"00": "ok", "VT00": "transient", "no": "empty"}
	cfg.Providers.UnionPay.JWS.KID = "0001"
	cfg.Providers.UnionPay.Response.KeyFiles = map[string]string{"1": "a.pem"}
	require.Equal(t, cfg, mustLoad(t, printed(t, cfg)))
}

// TestPrintedTextsCanBeLoaded has the texts that YAML has other uses for, each as a value, in a list and in a table.
func TestPrintedTextsCanBeLoaded(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"\t", "\t\n", "\n\t", "a\n\tb", "\r\n", " \n", "a\u0085", "\u2028\t", "\ufeff", "\x01", "\x7f", " a ", "", "~", "null", "true", "0x1", "1.5", "2026-11-22",
		"- a", "a: b", "#", "a #b", "{", "[", "&a", "*a", "!a", "|", ">", "%", "@", "`", "'", `"`, `\`, "<<", "=", "---", "...", "\u597d",
	} {
		cfg := Default()
		cfg.DataDir = text
		cfg.Providers.EasyPay.Codes = map[string]string{"00": text}
		cfg.Providers.UnionPay.Response.KeyFiles = map[string]string{"1": text, "2": "b.pem"}
		out := printed(t, cfg)
		again, err := fromText(out)
		require.NoError(t, err, "%q: %s", text, out)
		require.Equal(t, cfg, again, "%q: %s", text, out)
	}
}

func TestPrintMasksSecretsAndShowsPaths(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.NATS.URL = "nats://worker:hunter2@a:4222, nats://hunter2@b:4222,nats://c:4222"
	cfg.NATS.CredentialsFile = "/run/secrets/worker.creds"
	cfg.Providers.EasyPay.BaseURL = "https://me:hunter2@host/?token=hunter2#hunter2"
	out := printed(t, cfg)
	require.NotContains(t, out, "hunter2")
	require.Contains(t, out, "url: nats://worker:xxxxx@a:4222,nats://xxxxx@b:4222,nats://c:4222\n")
	require.Contains(t, out, "base_url: https://me:xxxxx@host/?xxxxx#xxxxx\n")
	require.Contains(t, out, "credentials_file: /run/secrets/worker.creds\n")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(verb, cfg), "hunter2", verb)
	}
	encoded, err := yaml.Marshal(cfg)
	require.NoError(t, err)
	require.NotContains(t, string(encoded), "hunter2")
}

func TestMask(t *testing.T) {
	t.Parallel()
	for address, want := range map[URL]string{
		"":                               "",
		"nats://host:4222":               "nats://host:4222",
		"tls://u:hunter2@host:4222":      "tls://u:xxxxx@host:4222",
		"nats://hunter2@host":            "nats://xxxxx@host",
		"nats://u:@host":                 "nats://u:xxxxx@host",
		"nats://u:hunter2,hunter2@host":  "xxxxx",
		"nats://u:12,34@host":            "xxxxx",
		"u:hunter2@host:4222":            "xxxxx",
		"hunter2@host":                   "xxxxx",
		"nats:hunter2@host":              "xxxxx",
		"nats://u:hun/ter2@host:4222":    "xxxxx",
		"nats://hunter2/a@host:4222":     "xxxxx",
		"nats://hunter2?a@host:4222":     "xxxxx",
		"nats://u:a@hunter2/b@host:4222": "xxxxx",
		"nats://u:hunter2@host:4222,":    "xxxxx",
		"nats://u:hunter2@ho st:4222":    "xxxxx",
		"https://host/path?key=hunter2":  "https://host/path?xxxxx",
		"nats://u:hunter2@[::1]:4222":    "nats://u:xxxxx@[::1]:4222",
		"nats://u:hunter2@a,nats://v@b":  "nats://u:xxxxx@a,nats://xxxxx@b",
		"nats://a:4222 , nats://b:4222 ": "nats://a:4222,nats://b:4222",
	} {
		require.Equal(t, want, address.String(), string(address))
	}
}

func TestPrintIsInTheOrderOfConfig(t *testing.T) {
	t.Parallel()
	out := printed(t, Default())
	last := -1
	for _, name := range []string{"data_dir:", "prefix:", "nats:", "embedded:", "streams:", "lanes:", "providers:", "  easypay:", "  unionpay:"} {
		at := strings.Index(out, "\n"+name)
		if name == "data_dir:" {
			at = strings.Index(out, name)
		}
		require.Greater(t, at, last, name)
		last = at
	}
	require.Contains(t, out, "\n    max_age: 168h\n")
	require.Contains(t, out, "\n      rate: 10/s\n")
}

var errFull = errors.New("full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestPrintReportsFailedWrites(t *testing.T) {
	t.Parallel()
	require.Error(t, Default().Print(fullDisk{}))
}

func TestDurationText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", time.Hour: "1h", 7 * 24 * time.Hour: "168h",
		90 * time.Minute: "1h30m", 10 * time.Second: "10s", time.Hour + time.Second: "1h0m1s",
		200 * time.Millisecond: "200ms", 10 * time.Minute: "10m", 20 * time.Hour: "20h", 70 * time.Second: "1m10s",
	} {
		require.Equal(t, want, duration(d))
		back, err := time.ParseDuration(duration(d))
		require.NoError(t, err)
		require.Equal(t, d, back)
	}
}
