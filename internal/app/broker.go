package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
)

// Topology returns what the broker must hold for the configuration.
func Topology(c config.Config) broker.Topology {
	t := broker.DefaultTopology()
	t.Prefix, t.Providers, t.Lanes = c.Prefix, c.Providers.Enabled(), []string{string(query.Interactive), string(query.Bulk)}
	t.Clients, t.Replicas = c.Clients, c.Streams.Replicas
	t.AckWait, t.MaxAckPending, t.MaxDeliver = c.Consumer.AckWait, c.Consumer.MaxAckPending, c.Consumer.MaxDeliver
	t.Queries.MaxBytes, t.Queries.MaxMsgSize = int64(c.Streams.Queries.MaxBytes), int32(c.Streams.Queries.MaxMsgSize) //nolint:gosec // Validated.
	t.Results.MaxAge, t.Results.MaxBytes = c.Streams.Results.MaxAge, int64(c.Streams.Results.MaxBytes)
	t.Dead.MaxAge, t.Dead.MaxBytes = c.Streams.Dead.MaxAge, int64(c.Streams.Dead.MaxBytes)
	t.Advisories.MaxAge = c.Streams.Advisories.MaxAge
	return t
}

// Broker is a connection to the broker, and the embedded server behind it where there is one.
type Broker struct {
	Conn     *nats.Conn
	JS       jetstream.JetStream
	embedded *broker.Embedded
}

// BrokerOptions say how to open a broker.
type BrokerOptions struct {
	// Serve starts the embedded server if nats.url is empty. Without it, the embedded server of a worker on this machine is
	// reached at embedded.listen.
	Serve bool
	// Name overrides nats.name.
	Name string
	// OnEvent and OnLog may be nil.
	OnEvent func(broker.Event)
	OnLog   func(level, text string)
}

// OpenBroker connects to the configured broker.
func OpenBroker(ctx context.Context, c config.Config, o BrokerOptions) (*Broker, error) {
	b := &Broker{}
	options := broker.Options{
		URL: string(c.NATS.URL), Name: c.NATS.Name, CredentialsFile: c.NATS.CredentialsFile, NKeyFile: c.NATS.NKeyFile,
		User: c.NATS.User, PasswordFile: c.NATS.PasswordFile, InboxPrefix: c.NATS.InboxPrefix,
		ConnectTimeout: c.NATS.ConnectTimeout, OnEvent: o.OnEvent,
		TLS: broker.TLS{
			CAFile: c.NATS.TLS.CAFile, CertFile: c.NATS.TLS.CertFile, KeyFile: c.NATS.TLS.KeyFile, HandshakeFirst: c.NATS.TLS.HandshakeFirst,
		},
	}
	if o.Name != "" {
		options.Name = o.Name
	}
	switch {
	case options.URL == "" && o.Serve:
		embedded, err := broker.StartEmbedded(ctx, broker.EmbeddedOptions{
			Listen: c.Embedded.Listen, StoreDir: c.DataDir, SyncAlways: c.Embedded.SyncAlways, MaxStore: int64(c.Embedded.MaxStore), Logf: o.OnLog,
		})
		if err != nil {
			return nil, err
		}
		b.embedded, options.InProcess = embedded, embedded
	case options.URL == "":
		options.URL = "nats://" + c.Embedded.Listen
	}
	conn, err := broker.Connect(ctx, options)
	if err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	b.Conn = conn
	b.JS, err = jetstream.New(conn, jetstream.WithDefaultTimeout(c.NATS.RequestTimeout))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open JetStream: %w", err), b.Close(ctx))
	}
	return b, nil
}

// ClientURL returns the URL at which other processes reach the broker.
func (b *Broker) ClientURL() string {
	if b.embedded != nil {
		return b.embedded.ClientURL()
	}
	return b.Conn.ConnectedUrlRedacted()
}

// Prepare checks the server and its objects. On the embedded server it applies the topology; on any other it only looks, because
// a worker has no right to change it.
func (b *Broker) Prepare(ctx context.Context, topology broker.Topology) error {
	if err := broker.CheckServer(b.Conn); err != nil {
		return err
	}
	if b.embedded != nil {
		plan, err := broker.MakePlan(ctx, b.JS, topology)
		if err != nil {
			return err
		}
		return broker.Apply(ctx, b.JS, plan, nil)
	}
	left, err := broker.Verify(ctx, b.JS, topology)
	if err != nil {
		return err
	}
	return missing(left)
}

// missing returns an error if an object is not there at all. Settings that differ are somebody's choice and only reported by check.
func missing(left []broker.Step) error {
	var names []string
	for _, step := range left {
		if step.Action == broker.ActionCreate {
			names = append(names, string(step.Kind)+" "+step.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("the broker lacks %s: run `worker setup --apply` with credentials that may create them", strings.Join(names, ", "))
}

// Close drains the connection and stops the embedded server.
func (b *Broker) Close(ctx context.Context) error {
	var err error
	if b.Conn != nil {
		err = broker.Drain(ctx, b.Conn)
	}
	if b.embedded != nil {
		b.embedded.Shutdown()
	}
	return err
}
