package config

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzLoad reads any file: it never panics, and what it accepts can be checked and printed.
func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile(example)
	require.NoError(f, err)
	f.Add(text)
	for _, secret := range secretsInWrongPlaces {
		f.Add([]byte(secret))
	}
	for _, seed := range []string{
		"", "\x00", "---\n---\n", "...", "%YAML 1.1\n---\n", "? ", "{", "[", "&a *a", "a: &a [*a]", "!!binary a: b", "<<: *a", "prefix: |\n  a\n", "prefix: >-\n",
		"providers: {easypay: {codes: {? [a] : b, <<: {a: b}}}}", "nats: {url: nats://u:p@h, ? {a: b} : c}", "\ufeff\xff\xfe", "prefix: \"\\u0000\"", strings.Repeat("[", 300),
		twoAccounts, "providers: {unionpay: {accounts: {a: , b: {pids: [*x, ~]}, c: &x {pids: {}}}}}", "providers: {easypay: {accounts: {a: {mall_ids: a,,b}}}}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := load("fuzz.yaml", text, nil)
		if err != nil {
			require.NotEmpty(t, lines(t, err))
			return
		}
		_ = cfg.Validate()
		require.NoError(t, cfg.Print(io.Discard))
	})
}

// FuzzLoadSecret puts a secret where it does not belong: no error, no print and no check shows it.
func FuzzLoadSecret(f *testing.F) {
	for at, template := range secretTemplates {
		f.Add(uint8(at), "secret")
		f.Add(uint8(at), "*secret")
		f.Add(uint8(at), "{[secret")
		f.Add(uint8(at), "se@cret:1,x")
		f.Add(uint8(at), "\n- secret\n\t"+template)
	}
	f.Fuzz(func(t *testing.T, at uint8, noise string) {
		secret := "Zq9" + noise + "9qZ"
		template := secretTemplates[int(at)%len(secretTemplates)]
		cfg, err := load("fuzz.yaml", []byte(strings.ReplaceAll(template, "SECRET", secret)), nil)
		if err != nil {
			require.NotContains(t, err.Error(), "Zq9")
			return
		}
		if err := cfg.Validate(); err != nil {
			require.NotContains(t, err.Error(), "Zq9")
		}
		if strings.Contains(string(cfg.NATS.URL), secret) {
			require.NotContains(t, fmt.Sprintf("%+v", cfg.NATS.URL), "Zq9", "noise that begins a YAML comment cuts the address, so only whole ones count")
		}
	})
}

// secretTemplates are files with SECRET as a value that is refused, or inside an address.
var secretTemplates = []string{
	"nats: {password: SECRET}\n",
	"nats:\n  token: 'SECRET'\n",
	"nats: SECRET\n",
	"lanes: {bulk: {slots: SECRET}}\n",
	"lanes:\n  bulk:\n    horizon: \"SECRET\"\n",
	"cards: {accept_plain: SECRET}\n",
	"providers: {easypay: {accounts: {a: {mall_ids: [SECRET], pace: {rate: SECRET}}}}}\n",
	"providers:\n  unionpay:\n    accounts:\n      SECRET: {}\n",
	"cards:\n  max_sealed_bytes: SECRET\n",
	"providers: {easypay: {pace: {rate: SECRET}}}\n",
	"log: {level: 'SECRET', format: \"SECRET\"}\n",
	"nats:\n  url: 'nats://user:SECRET@host:4222'\n",
}

// FuzzSize reads any text: a size that is accepted prints and reads back as itself.
func FuzzSize(f *testing.F) {
	for _, seed := range []string{"0", "8KiB", "1GiB", "9223372036854775807", "1.5GiB", "-1", "8388608TiB", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var first, second Size
		if first.UnmarshalText([]byte(text)) != nil {
			require.Zero(t, first)
			return
		}
		require.NoError(t, second.UnmarshalText([]byte(first.String())))
		require.Equal(t, first, second)
	})
}

// FuzzMask reads any address: what stands between :// and the last @ is never shown.
func FuzzMask(f *testing.F) {
	for _, seed := range []string{"secret", "u:secret", "a:b,c", "a@b", "a/b", "a?b", "[::1]:1", "%zz", "a#b", " ", ":"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, noise string) {
		require.NotContains(t, URL("nats://user:Zq9"+noise+"9qZ@host:4222").String(), "Zq9")
		if !strings.Contains(noise, ":") {
			require.NotContains(t, URL("nats://Zq9"+noise+"@host:4222").String(), "Zq9", "what stands alone is a token")
		}
	})
}
