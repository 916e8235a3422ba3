package ask

import (
	"errors"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

const someKeys = `{"keys":[]}`

func TestPublicKeysAreServed(t *testing.T) {
	t.Parallel()
	var failing error
	b := setup(t, echo, func(o *Options) { o.Keys = func() ([]byte, error) { return []byte(someKeys), failing } })
	reply := b.request("discount.keys", nil, "whatever")
	require.Equal(t, someKeys, string(reply.Data))
	require.Equal(t, "application/jwk-set+json", reply.Header.Get("Content-Type"))
	require.Equal(t, map[Code]int{Answered: 1}, b.served.codes("keys"))
	requireEvent(t, b.ask("1"), `{"asked":"{\"cardCd\":\"026\"}"}`)
	failing = errors.New("s3cret")
	reply = b.request("discount.keys", nil, "")
	require.Equal(t, "503", reply.Header.Get("Nats-Service-Error-Code"))
	require.NotContains(t, string(reply.Data)+reply.Header.Get("Nats-Service-Error"), "s3cret")
}

func TestWithoutKeysNobodyServesThem(t *testing.T) {
	t.Parallel()
	b := setup(t, echo)
	_, err := b.client.Request("discount.keys", nil, patience)
	require.ErrorIs(t, err, nats.ErrNoResponders)
}

// TestTheRightsForKeys shows that a client which may only request keys gets them, and that it can't pass its own off as the workers'.
func TestTheRightsForKeys(t *testing.T) {
	t.Parallel()
	worker := workerRights()
	worker.Subscribe.Allow = append(worker.Subscribe.Allow, "discount.keys")
	shop := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"discount.keys"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.shop.>"}},
	}
	srv := guarded(t, map[string]*server.Permissions{"worker": worker, "shop": shop})
	conn, denied := as(t, srv, "worker")
	b := &bundle{t: t}
	b.served = b.serve(conn, echo, func(o *Options) { o.Keys = func() ([]byte, error) { return []byte(someKeys), nil } })
	client, refused := as(t, srv, "shop")
	b.client = client
	require.Equal(t, someKeys, string(b.request("discount.keys", nil, "").Data))
	require.Empty(t, denied)
	_, err := client.QueueSubscribeSync("discount.keys", "q")
	require.NoError(t, err)
	require.ErrorContains(t, <-refused, `"discount.keys"`)
}
