package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

const (
	// patience bounds waits for what happens soon unless something is stuck.
	patience = 40 * time.Second
	// testCard is a published test number. Neither it nor the token must be seen anywhere.
	testCard  = "6200000000000005"
	testToken = "tokenOfTheCardholder"
)

// upstreamKeys are made once for the whole package: they take long.
var upstreamKeys = sync.OnceValues(sandbox.NewKeys)

// safeBuffer can be read while a log writes to it.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// site is a configuration whose upstreams are sandboxes. Its broker is the embedded server, until a test says otherwise.
type site struct {
	config.Config

	sandbox *sandbox.Sandbox
	ring    *card.Ring
	log     *safeBuffer
	tracing Tracing
}

func newSite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	keys, err := upstreamKeys()
	require.NoError(t, err)
	require.NoError(t, keys.WriteTo(filepath.Join(dir, "upi")))
	s := &site{Config: config.Default(), sandbox: sandbox.New(sandbox.Options{Seed: 1, UnionPay: keys.UnionPay()}), log: &safeBuffer{}}
	upstreams, err := s.sandbox.Start(t.Context(), sandbox.Listen{EasyPay: "127.0.0.1:0", UnionPay: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, upstreams.Close(context.Background())) })
	_, err = card.NewKeys(filepath.Join(dir, "keys"), time.Now())
	require.NoError(t, err)
	s.ring, err = card.LoadRing(filepath.Join(dir, "keys"))
	require.NoError(t, err)

	s.DataDir, s.Embedded.Listen, s.Embedded.SyncAlways = filepath.Join(dir, "store"), "127.0.0.1:0", false
	s.Cards.KeysDir, s.Admin.Listen = filepath.Join(dir, "keys"), "127.0.0.1:0"
	s.HTTP.AttemptTimeout, s.HTTP.DialTimeout, s.HTTP.TLSHandshakeTimeout = 5*time.Second, time.Second, time.Second
	s.Retry.InitialInterval, s.Retry.MaxInterval = time.Millisecond, 2*time.Millisecond
	s.Retry.Schedule.First, s.Retry.Schedule.Max = time.Second, time.Second
	fast := config.Pace{Rate: config.Rate{Calls: 1000, Per: time.Second}, Burst: 100}
	s.Providers.EasyPay.BaseURL, s.Providers.EasyPay.MallID, s.Providers.EasyPay.Pace = config.URL(upstreams.EasyPayURL()), "T5102001", fast
	u := &s.Providers.UnionPay
	u.Enabled, u.BaseURL, u.Path, u.Pace = true, config.URL(upstreams.UnionPayURL()), sandbox.UnionPayPath, fast
	u.ProcType, u.SignCertID, u.EncCertID, u.InsCode, u.AppID, u.PID = "01", "001", "002", "100120156", sandbox.DefaultAppID, "1234567890"
	u.JWS.KID, u.JWS.PrivateKeyFile = keys.ClientSignKid, filepath.Join(dir, "upi", "client-sign.key.pem")
	u.Response.KeyFiles = map[string]string{keys.UPISignKid: filepath.Join(dir, "upi", "upi-sign.pub.pem")}
	u.Encryption.KID, u.Encryption.PublicKeyFile = keys.UPIEncryptKid, filepath.Join(dir, "upi", "upi-encrypt.pub.pem")
	require.NoError(t, s.Validate())
	return s
}

// on makes the site's broker a server of its own, with the topology of the configuration.
func (s *site) on(t *testing.T, start func(testing.TB, ...brokertest.Option) *brokertest.Server) *brokertest.Server {
	t.Helper()
	server := start(t, brokertest.Listening(), brokertest.WithTopology(func(topology *broker.Topology) { *topology = Topology(s.Config) }))
	s.NATS.URL = config.URL(server.Embedded().ClientURL())
	return server
}

// fail makes the upstreams misbehave.
func (s *site) fail(t *testing.T, faults ...sandbox.Fault) {
	t.Helper()
	require.NoError(t, s.sandbox.SetFaults(faults))
}

// of is a fault of EasyPay that strikes questions about one card company.
func of(cardCd string, kind sandbox.Kind, param string) sandbox.Fault {
	return sandbox.Fault{Provider: sandbox.EasyPay, Kind: kind, Param: param, Match: []sandbox.Condition{{Field: "cardCd", Value: cardCd}}}
}

// running is a worker that runs, and a publisher.
type running struct {
	*App
	*client.Client

	broker *Broker
	stop   context.CancelFunc
	ended  chan error
}

// run builds and runs a worker, and stops it with the test unless the test did.
func (s *site) run(t testing.TB) *running {
	t.Helper()
	built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log, Tracing: s.tracing})
	require.NoError(t, err)
	return s.start(t, built)
}

// start runs a worker that was built before.
func (s *site) start(t testing.TB, built *App) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{App: built, stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- built.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		r.wait(t)
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	r.connect(t, s)
	return r
}

func (r *running) connect(t testing.TB, s *site) {
	t.Helper()
	c := s.Config
	c.NATS.URL = config.URL(r.ClientURL())
	connected, err := OpenBroker(t.Context(), c, BrokerOptions{Name: "publisher"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = connected.Close(context.Background()) })
	r.broker = connected
	r.Client = client.New(client.Options{
		Conn: connected.Conn, JS: connected.JS, Subjects: query.NewSubjects(c.Prefix), Name: "shop",
		ResultStream: Topology(c).Names().Results(), Sealer: s.ring.Sealer(),
	})
}

// wait waits until the worker has ended. It can be called again.
func (r *running) wait(t testing.TB) {
	t.Helper()
	select {
	case err := <-r.ended:
		require.NoError(t, err)
		r.ended <- nil
	case <-time.After(patience):
		require.Fail(t, "the worker does not end")
	}
}

// ready waits until the worker says that it is.
func (r *running) ready(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return r.page("/readyz") == http.StatusOK }, patience, 10*time.Millisecond)
}

// page returns the status of an admin page, 0 if it can't be had.
func (r *running) page(page string) int {
	admin := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := admin.Get("http://" + r.AdminAddr() + page)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// answer is what a test looks at of a result or a dead letter.
type answer struct {
	Type          string `json:"type"`
	CorrelationID string `json:"correlationid"`
	Data          struct {
		Query    query.Asked     `json:"query"`
		Outcome  string          `json:"outcome"`
		Reason   string          `json:"reason"`
		Code     string          `json:"code"`
		Usage    *query.Usage    `json:"usage"`
		Offers   []query.Offer   `json:"offers"`
		Upstream query.Response  `json:"upstream"`
		Card     *query.CardRef  `json:"card"`
		Attempts []query.Attempt `json:"attempts"`
		Dead     bool            `json:"deadLetter"`
	} `json:"data"`
}

// resultOf waits for the result with key and reads it.
func (r *running) resultOf(t *testing.T, key string) answer {
	t.Helper()
	var event []byte
	require.Eventually(t, func() bool {
		stored, err := r.Result(t.Context(), key)
		event = stored.Event
		return err == nil
	}, patience, 20*time.Millisecond)
	return read(t, event)
}

func read(t *testing.T, event []byte) answer {
	t.Helper()
	var a answer
	require.NoError(t, json.Unmarshal(event, &a))
	for _, secret := range []string{testCard, testToken} {
		require.NotContains(t, string(event), secret)
	}
	return a
}

// deadOf waits for the dead letter under a guard and reads it.
func (r *running) deadOf(t *testing.T, guard string) (answer, string) {
	t.Helper()
	dead, err := r.broker.JS.Stream(t.Context(), r.topology.Names().Dead())
	require.NoError(t, err)
	var message *jetstream.RawStreamMsg
	require.Eventually(t, func() bool {
		message, err = dead.GetLastMsgForSubject(t.Context(), guard)
		return err == nil
	}, patience, 20*time.Millisecond)
	return read(t, message.Data), message.Subject
}

// count returns how many messages a stream holds.
func (r *running) count(t *testing.T, stream string) int {
	t.Helper()
	opened, err := r.broker.JS.Stream(t.Context(), stream)
	require.NoError(t, err)
	return int(opened.CachedInfo().State.Msgs)
}

// easyPay returns a question about one card company.
func easyPay(id, cardCd string, lane query.Lane) client.Question {
	amount := int64(151004)
	return client.Question{
		Provider: query.EasyPay, Lane: lane, Source: "urn:shop", ID: id, Correlation: "order " + id,
		EasyPay: &query.EasyPayQuestion{CardCd: cardCd, Amount: &amount},
	}
}

// unionPay returns a question about the test card.
func unionPay(t *testing.T, id string, lane query.Lane) client.Question {
	t.Helper()
	number, err := card.ParseNumber(testCard)
	require.NoError(t, err)
	return client.Question{
		Provider: query.UnionPay, Lane: lane, Source: "urn:shop", ID: id, UnionPay: &query.UnionPayQuestion{},
		Card: &card.Details{UserToken: card.NewSecret(testToken), Number: number},
	}
}

// lines returns the log lines that hold all of the texts.
func (s *site) lines(texts ...string) []string {
	var found []string
	for line := range strings.Lines(s.log.String()) {
		holds := true
		for _, text := range texts {
			holds = holds && strings.Contains(line, text)
		}
		if holds {
			found = append(found, line)
		}
	}
	return found
}
