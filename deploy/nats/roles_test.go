package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"discountquery.example/worker/internal/app"
)

// role is one kind of user.
type role struct {
	// name is what people call it, variable the environment's variable with its public key, file its list, inbox how its inboxes begin.
	name, variable, file, inbox string
	// who and may are what the README says of it.
	who, may string
	// does is everything that the role needs to do, in an account that lays has laid out for it. It ends early when ctx does.
	lays func(t *testing.T, s *site, root *app.Broker)
	does func(ctx context.Context, s *site, u user, around *around) error
	// alone tells that what it does can't be done by two of them in one account.
	alone bool
}

// around is what a role meets in its account: root, who may do everything, with the inboxes of others.
type around struct {
	root, shop, view *app.Broker
}

// roles returns every user of accounts.conf but the server's own.
func roles() []role {
	return []role{
		{
			name: "publisher shop", variable: "NATS_PUBLISHER_SHOP", file: "clients/shop.conf", inbox: "_INBOX_publisher.shop",
			who: "a client, one user each", may: "ask in its own name, see and look up its own results",
			lays: laysWorker, does: publishes("shop"),
		},
		{
			name: "publisher pos", variable: "NATS_PUBLISHER_POS", file: "clients/pos.conf", inbox: "_INBOX_publisher.pos",
			who: "another client", may: "the same in its own name",
			lays: laysWorker, does: publishes("pos"),
		},
		{
			name: "worker", variable: "NATS_WORKER", file: "roles/worker.conf", inbox: "_INBOX_worker",
			who: "all replicas of the worker", may: "take queries, store results, dead letters and retries, keep the pace, reply to publishers",
			lays: laysReplay, does: works, alone: true,
		},
		{
			name: "setup", variable: "NATS_SETUP", file: "roles/setup.conf", inbox: "_INBOX_setup",
			who: "the job that runs `worker setup`", may: "make and change the streams, consumers and buckets: see below what that includes",
			lays: func(*testing.T, *site, *app.Broker) {}, does: setsUp, alone: true,
		},
		{
			name: "analytics", variable: "NATS_ANALYTICS", file: "analytics.conf", inbox: "_INBOX_analytics",
			who: "the analytics service", may: "read every result through its own durable consumer",
			lays: laysResults, does: analyses,
		},
		{
			name: "ops view", variable: "NATS_OPS_VIEW", file: "roles/ops-view.conf", inbox: "_INBOX_ops-view",
			who: "operators who look", may: "read dead letters, results, replays, the pace and figures, change nothing",
			lays: laysDeadAndWorks, does: looks,
		},
		{
			name: "ops replay", variable: "NATS_OPS_REPLAY", file: "roles/ops-replay.conf", inbox: "_INBOX_ops-replay",
			who: "operators who act", may: "replay and drop dead letters, set the pace; each act is audited first",
			lays: laysDead, does: acts, alone: true,
		},
		{
			name: "ops reseal", variable: "NATS_OPS_RESEAL", file: "roles/ops-reseal.conf", inbox: "_INBOX_ops-reseal",
			who: "operators who rotate keys", may: "seal dead letters to the newest key; each act is audited first",
			lays: laysSealed, does: reseals, alone: true,
		},
		{
			name: "admin", variable: "NATS_ADMIN", file: "roles/admin.conf", inbox: "_INBOX_admin",
			who: "break glass", may: "everything that JetStream's API offers: deletion, backup and restoring included",
			lays: laysResults, does: administers, alone: true,
		},
	}
}

// roleOf returns the role with a name.
func roleOf(name string) role {
	all := roles()
	return all[slices.IndexFunc(all, func(r role) bool { return r.name == name })]
}

// TestEveryRoleDoesItsWork runs the server from the files as they are, and each role on it.
func TestEveryRoleDoesItsWork(t *testing.T) {
	t.Parallel()
	for _, r := range roles() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			roots := s.roots(t, s.files())
			s.start(t)
			around := roots.connect(t, s)
			r.lays(t, s, around.root)
			u := s.base(r)
			err := s.untilDenied(t.Context(), u, around)
			require.Empty(t, s.log.deniedTo(u), "a right is asked for that the role has not")
			require.NoError(t, err)
		})
	}
}

// isNew tells whether a line is about acks and flow control in the server's newer form, which it uses only if it is told to.
func isNew(line string) bool { return strings.Contains(line, "._.*.") }

// TestNoLineCanGo takes each line away from each role: then the role, at its work, asks for it, and is denied that and nothing else. There the work
// is ended, so that what would become of it without the line is not shown: some of it would go on with less.
func TestNoLineCanGo(t *testing.T) {
	t.Parallel()
	for _, r := range roles() {
		for _, newer := range []bool{false, true} {
			s := newSite(t)
			lines := slices.DeleteFunc(s.lines(r), func(line string) bool { return isNew(line) != newer })
			if len(lines) == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s newer=%t", r.name, newer), func(t *testing.T) {
				t.Parallel()
				s.quick()
				s.options.FeatureFlags = map[string]bool{"js_ack_fc_v2": newer}
				withoutEach(t, s, r, lines)
			})
		}
	}
}

// atOnce is how many users with a line less do their work at once.
const atOnce = 12

func withoutEach(t *testing.T, s *site, r role, lines []string) {
	t.Helper()
	users, roots := make([]user, len(lines)), make([]rootUsers, len(lines))
	shared := rootUsers{}
	if !r.alone {
		shared = s.roots(t, s.files())
	}
	for i, line := range lines {
		roots[i] = shared
		if r.alone {
			own := s.world(t, "A"+strconv.Itoa(i))
			roots[i], users[i] = s.roots(t, own), s.add(t, r, line, own.streams)
			continue
		}
		users[i] = s.add(t, r, line, nil)
	}
	s.start(t)
	arounds := make([]*around, len(lines))
	for i := range lines {
		if i > 0 && !r.alone {
			arounds[i] = arounds[0]
			continue
		}
		arounds[i] = roots[i].connect(t, s)
		r.lays(t, s, arounds[i].root)
	}
	// Each of them mostly waits, so several go at once.
	outcomes := make([]error, len(lines))
	var doing errgroup.Group
	doing.SetLimit(atOnce)
	for i, u := range users {
		doing.Go(func() error {
			began := time.Now()
			outcomes[i] = s.deniedOnly(t.Context(), u, arounds[i])
			t.Logf("%s without %s", time.Since(began).Round(time.Millisecond), u.without)
			return nil
		})
	}
	require.NoError(t, doing.Wait())
	for i, line := range lines {
		require.NoError(t, outcomes[i], "without %s", line)
	}
}

// untilDenied has a user do the work of its role, until it is denied something.
func (s *site) untilDenied(ctx context.Context, u user, around *around) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.log.watch(u, func(subject string) { stop(deniedError(subject)) })
	return u.does(ctx, s, u, around)
}

// deniedOnly returns an error unless a user, at the work of its role, is denied what it lacks, and nothing else.
func (s *site) deniedOnly(ctx context.Context, u user, around *around) error {
	err := s.untilDenied(ctx, u, around)
	denied := s.log.deniedTo(u)
	if len(denied) == 0 {
		return errors.Join(errors.New("nobody misses it"), err)
	}
	for _, subject := range denied {
		if !server.SubjectsCollide(u.without, subject) {
			return fmt.Errorf("denied %q, which it does not lack", subject)
		}
	}
	return nil
}

// deniedError is a right that was denied.
type deniedError string

func (e deniedError) Error() string { return "denied: " + string(e) }
