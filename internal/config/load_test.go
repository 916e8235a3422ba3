package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fromText loads a file's text as if it stood in worker.yaml of the working folder.
func fromText(text string, environ ...string) (Config, error) {
	return load("worker.yaml", []byte(text), environ)
}

// lines returns the problems of err, one per line.
func lines(t *testing.T, err error) []string {
	t.Helper()
	problems, ok := errors.AsType[Problems](err)
	require.True(t, ok, "got %v", err)
	return strings.Split(problems.Error(), "\n")
}

func TestLoadWithoutAnything(t *testing.T) {
	t.Parallel()
	cfg, err := Load("", nil)
	require.NoError(t, err)
	require.Equal(t, Default(), cfg)
	require.NoError(t, cfg.Validate())
}

func TestLoadMissingFile(t *testing.T) {
	t.Parallel()
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestLoadFile(t *testing.T) {
	t.Parallel()
	cfg, err := fromText(`
prefix: offers
nats: {url: "nats://a:4222,nats://b:4222", tls: {handshake_first: true}}
streams:
  queries: {max_bytes: 3GiB}
lanes:
  bulk:
    slots: 7
    horizon: 1h30m
    share: 0.25
retry: {multiplier: 1.5}
providers:
  easypay:
    require_card: false
    pace: {rate: 300/m}
`)
	require.NoError(t, err)
	want := Default()
	want.Prefix = "offers"
	want.NATS.URL = "nats://a:4222,nats://b:4222"
	want.NATS.TLS.HandshakeFirst = true
	want.Streams.Queries.MaxBytes = 3 * gib
	want.Lanes.Bulk = BulkLane{Lane: Lane{Slots: 7, Horizon: 90 * time.Minute}, Share: 0.25}
	want.Retry.Multiplier = 1.5
	want.Providers.EasyPay.RequireCard = false
	want.Providers.EasyPay.Pace.Rate = Rate{Calls: 300, Per: time.Minute}
	require.Equal(t, want, cfg)
}

func TestLoadKeepsTextAsWritten(t *testing.T) {
	t.Parallel()
	cfg, err := fromText(`
providers:
  easypay:
    mall_id: 05500001
    codes: {00: ok, 0x1F: transient, yes: broken, VT00: config}
  unionpay:
    proc_type: 01
    app_id: 00520446
    pid: 1_0
    scen_id: 2001-01-01
    jws: {kid: 20190411000000}
    response: {key_files: {0012: a.pem}}
`)
	require.NoError(t, err)
	require.Equal(t, "05500001", cfg.Providers.EasyPay.MallID)
	require.Equal(t, map[string]string{"00": "ok", "0x1F": "transient", "yes": "broken", "VT00": "config"}, cfg.Providers.EasyPay.Codes)
	require.Equal(t, "01", cfg.Providers.UnionPay.ProcType)
	require.Equal(t, "00520446", cfg.Providers.UnionPay.AppID)
	require.Equal(t, "1_0", cfg.Providers.UnionPay.PID)
	require.Equal(t, "2001-01-01", cfg.Providers.UnionPay.ScenID)
	require.Equal(t, "20190411000000", cfg.Providers.UnionPay.JWS.KID)
	require.Equal(t, map[string]string{"0012": "a.pem"}, cfg.Providers.UnionPay.Response.KeyFiles)
}

func TestLoadNothingGivenKeepsDefaults(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":          "",
		"comments":       "# nothing\n",
		"document start": "---\n",
		"null":           "null\n",
		"empty group":    "nats:\nlanes:\n  bulk:\n",
		"empty value":    "prefix:\nlanes: {bulk: {slots: ~}}\n",
		"empty table":    "providers: {easypay: {codes: {}}}\n",
		"byte order":     "\ufeffprefix: discount\n",
		"document end":   "prefix: discount\n...\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := fromText(text)
			require.NoError(t, err)
			require.Equal(t, Default(), cfg)
		})
	}
}

func TestLoadEmptiesWhatIsWrittenEmpty(t *testing.T) {
	t.Parallel()
	cfg, err := fromText(`admin: {listen: ""}`, "DISCOUNT_EMBEDDED__LISTEN=")
	require.NoError(t, err)
	require.Empty(t, cfg.Admin.Listen)
	require.Empty(t, cfg.Embedded.Listen)
}

func TestLoadRefusesFile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"misspelt":      {"lanes:\n  interactive:\n    slot: 3\n", "worker.yaml:3: lanes.interactive.slot: unknown key; did you mean lanes.interactive.slots?"},
		"wrong case":    {"Prefix: x\n", "worker.yaml:1: Prefix: unknown key; did you mean prefix?"},
		"wrong group":   {"lane:\n  bulk: {slots: 1}\n", "worker.yaml:1: lane: unknown key; did you mean lanes?"},
		"wrong level":   {"max_deliver: 4\n", "worker.yaml:1: max_deliver: unknown key; did you mean consumer.max_deliver?"},
		"dotted":        {"nats.url: nats://h\n", "worker.yaml:1: nats.url: unknown key; write its levels as nested keys"},
		"far from all":  {"qqqqqqqqqq: 1\n", "worker.yaml:1: qqqqqqqqqq: unknown key"},
		"no name":       {"\"MIIEvQ IBADANBgkq=\": 1\n", "worker.yaml:1: unknown key (not shown, because it does not look like one)"},
		"merge":         {"<<: {prefix: a}\n", "worker.yaml:1: unknown key (not shown, because it does not look like one)"},
		"twice":         {"prefix: a\nprefix: b\n", "worker.yaml:2: prefix: is given twice; keep one"},
		"row twice":     {"providers: {easypay: {codes: {00: ok, \"00\": empty}}}\n", "worker.yaml:1: providers.easypay.codes: gives one name twice; keep one"},
		"row null":      {"providers: {easypay: {codes: {00: }}}\n", "worker.yaml:1: providers.easypay.codes: must be a table of names and single values"},
		"row nested":    {"providers: {easypay: {codes: {00: {a: b}}}}\n", "worker.yaml:1: providers.easypay.codes: must be a table of names and single values"},
		"table as text": {"providers: {easypay: {codes: ok}}\n", "worker.yaml:1: providers.easypay.codes: must be a mapping: one name and value per line, indented below it"},
		"group as text": {"nats: nats://h\n", "worker.yaml:1: nats: must be a mapping: one name and value per line, indented below it"},
		"text as group": {"prefix: {a: b}\n", "worker.yaml:1: prefix: must be a single value"},
		"text as list":  {"nats:\n  url:\n    - nats://h\n", "worker.yaml:3: nats.url: must be a single value"},
		"alias":         {"prefix: &a x\ndata_dir: *a\n", "worker.yaml:2: data_dir: is an alias, which is not read here; write the value out"},
		"tag":           {"prefix: !env NAME\n", "worker.yaml:1: prefix: has a YAML tag, which is not read here; write the value alone"},
		"list":          {"- prefix\n", "worker.yaml:1: must be a mapping of keys and values"},
		"text":          {"hunter2\n", "worker.yaml:1: must be a mapping of keys and values"},
		"two documents": {"prefix: a\n---\nprefix: b\n", "worker.yaml:2: must hold one YAML document only, and nothing behind it"},
		"tab":           {"nats:\n\turl: x\n", "worker.yaml:2: is not valid YAML; check the indentation (spaces, never tabs), colons and quotes"},
		"unknown alias": {"prefix: *hunter2\n", "worker.yaml: is not valid YAML; check the indentation (spaces, never tabs), colons and quotes"},
		"whole number":  {"lanes: {bulk: {slots: 1.5}}\n", "worker.yaml:1: lanes.bulk.slots: must be a whole number"},
		"octal":         {"lanes: {bulk: {slots: 0o17}}\n", "worker.yaml:1: lanes.bulk.slots: must be a whole number"},
		"number":        {"retry: {jitter: .nan}\n", "worker.yaml:1: retry.jitter: must be a number"},
		"infinite":      {"retry: {jitter: Inf}\n", "worker.yaml:1: retry.jitter: must be a number"},
		"truth":         {"cards: {accept_plain: yes}\n", "worker.yaml:1: cards.accept_plain: must be true or false"},
		"duration":      {"shutdown: {grace: 25}\n", "worker.yaml:1: shutdown.grace: must be a duration with units, such as 200ms, 30s or 1h30m"},
		"size":          {"cards: {max_sealed_bytes: 8K}\n", "worker.yaml:1: cards.max_sealed_bytes: " + errSize.Error()},
		"rate":          {"providers: {easypay: {pace: {rate: 10}}}\n", "worker.yaml:1: providers.easypay.pace.rate: " + errRate.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := fromText(test.text)
			require.Equal(t, []string{test.want}, lines(t, err))
			require.Zero(t, cfg)
		})
	}
}

func TestLoadReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := fromText("prefx: a\nlanes: {bulk: {slots: many}}\n", "DISCOUNT_LOG__LEVELS=debug", "DISCOUNT_SHUTDOWN__GRACE=soon")
	require.Equal(t, []string{
		"worker.yaml:1: prefx: unknown key; did you mean prefix?",
		"DISCOUNT_LOG__LEVELS: unknown variable; did you mean DISCOUNT_LOG__LEVEL?",
		"worker.yaml:2: lanes.bulk.slots: must be a whole number",
		"DISCOUNT_SHUTDOWN__GRACE: shutdown.grace: must be a duration with units, such as 200ms, 30s or 1h30m",
	}, lines(t, err))
}

// secretsInWrongPlaces are files in which a value stands where another type or key belongs.
var secretsInWrongPlaces = []string{
	"nats: {password: hunter2}\n",
	"nats: {url: [hunter2]}\n",
	"nats: hunter2\n",
	"lanes: {bulk: {slots: hunter2, horizon: hunter2}}\n",
	"cards: {accept_plain: hunter2, max_sealed_bytes: hunter2}\n",
	"retry: {jitter: hunter2}\n",
	"providers: {easypay: {pace: {rate: hunter2}, codes: hunter2}}\n",
	"nats: *hunter2\n",
	"prefix: !hunter2 a\n",
	"prefix: \"hunter2\n",
	"hunter2\n",
	"prefix: a\n--- hunter2\n",
	"? {password: hunter2}\n: a\n",
}

func TestLoadNeverRepeatsValues(t *testing.T) {
	t.Parallel()
	for _, text := range secretsInWrongPlaces {
		_, err := fromText(text)
		require.Error(t, err, text)
		require.NotContains(t, err.Error(), "hunter2", text)
	}
	_, err := Load("", []string{"DISCOUNT_LANES__BULK__SLOTS=hunter2", "DISCOUNT_PASSWORD=hunter2", "DISCOUNT_NATS=hunter2"})
	require.Len(t, lines(t, err), 3)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestRelativePaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "worker.yaml")
	text := `
cards: {keys_dir: private/keys}
nats: {nkey_file: ../seed.nk, credentials_file: /etc/nats/worker.creds}
providers: {unionpay: {response: {key_files: {"1": up.pem}}}}
`
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	working, err := os.Getwd()
	require.NoError(t, err)

	cfg, err := Load(file, []string{
		"DISCOUNT_NATS__TLS__CA_FILE=ca.pem",
		"DISCOUNT_NATS__TLS__KEY_FILE=",
		"DISCOUNT_PROVIDERS__UNIONPAY__RESPONSE__KEY_FILES__2=env.pem",
	})

	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "private/keys"), cfg.Cards.KeysDir)
	require.Equal(t, filepath.Join(dir, "data"), cfg.DataDir, "defaults move with the file, or writing them down would change them")
	require.Equal(t, filepath.Join(filepath.Dir(dir), "seed.nk"), cfg.NATS.NKeyFile)
	require.Equal(t, "/etc/nats/worker.creds", cfg.NATS.CredentialsFile)
	require.Equal(t, filepath.Join(working, "ca.pem"), cfg.NATS.TLS.CAFile)
	require.Empty(t, cfg.NATS.TLS.KeyFile)
	require.Equal(t, map[string]string{"1": filepath.Join(dir, "up.pem"), "2": filepath.Join(working, "env.pem")}, cfg.Providers.UnionPay.Response.KeyFiles)
	require.Equal(t, "/api", mustLoad(t, "providers: {easypay: {path: /api}}").Providers.EasyPay.Path, "a URL's path is none of the file system")
}

func mustLoad(t *testing.T, text string, environ ...string) Config {
	t.Helper()
	cfg, err := fromText(text, environ...)
	require.NoError(t, err)
	return cfg
}
