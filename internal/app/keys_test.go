package app

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
)

// metric returns the value of one of the worker's metrics as it is served, "" if there is none.
func (r *running) metric(t *testing.T, name string) string {
	t.Helper()
	admin := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := admin.Get("http://" + r.AdminAddr() + "/metrics")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// opens waits until the worker has read a key.
func (r *running) opens(t *testing.T, kid string) {
	t.Helper()
	require.Eventually(t, func() bool { return r.metric(t, `discount_worker_sealed_opened_total{kid="`+kid+`"}`) != "" }, patience, 20*time.Millisecond)
}

// seals makes the publisher seal to the key that the workers say, which must be the one given.
func (r *running) seals(t *testing.T, kid string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	r.Sealer, err = r.FetchSealer(ctx)
	require.NoError(t, err)
	require.Equal(t, kid, r.Sealer.KeyID())
}

// answers asks about the test card and wants an answer.
func (r *running) answers(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := r.Ask(ctx, unionPay(t, id, query.Interactive))
	require.NoError(t, err)
	require.Equal(t, query.Completed, result.Status, string(result.Event))
}

// newPair makes a key pair that is active at once and returns its id and its private file.
func newPair(t *testing.T, dir string) (kid, file string) {
	t.Helper()
	now := time.Now().Add(time.Second) // Beyond the second of any key that was made before.
	files, err := card.NewKeyPair(dir, now, now)
	require.NoError(t, err)
	return strings.TrimSuffix(filepath.Base(files[0]), ".private.jwk"), files[0]
}

func TestNewKeysAreTakenWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.run(t)
	r.ready(t)
	old := s.ring.Sealer()
	r.seals(t, old.KeyID())
	r.answers(t, "before")
	kid, _ := newPair(t, s.Cards.KeysDir)
	r.opens(t, kid)
	require.Eventually(t, func() bool { r.Sealer, _ = r.FetchSealer(t.Context()); return r.Sealer.KeyID() == kid }, patience, 50*time.Millisecond)
	r.answers(t, "after")
	r.Sealer = old
	r.answers(t, "late")
	require.Equal(t, "1", r.metric(t, `discount_worker_sealed_opened_total{kid="`+kid+`"}`))
	require.Equal(t, "2", r.metric(t, `discount_worker_sealed_opened_total{kid="`+old.KeyID()+`"}`))
	require.NotEqual(t, "0", r.metric(t, `discount_worker_key_reloads_total{outcome="replaced",source="cards"}`))
	require.NotEmpty(t, s.lines(`"msg":"keys were read again"`, kid, old.KeyID()))
}

func TestBrokenKeysReplaceNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.run(t)
	r.ready(t)
	broken := filepath.Join(s.Cards.KeysDir, "zzz.jwk")
	require.NoError(t, os.WriteFile(broken, []byte(`{"kty":"EC","d":"s3cret"`), 0o600))
	require.Eventually(t, func() bool { return len(s.lines(`"msg":"changed keys can't be used`, "zzz.jwk")) > 0 }, patience, 20*time.Millisecond)
	require.NotContains(t, s.log.String(), "s3cret")
	require.NotEqual(t, "0", r.metric(t, `discount_worker_key_reloads_total{outcome="refused",source="cards"}`))
	r.answers(t, "all the same")
	require.NoError(t, os.Remove(broken))
	kid, _ := newPair(t, s.Cards.KeysDir)
	r.opens(t, kid)
}

// TestAKeyThatIsTakenAway leaves a query sealed to it, which must die of exactly that.
func TestAKeyThatIsTakenAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.run(t)
	r.ready(t)
	old := s.ring.Sealer()
	kid, _ := newPair(t, s.Cards.KeysDir)
	r.opens(t, kid)
	require.NoError(t, os.Remove(filepath.Join(s.Cards.KeysDir, old.KeyID()+".private.jwk")))
	require.Eventually(t, func() bool {
		set, err := r.PublicKeys(t.Context())
		return err == nil && !strings.Contains(string(set), old.KeyID())
	}, patience, 20*time.Millisecond)
	r.Sealer = old
	_, err := r.Publish(t.Context(), unionPay(t, "too-late", query.Interactive))
	require.NoError(t, err)
	failed := r.resultOf(t, query.Key("shop", "urn:shop", "too-late"))
	require.Equal(t, []string{"discount.query.failed.v1", "unknown_key"}, []string{failed.Type, failed.Data.Code})
	letter, _ := r.deadOf(t, "discount.dead.*.*.*.malformed")
	require.Equal(t, "unknown_key", letter.Data.Code)
	require.Equal(t, "1", r.metric(t, `discount_worker_sealed_opened_total{kid="unknown"}`))
	require.NotContains(t, s.log.String(), `"kid":"`+old.KeyID(), "what a query names is never a label or in the log")
}

// mounted moves the site's keys into a directory like that of a mounted secret, and returns a function that mounts others.
func (s *site) mounted(t *testing.T) (swap func(from string)) {
	t.Helper()
	mount, version := t.TempDir(), 0
	swap = func(from string) {
		version++
		target := fmt.Sprintf("..version_%d", version)
		before, _ := os.Readlink(filepath.Join(mount, "..data"))
		require.NoError(t, os.CopyFS(filepath.Join(mount, target), os.DirFS(from)))
		require.NoError(t, os.Symlink(target, filepath.Join(mount, "..tmp")))
		require.NoError(t, os.Rename(filepath.Join(mount, "..tmp"), filepath.Join(mount, "..data")))
		files, err := os.ReadDir(from)
		require.NoError(t, err)
		for _, file := range files {
			link := filepath.Join(mount, file.Name())
			if _, err := os.Lstat(link); err != nil {
				require.NoError(t, os.Symlink(filepath.Join("..data", file.Name()), link))
			}
		}
		if before != "" {
			require.NoError(t, os.RemoveAll(filepath.Join(mount, before)))
		}
	}
	swap(s.Cards.KeysDir)
	s.Cards.KeysDir = mount
	return swap
}

func TestASecretThatKubernetesSwaps(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	source := s.Cards.KeysDir
	swap := s.mounted(t)
	r := s.run(t)
	r.ready(t)
	r.answers(t, "before")
	for i := range 3 {
		kid, _ := newPair(t, source)
		swap(source)
		r.opens(t, kid)
		sealer, err := card.LoadSealer(filepath.Join(source, kid+".public.jwk"))
		require.NoError(t, err)
		r.Sealer = sealer
		r.answers(t, fmt.Sprint("after ", i))
	}
}

// TestKeysOfTheUpstreamAreReadAgain replaces the key that verifies answers by a wrong one and by the right one again.
func TestKeysOfTheUpstreamAreReadAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Retry.MaxAttempts = 1
	r := s.run(t)
	r.ready(t)
	var file string
	for _, file = range s.Providers.UnionPay.Response.KeyFiles {
		break
	}
	right, err := os.ReadFile(file)
	require.NoError(t, err)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	wrong := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&other.PublicKey)})
	read := func() int { return len(s.lines(`"msg":"keys were read again"`, `"source":"upstream"`)) }
	replace := func(content []byte) {
		before := read()
		require.NoError(t, os.WriteFile(file+".new", content, 0o600))
		require.NoError(t, os.Rename(file+".new", file))
		require.Eventually(t, func() bool { return read() > before }, patience, 20*time.Millisecond)
	}
	replace(wrong)
	question := unionPay(t, "not-verified", query.Interactive)
	question.Expires = time.Now().Add(time.Second)
	_, err = r.Publish(t.Context(), question)
	require.NoError(t, err)
	failed := r.resultOf(t, query.Key("shop", "urn:shop", "not-verified"))
	require.Equal(t, "bad_signature", string(failed.Data.Attempts[0].Code))
	require.NoError(t, os.WriteFile(file, []byte("-----BEGIN s3cret"), 0o600))
	require.Eventually(t, func() bool {
		return len(s.lines(`"msg":"changed keys can't be used`, `"source":"upstream"`)) > 0
	}, patience, 20*time.Millisecond)
	replace(right)
	r.answers(t, "verified")
	require.NotContains(t, s.log.String(), "s3cret")
}

// TestRotationsUnderLoad rotates keys again and again while queries are asked, and takes each old one away when nothing is sealed to it any
// more. Nothing fails.
func TestRotationsUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.run(t)
	r.ready(t)
	var mu sync.RWMutex // Held while a query is under way: whoever has it to write knows that none is.
	sealer := s.ring.Sealer()
	ctx, stop := context.WithCancel(t.Context())
	var askers sync.WaitGroup
	asked := make([]int, 4)
	for i := range asked {
		askers.Go(func() {
			for ; ctx.Err() == nil; asked[i]++ {
				mu.RLock()
				own := client.New(r.Client.Options)
				own.Sealer = sealer
				within, cancel := context.WithTimeout(context.Background(), patience)
				result, err := own.Ask(within, unionPay(t, fmt.Sprintf("%d-%d", i, asked[i]), query.Interactive))
				cancel()
				mu.RUnlock()
				require.NoError(t, err)
				require.Equal(t, query.Completed, result.Status, string(result.Event))
			}
		})
	}
	for range 5 {
		before := sealer.KeyID()
		kid, file := newPair(t, s.Cards.KeysDir)
		r.opens(t, kid)
		next, err := card.LoadSealer(file)
		require.NoError(t, err)
		mu.Lock()
		sealer = next
		require.NoError(t, os.Remove(filepath.Join(s.Cards.KeysDir, before+".private.jwk")))
		mu.Unlock()
		require.Eventually(t, func() bool {
			set, err := r.PublicKeys(t.Context())
			return err == nil && !strings.Contains(string(set), before)
		}, patience, 20*time.Millisecond)
	}
	stop()
	askers.Wait()
	total := asked[0] + asked[1] + asked[2] + asked[3]
	t.Logf("%d queries answered over 5 rotations", total)
	// A client that is subscribed hears a result while the broker still stores it.
	require.Eventually(t, func() bool { return r.count(t, "DISCOUNT_RESULTS") >= total }, patience, 20*time.Millisecond)
	require.Equal(t, total, r.count(t, "DISCOUNT_RESULTS"))
	require.Zero(t, r.count(t, "DISCOUNT_DEAD"))
}
