//go:build faults

package faults

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// TestF27Poison publishes queries that can't be answered, among good ones. Each must be a dead letter after one delivery and without a call.
func TestF27Poison(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{unionPay: true, settings: patient()})
	l := newLoad(s)
	w := s.startWorker(t)
	good := times(10, 50)
	l.publish(t.Context(), good)
	require.Empty(t, s.quiesce(t, soon))
	rounds, before := times(3, 40), w.cpu(t)
	named, nameless := 0, 0
	for range rounds {
		for _, data := range poison(s) {
			amount := int64(700_000 + named)
			s.publishRaw(t, event(amount, data))
			l.note(query.Key(shop, source, fmt.Sprintf("order-%d", amount)), amount, 0)
			named++
		}
		for _, body := range unreadable() {
			s.publishRaw(t, body)
			nameless++
		}
	}
	require.Empty(t, s.quiesce(t, soon))
	spent := w.cpu(t) - before
	found := s.finish(t, l, soon, 1)
	require.Equal(t, map[string]int{"malformed": named}, found.Reasons)
	require.Equal(t, named, found.Calls[0], "a poisoned query cost a call")
	require.Equal(t, good, found.Completed)
	require.Equal(t, good+named+nameless, found.Deliveries, "each is delivered once")
	letters := 0
	for _, n := range s.read(t).letters {
		letters += n
	}
	require.Equal(t, named+nameless, letters)
	require.False(t, w.ended())
	each := spent / time.Duration(named+nameless)
	t.Logf("F27: %d poisoned queries of %d kinds, each a dead letter after one delivery; %s of CPU each, all included (target 5 ms)",
		named+nameless, len(poison(s))+len(unreadable()), each.Round(10*time.Microsecond))
	if runtime.GOOS == "linux" && !raceDetector {
		require.Positive(t, each)
		require.Less(t, each, 5*time.Millisecond, "processor time, which a busy machine does not make longer")
	}
}

// event returns a query with some data.
func event(amount int64, data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"order-%d","source":"%s","type":"%s","data":%s}`, amount, source, query.TypeRequested, data)
}

// unreadable returns messages that name no query, because they can't be read so far: nobody can be told what became of them.
func unreadable() []string {
	return []string{
		"\xff not even JSON", "", "[]", `{"source":"urn:shop","source":"urn:other"}`, `{"data":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`,
		strings.Repeat("[", 30<<10),
	}
}

// poison returns data of queries for UnionPay that can't be used, by what is wrong with it.
func poison(s *site) map[string]string {
	key := s.ring.Sealer().KeyID()
	sealed := func(header string) string {
		part := base64.RawURLEncoding.EncodeToString
		return `{"data":"` + part([]byte(header)) + "." + part(make([]byte, 40)) + "." + part(make([]byte, 12)) + "." + part(make([]byte, 200)) + "." + part(make([]byte, 16)) + `"}`
	}
	point := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	ephemeral := `"epk":{"kty":"EC","crv":"P-256","x":"` + point + `","y":"` + point + `"}`
	return map[string]string{
		"no JWE":                `{"data":"nonsense"}`,
		"a point off the curve": sealed(`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","kid":"` + key + `",` + ephemeral + `}`),
		"an unknown key":        sealed(`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","kid":"nobody",` + ephemeral + `}`),
		"no key":                sealed(`{"alg":"ECDH-ES+A256KW","enc":"A256GCM",` + ephemeral + `}`),
		"compressed":            sealed(`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","kid":"` + key + `","zip":"DEF",` + ephemeral + `}`),
		"critical":              sealed(`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","kid":"` + key + `","crit":["exp"],"exp":1,` + ephemeral + `}`),
		"another algorithm":     sealed(`{"alg":"dir","enc":"A256GCM","kid":"` + key + `"}`),
		"a password":            sealed(`{"alg":"PBES2-HS256+A128KW","enc":"A256GCM","kid":"` + key + `","p2s":"AAAAAAAAAAA","p2c":1000000000}`),
		"a long token":          `{"data":"` + strings.Repeat("A", 50<<10) + `"}`,
		"another schema":        `{"card":"none"}`,
		"a number for a text":   `{"pid":1e400,"data":7}`,
		"no data":               `{"pid":"1"}`,
	}
}

// publishRaw stores bytes as a query for UnionPay.
func (s *site) publishRaw(t *testing.T, body string) {
	t.Helper()
	message := nats.NewMsg(query.NewSubjects("discount").Query(query.UnionPay, query.Interactive, shop))
	message.Header.Set("Content-Type", query.ContentTypeEvent)
	message.Data = []byte(body)
	_, err := s.js.PublishMsg(t.Context(), message)
	require.NoError(t, err)
}

// cpu returns how much processor time a worker has used, as it tells itself.
func (w *worker) cpu(t *testing.T) time.Duration {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + w.admin + "/metrics")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(page), "\nprocess_cpu_seconds_total ")
	text, _, _ := strings.Cut(after, "\n")
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0 // Not every system tells.
	}
	return time.Duration(seconds * float64(time.Second))
}
