package deploy

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// patience bounds every wait. Only a test that fails takes so long.
const patience = 2 * time.Minute

// user is one who connects: a role, perhaps with one line less than the files give it.
type user struct {
	role
	// without is the line that the user lacks, empty for none.
	without string
	seed    string
	public  string
}

// site is a server made from the files, and the users and accounts that a test added to it before it started.
type site struct {
	*server.Server

	options *server.Options
	log     *serverLog
	// added holds the names of the accounts that a test added.
	added []string
}

// newSite reads the files. Nothing is started yet.
func newSite(t *testing.T) *site {
	t.Helper()
	options, err := server.ProcessConfigFile("single.conf")
	require.NoError(t, err)
	options.StoreDir, options.NoSigs = t.TempDir(), true
	return &site{options: options, log: &serverLog{denied: map[string][]string{}, watching: map[string]func(string){}}}
}

// base returns the user of a role as the files have it.
func (s *site) base(r role) user {
	return user{role: r, seed: ground.seeds[r.variable], public: os.Getenv(r.variable)}
}

// found returns the user that the files make of a role.
func (s *site) found(r role) *server.NkeyUser {
	return s.options.Nkeys[slices.IndexFunc(s.options.Nkeys, func(u *server.NkeyUser) bool { return u.Nkey == os.Getenv(r.variable) })]
}

// permissions returns what the files give to a role.
func (s *site) permissions(r role) *server.Permissions { return s.found(r).Permissions }

// lines returns each line of a role's lists, those of publishing first.
func (s *site) lines(r role) []string {
	p := s.permissions(r)
	return append(slices.Clone(p.Publish.Allow), p.Subscribe.Allow...)
}

// named returns an account of the files.
func (s *site) named(name string) *server.Account {
	return s.options.Accounts[slices.IndexFunc(s.options.Accounts, func(a *server.Account) bool { return a.Name == name })]
}

// world is an account that holds streams, and the account of the client shop on it.
type world struct{ streams, shop *server.Account }

// files returns the world of the files.
func (s *site) files() world {
	return world{streams: s.named("DISCOUNT"), shop: s.named("CLIENT_shop")}
}

// world adds a world beside that of the files, for a role that can't share it.
func (s *site) world(t *testing.T, name string) world {
	t.Helper()
	w := world{streams: server.NewAccount(name), shop: server.NewAccount(name + "_shop")}
	s.options.Accounts, s.added = append(s.options.Accounts, w.streams, w.shop), append(s.added, name)
	for from, subject := range map[string]string{
		"discount.query.*.*.shop": "discount.query.*.*.*", "discount.ask.*.shop": "discount.ask.*.*", "discount.lookup.shop": "discount.lookup.*",
	} {
		require.NoError(t, w.streams.AddServiceExport(subject, nil))
		require.NoError(t, w.shop.AddServiceImport(w.streams, from, from))
	}
	require.NoError(t, w.streams.AddStreamExport("discount.result.*.*.*.*", nil))
	require.NoError(t, w.shop.AddStreamImport(w.streams, "discount.result.*.*.shop.*", ""))
	return w
}

// add adds a user with the rights of a role but one line, in an account of its own world or, if that is nil, in that of the role.
func (s *site) add(t *testing.T, r role, without string, account *server.Account) user {
	t.Helper()
	p := s.permissions(r)
	but := func(all *server.SubjectPermission) *server.SubjectPermission {
		rest := slices.DeleteFunc(slices.Clone(all.Allow), func(line string) bool { return line == without })
		return &server.SubjectPermission{Allow: append(rest, "nothing"), Deny: all.Deny} // To the server an empty list is a list of everything.
	}
	if account == nil {
		account = s.found(r).Account
	}
	return s.addUser(t, user{role: r, without: without}, account, &server.Permissions{Publish: but(p.Publish), Subscribe: but(p.Subscribe)})
}

// rootUsers may do everything in their accounts, with the inboxes of roles.
type rootUsers struct{ root, shop, view user }

// roots adds users who may do everything in a world.
func (s *site) roots(t *testing.T, w world) rootUsers {
	t.Helper()
	with := func(inbox string, account *server.Account) user {
		return s.addUser(t, user{role: role{name: "root", inbox: inbox}}, account, nil)
	}
	return rootUsers{
		root: with("_INBOX_root", w.streams), shop: with("_INBOX_publisher.shop", w.shop), view: with("_INBOX_ops-view", w.streams),
	}
}

func (r rootUsers) connect(t *testing.T, s *site) *around {
	t.Helper()
	return &around{root: s.connect(t, r.root), shop: s.connect(t, r.shop), view: s.connect(t, r.view)}
}

func (s *site) addUser(t *testing.T, u user, account *server.Account, permissions *server.Permissions) user {
	t.Helper()
	var err error
	u.public, u.seed, err = newKey(t.TempDir(), "user")
	require.NoError(t, err)
	s.options.Nkeys = append(s.options.Nkeys, &server.NkeyUser{Nkey: u.public, Account: account, Permissions: permissions})
	return u
}

// quick leaves out what makes the store slow, for tests that are about rights alone.
func (s *site) quick() {
	s.options.SyncAlways, s.options.SyncInterval, s.options.JetStreamKey = false, time.Minute, ""
	s.options.JetStreamMaxStore = 1 << 45
}

// start starts the server and gives every added account its JetStream.
func (s *site) start(t *testing.T) {
	t.Helper()
	var err error
	s.Server, err = server.NewServer(s.options)
	require.NoError(t, err)
	s.SetLoggerV2(s.log, false, false, false)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	require.True(t, s.ReadyForConnections(patience), s.log.String())
	own, err := s.LookupAccount("DISCOUNT")
	require.NoError(t, err)
	require.Eventually(t, own.JetStreamEnabled, patience, time.Millisecond)
	for _, name := range s.added {
		added, err := s.LookupAccount(name)
		require.NoError(t, err)
		require.NoError(t, added.EnableJetStream(nil, nil))
	}
}

// config returns the configuration of a user's program.
func (s *site) config(u user) config.Config {
	c := ordinary()
	c.NATS.URL, c.NATS.NKeyFile, c.NATS.InboxPrefix = config.URL(s.ClientURL()), u.seed, u.inbox
	c.NATS.TLS.CAFile = os.Getenv("NATS_TLS_CA")
	return c
}

// connect connects as a user until the test ends.
func (s *site) connect(t *testing.T, u user) *app.Broker {
	t.Helper()
	connected, err := app.OpenBroker(t.Context(), s.config(u), app.BrokerOptions{Name: "test " + u.name})
	require.NoError(t, err)
	t.Cleanup(func() { _ = connected.Close(context.Background()) })
	return connected
}

// publisher returns the client with a name on a connection.
func publisher(connected *app.Broker, name string) *client.Client {
	return client.New(client.Options{
		Conn: connected.Conn, JS: connected.JS, Subjects: query.NewSubjects("discount"), Name: name, ResultStream: "DISCOUNT_RESULTS",
	})
}

// setUp gives an account its topology, as root.
func setUp(t *testing.T, connected *app.Broker, change func(*broker.Topology)) {
	t.Helper()
	topology := app.Topology(ordinary())
	change(&topology)
	plan, err := broker.MakePlan(t.Context(), connected.JS, topology)
	require.NoError(t, err)
	require.NoError(t, broker.Apply(t.Context(), connected.JS, plan, nil))
}

// asIs leaves a topology as it is.
func asIs(*broker.Topology) {}

// work runs a worker as a user until the returned function is called, which returns how that went.
func (s *site) work(ctx context.Context, u user) (stop func() error, err error) {
	stop, _, err = run(ctx, s.config(u))
	return stop, err
}

// run runs a worker and returns where its broker is reached as well.
func run(ctx context.Context, c config.Config) (stop func() error, url string, err error) {
	built, err := app.New(ctx, app.Options{Config: c, Build: "test", Log: io.Discard})
	if err != nil {
		return nil, "", err
	}
	running, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- built.Run(running) }()
	return func() error {
		end()
		return <-ended
	}, built.ClientURL(), nil
}

// startUpstream starts one simulated EasyPay for all tests, and returns the configuration that all their programs have in common.
func startUpstream() (config.Config, error) {
	c := config.Default()
	c.Cards.KeysDir, c.Admin.Listen = filepath.Join(ground.dir, "cards"), ""
	if _, err := card.NewKeys(c.Cards.KeysDir, time.Now().Add(-time.Hour)); err != nil {
		return c, err
	}
	simulated := sandbox.New(sandbox.Options{Seed: 1})
	started, err := simulated.Start(context.Background(), sandbox.Listen{EasyPay: "127.0.0.1:0"})
	if err != nil {
		return c, err
	}
	ground.stop = func() error { return started.Close(context.Background()) }
	err = simulated.SetFaults([]sandbox.Fault{{
		Provider: sandbox.EasyPay, Kind: sandbox.KindStatus, Param: "503", Match: []sandbox.Condition{{Field: "cardCd", Value: unavailableCard}},
	}})
	c.Providers.EasyPay.BaseURL, c.Providers.EasyPay.MallID = config.URL(started.EasyPayURL()), "T5102001"
	c.Providers.EasyPay.Pace = config.Pace{Rate: config.Rate{Calls: 1000, Per: time.Second}, Burst: 100}
	c.Retry.InitialInterval, c.Retry.MaxInterval = time.Millisecond, 2*time.Millisecond
	c.Retry.Schedule.First, c.Retry.Schedule.Max = time.Second, time.Second
	c.Consumer.PullExpiry, c.Shutdown.Grace = time.Second, 5*time.Second
	return c, err
}

// unavailableCard is a card company whose questions the upstream never answers.
const unavailableCard = "008"

// ordinary returns the configuration that all programs have in common.
func ordinary() config.Config { return ground.config }

// easyPay returns a question about a card company.
func easyPay(id, cardCd string) client.Question {
	amount := int64(151004)
	return client.Question{
		Provider: query.EasyPay, Lane: query.Interactive, Source: "urn:shop", ID: id, EasyPay: &query.EasyPayQuestion{CardCd: cardCd, Amount: &amount},
	}
}

// malformed returns a question that names a card twice, which no worker asks.
func malformed(id string) client.Question {
	q := easyPay(id, "029")
	q.EasyPay.CardBin = "12345678"
	return q
}

// serverLog collects what a server says, and who was denied what.
type serverLog struct {
	mu       sync.Mutex
	text     strings.Builder
	denied   map[string][]string
	watching map[string]func(subject string)
}

// violationRe finds a denied publish or subscription (server 2.15: client.go).
var violationRe = regexp.MustCompile(`\b(U[A-Z2-7]{55})\b.*(?:Publish|Subscription) Violation - (?:Subject|Reply) "([^"]+)"`)

func (l *serverLog) sayf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line + "\n")
	if match := violationRe.FindStringSubmatch(line); match != nil {
		l.denied[match[1]] = append(l.denied[match[1]], match[2])
		if tell := l.watching[match[1]]; tell != nil {
			tell(match[2])
		}
	}
}

// deniedTo returns what a user was denied.
func (l *serverLog) deniedTo(u user) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.denied[u.public])
}

// watch calls tell for each subject that a user is denied from now on.
func (l *serverLog) watch(u user, tell func(subject string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watching[u.public] = tell
}

// String returns all that was said.
func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Noticef and the others implement server.Logger.
func (l *serverLog) Noticef(format string, args ...any) { l.sayf(format, args...) }

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, args ...any) { l.sayf(format, args...) }

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, args ...any) { l.sayf(format, args...) }

// Fatalf implements server.Logger.
func (l *serverLog) Fatalf(format string, args ...any) { l.sayf(format, args...) }

// Debugf implements server.Logger.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *serverLog) Tracef(string, ...any) {}
