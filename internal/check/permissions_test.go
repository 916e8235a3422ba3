package check

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/config"
)

// workerMay lists the subjects that a worker's user publishes to.
func workerMay() []string {
	return []string{
		"discount.result.>", "discount.dead.>", "discount.retry.at.>", "$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.CONSUMER.INFO.*.*",
		"$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.API.STREAM.MSG.GET.*", "$JS.ACK.>",
		"$KV.discount_pace.>", "$KV.discount_answers.>", "$JS.API.DIRECT.GET.KV_discount_pace.>", "$JS.API.DIRECT.GET.KV_discount_answers.>",
		"$JS.API.CONSUMER.CREATE.KV_discount_pace.>", "$JS.API.DIRECT.GET.KV_discount_replays",
	}
}

// withUsers gives the site a server with an admin, who makes the topology, and a worker with the rights given.
func (s *site) withUsers(t *testing.T, rights *server.SubjectPermission) {
	t.Helper()
	running, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 40,
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "worker", Password: "worker", Permissions: &server.Permissions{
				Publish: rights, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		},
	})
	require.NoError(t, err)
	running.Start()
	t.Cleanup(func() {
		running.Shutdown()
		running.WaitForShutdown()
	})
	require.True(t, running.ReadyForConnections(30*time.Second))

	admin, err := nats.Connect(running.ClientURL(), nats.UserInfo("admin", "admin"))
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Drain(background(), admin)) }()
	js, err := jetstream.New(admin)
	require.NoError(t, err)
	plan, err := broker.MakePlan(t.Context(), js, app.Topology(s.Config))
	require.NoError(t, err)
	require.NoError(t, broker.Apply(t.Context(), js, plan, nil))

	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("worker\n"), 0o600))
	s.NATS.URL, s.NATS.User, s.NATS.PasswordFile = config.URL(running.ClientURL()), "worker", password
}

func TestUserWithEveryRightOfAWorker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withUsers(t, &server.SubjectPermission{Allow: workerMay()})
	require.Equal(t, OK, Worst(values(s.run(t))))
}

func TestUserWithoutARight(t *testing.T) {
	t.Parallel()
	for without, says := range map[string]string{
		"discount.result.>":                          "right to: publish discount.result.check.none.none.failed",
		"discount.dead.>":                            "right to: publish discount.dead.check.none.none.malformed",
		"discount.retry.at.>":                        "right to: publish discount.retry.at.check",
		"$KV.discount_pace.>":                        "right to: publish $KV.discount_pace.check",
		"$KV.discount_answers.>":                     "right to: publish $KV.discount_answers.check",
		"$JS.API.DIRECT.GET.KV_discount_pace.>":      "right to: publish $JS.API.DIRECT.GET.KV_discount_pace.$KV.discount_pace.check",
		"$JS.API.CONSUMER.CREATE.KV_discount_pace.>": "right to: publish $JS.API.CONSUMER.CREATE.KV_discount_pace.check",
		"$JS.API.DIRECT.GET.KV_discount_replays":     "right to: publish $JS.API.DIRECT.GET.KV_discount_replays",
		"$JS.API.CONSUMER.MSG.NEXT.*.*":              "right to: publish $JS.API.CONSUMER.MSG.NEXT.DISCOUNT_QUERIES.easypay-bulk",
		"$JS.API.STREAM.MSG.GET.*":                   "right to: publish $JS.API.STREAM.MSG.GET.DISCOUNT_DEAD",
	} {
		t.Run(without, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			_, denied, _ := strings.Cut(says, "publish ")
			rights := &server.SubjectPermission{Allow: workerMay(), Deny: []string{denied}}
			if !strings.HasSuffix(without, "*") {
				rights = &server.SubjectPermission{Allow: slices.DeleteFunc(workerMay(), func(right string) bool { return right == without })}
			}
			s.withUsers(t, rights)
			found := s.run(t)
			requireFinding(t, found, "permissions", Fail, says)
			require.NotContains(t, found["permissions"].Detail, ";"+" publish", "one right is missing, and one is named")
		})
	}
}

func TestUserThatMayNotLook(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withUsers(t, &server.SubjectPermission{Allow: slices.DeleteFunc(workerMay(), func(right string) bool {
		return right == "$JS.API.STREAM.INFO.*"
	})})
	requireFinding(t, s.run(t), "streams", Fail, "$JS.API.STREAM.INFO.")
}

func TestUserThatIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withUsers(t, nil)
	s.NATS.User = "stranger"
	requireFinding(t, s.run(t), "broker", Unreachable, "refused our credentials")
}
