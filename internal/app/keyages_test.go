package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/telemetry"
)

// written sets when the files that match were written.
func written(t *testing.T, at time.Time, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			require.NoError(t, os.Chtimes(file, at, at))
		}
	}
}

// byName returns ages by the use and kid of their keys.
func byName(ages []telemetry.KeyAge) map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, age := range ages {
		all[age.Use+" "+age.KID] = age.Age
	}
	return all
}

func TestAgesOfTheWorkersKeys(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now().Truncate(time.Second)
	files, err := card.NewKeys(dir, now.Add(-48*time.Hour))
	require.NoError(t, err)
	oldKID := filepath.Base(files[0][:len(files[0])-len(".private.jwk")])
	ages := func(at time.Time) map[string]time.Duration {
		ring, err := card.LoadRing(dir)
		require.NoError(t, err)
		return byName(agesOfRing(ring.Keys(), at))
	}
	require.Equal(t, map[string]time.Duration{
		"unseal " + oldKID: 48 * time.Hour, "seal " + oldKID: 48 * time.Hour, "fingerprint fp-" + oldKID: 48 * time.Hour,
	}, ages(now))

	files, err = card.NewKeys(dir, now)
	require.NoError(t, err)
	newKID := filepath.Base(files[0][:len(files[0])-len(".private.jwk")])
	require.Equal(t, map[string]time.Duration{
		"unseal " + oldKID: 47 * time.Hour, "fingerprint fp-" + oldKID: 47 * time.Hour,
		"unseal " + newKID: 0, "seal " + newKID: 0, "fingerprint fp-" + newKID: 0,
	}, ages(now.Add(-time.Hour)), "the newest one seals, and a clock that was set makes no key younger than nothing")
}

func TestAgeOfAKeyThatSealsLaterOrDoesNotTell(t *testing.T) {
	t.Parallel()
	now := time.Now()
	file := filepath.Join(t.TempDir(), "silent.jwk")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	written(t, now.Add(-time.Hour), file)
	require.Equal(t, map[string]time.Duration{"unseal pending": time.Minute, "unseal silent": time.Hour, "seal silent": time.Hour}, byName(agesOfRing([]card.KeyInfo{
		{ID: "silent", File: file, Active: true}, {ID: "pending", Created: now.Add(-time.Minute), From: now.Add(time.Minute)},
	}, now)))
}

func TestAgesOfTheUpstreamsKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	u := &s.Providers.UnionPay
	now := time.Now()
	written(t, now.Add(-time.Hour), u.JWS.PrivateKeyFile)
	written(t, now.Add(-2*time.Hour), u.Encryption.PublicKeyFile)
	for _, file := range u.Response.KeyFiles {
		written(t, now.Add(-3*time.Hour), file)
	}
	u.Response.KeyFiles["gone"] = filepath.Join(t.TempDir(), "gone.pem")
	s.Providers.EasyPay.TLS.KeyFile = u.JWS.PrivateKeyFile
	want := map[string]time.Duration{
		"upstream_sign " + u.JWS.KID: time.Hour, "upstream_encrypt " + u.Encryption.KID: 2 * time.Hour, "upstream_tls easypay/default": time.Hour,
	}
	for kid := range u.Response.KeyFiles {
		want["upstream_verify "+kid] = 3 * time.Hour
	}
	delete(want, "upstream_verify gone")
	require.Equal(t, want, byName(agesOfUpstreams(s.Providers, now)), "a file that is not there has no age")

	u.Enabled = false
	require.Equal(t, map[string]time.Duration{"upstream_tls easypay/default": time.Hour}, byName(agesOfUpstreams(s.Providers, now)))
}
