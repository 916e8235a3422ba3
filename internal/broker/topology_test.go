package broker

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func streamNamed(t *testing.T, topology Topology, name string) jetstream.StreamConfig {
	t.Helper()
	for _, config := range topology.Streams() {
		if config.Name == name {
			return config
		}
	}
	require.FailNow(t, "no stream "+name)
	return jetstream.StreamConfig{}
}

func TestNames(t *testing.T) {
	t.Parallel()
	n := NewNames("shop-1")
	require.Equal(t, []string{"SHOP-1_QUERIES", "SHOP-1_RETRIES", "SHOP-1_RESULTS", "SHOP-1_DEAD", "SHOP-1_ADVISORIES", "SHOP-1_AUDIT"},
		[]string{n.Queries(), n.Retries(), n.Results(), n.Dead(), n.Advisories(), n.Audit()})
	require.Equal(t, []string{"shop-1_pace", "shop-1_replays", "shop-1_answers"},
		[]string{n.PaceBucket(), n.ReplaysBucket(), n.AnswersBucket()})
	require.Equal(t, "easypay-bulk", n.Consumer("easypay", "bulk"))
	require.Equal(t, "shop-1.query.easypay.bulk.*", n.QueryFilter("easypay", "bulk"))
	require.Equal(t, "shop-1.retry.due.easypay.bulk.*", n.RetryFilter("easypay", "bulk"))
	require.Equal(t, "shop-1.retry.at.>", n.ScheduleFilter())
	require.Equal(t, "shop-1.result.>", n.ResultFilter())
	require.Equal(t, "shop-1.dead.>", n.DeadFilter())
	require.Equal(t, "shop-1.audit.>", n.AuditFilter())
	require.Equal(t, []string{
		"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.SHOP-1_QUERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.SHOP-1_QUERIES.>",
		"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.SHOP-1_RETRIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.SHOP-1_RETRIES.>",
	}, n.AdvisoryFilters())
}

func TestDefaultTopologyIsValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultTopology().Validate())
}

func TestNoStreamLosesQuietly(t *testing.T) {
	t.Parallel()
	topology := DefaultTopology()
	n := topology.Names()
	for _, name := range []string{n.Queries(), n.Retries()} {
		config := streamNamed(t, topology, name)
		require.Equal(t, jetstream.WorkQueuePolicy, config.Retention, name)
		require.Zero(t, config.MaxAge, "%s must not drop what nobody has answered", name)
		require.Equal(t, int64(-1), config.MaxMsgs, name)
		require.Equal(t, int64(-1), config.MaxMsgsPerSubject, name)
		require.False(t, config.AllowMsgTTL, name)
	}
	require.Equal(t, int64(-1), streamNamed(t, topology, n.Retries()).MaxBytes, "a stream that discards its oldest must not get full")
	for _, name := range []string{n.Queries(), n.Results(), n.Dead(), n.Audit()} {
		config := streamNamed(t, topology, name)
		require.Equal(t, jetstream.DiscardNew, config.Discard, name)
		require.True(t, config.DenyPurge, name)
		require.False(t, config.AllowRollup, name)
		require.False(t, config.AllowMsgSchedules, name)
		require.False(t, config.AllowDirect, name)
	}
	for _, config := range topology.Streams() {
		require.Equal(t, jetstream.FileStorage, config.Storage, config.Name)
	}
}

func TestQueriesStreamNamesWhatIsServed(t *testing.T) {
	t.Parallel()
	topology := DefaultTopology()
	topology.Providers, topology.Lanes = []string{"easypay"}, []string{"interactive", "bulk"}
	n := topology.Names()
	require.Equal(t, []string{"discount.query.easypay.interactive.*", "discount.query.easypay.bulk.*"}, streamNamed(t, topology, n.Queries()).Subjects)
	require.Equal(t, []string{"discount.retry.at.>", "discount.retry.due.easypay.interactive.*", "discount.retry.due.easypay.bulk.*"},
		streamNamed(t, topology, n.Retries()).Subjects)
}

// TestWhatCarriesAQueryHasRoomForIt raises the size of queries: their retries and letters, in which they lie sealed, have to fit too.
func TestWhatCarriesAQueryHasRoomForIt(t *testing.T) {
	t.Parallel()
	for queries, want := range map[int32]int32{
		0: -1, 1: 256 * kib, 64 * kib: 256 * kib, 128 * kib: 512 * kib, 8 * mib: 32 * mib, math.MaxInt32 / 4: math.MaxInt32 / 4 * 4, math.MaxInt32: -1,
	} {
		topology := DefaultTopology()
		topology.Queries.MaxMsgSize = queries
		n := topology.Names()
		require.Equal(t, want, streamNamed(t, topology, n.Retries()).MaxMsgSize, queries)
		require.Equal(t, want, streamNamed(t, topology, n.Dead()).MaxMsgSize, queries)
		require.EqualValues(t, 256*kib, streamNamed(t, topology, n.Results()).MaxMsgSize, "a result does not carry it")
	}
	unlimited := DefaultTopology()
	unlimited.Dead.MaxMsgSize = 0
	require.EqualValues(t, -1, streamNamed(t, unlimited, unlimited.Names().Dead()).MaxMsgSize)
}

func TestConsumersShareTheWorkOut(t *testing.T) {
	t.Parallel()
	topology := DefaultTopology()
	bindings := topology.Consumers()
	require.Len(t, bindings, 8)
	for i, a := range bindings {
		require.Equal(t, a.Provider+"-"+a.Lane, a.Config.Durable)
		require.Equal(t, a.Config.Name, a.Config.Durable)
		require.Equal(t, jetstream.AckExplicitPolicy, a.Config.AckPolicy)
		require.Equal(t, DefaultAckWait, a.Config.AckWait)
		require.Equal(t, DefaultMaxDeliver, a.Config.MaxDeliver)
		require.Equal(t, DefaultMaxAckPending, a.Config.MaxAckPending)
		require.Empty(t, a.Config.BackOff)
		require.Zero(t, a.Config.InactiveThreshold)
		require.Zero(t, a.Config.Replicas)
		for _, b := range bindings[i+1:] {
			require.False(t, server.SubjectsCollide(a.Config.FilterSubject, b.Config.FilterSubject), "%s and %s", a.Config.FilterSubject, b.Config.FilterSubject)
		}
	}
}

func TestStreamsNeverShareASubject(t *testing.T) {
	t.Parallel()
	var subjects []string
	for _, config := range DefaultTopology().Streams() {
		subjects = append(subjects, config.Subjects...)
	}
	for i, a := range subjects {
		for _, b := range subjects[i+1:] {
			require.False(t, server.SubjectsCollide(a, b), "%s and %s", a, b)
		}
	}
}

func TestShortAgeShortensTheDedupeWindow(t *testing.T) {
	t.Parallel()
	topology := DefaultTopology()
	topology.Results.MaxAge = 30 * time.Second
	require.Equal(t, 30*time.Second, streamNamed(t, topology, topology.Names().Results()).Duplicates)
	require.Equal(t, 2*time.Minute, streamNamed(t, topology, topology.Names().Dead()).Duplicates)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*Topology)
		says   string
	}{
		"no prefix":             {func(o *Topology) { o.Prefix = "" }, `prefix "" must be`},
		"prefix with a dot":     {func(o *Topology) { o.Prefix = "a.b" }, `prefix "a.b" must be`},
		"prefix in upper case":  {func(o *Topology) { o.Prefix = "Shop" }, `prefix "Shop" must be`},
		"prefix too long":       {func(o *Topology) { o.Prefix = strings.Repeat("a", 65) }, "must be 1 to 64"},
		"provider wildcard":     {func(o *Topology) { o.Providers = []string{"*"} }, `provider "*" must be`},
		"lane with a space":     {func(o *Topology) { o.Lanes = []string{"a b"} }, `lane "a b" must be`},
		"no providers":          {func(o *Topology) { o.Providers = nil }, "at least one provider"},
		"no lanes":              {func(o *Topology) { o.Lanes = nil }, "at least one lane"},
		"same provider twice":   {func(o *Topology) { o.Providers = []string{"a", "a"}; o.Lanes = []string{"b"} }, `two consumers would be called "a-b"`},
		"ambiguous names":       {func(o *Topology) { o.Providers = []string{"a", "a-b"}; o.Lanes = []string{"c", "b-c"} }, `two consumers would be called "a-b-c"`},
		"no replicas":           {func(o *Topology) { o.Replicas = 0 }, "replicas must be 1 to 5"},
		"too many replicas":     {func(o *Topology) { o.Replicas = 6 }, "replicas must be 1 to 5"},
		"no ack wait":           {func(o *Topology) { o.AckWait = 0 }, "ack_wait"},
		"no ack pending":        {func(o *Topology) { o.MaxAckPending = 0 }, "max_ack_pending"},
		"one delivery":          {func(o *Topology) { o.MaxDeliver = 1 }, "max_deliver"},
		"no answer ttl":         {func(o *Topology) { o.AnswerTTL = 0 }, "answer_ttl"},
		"retries could be full": {func(o *Topology) { o.Retries.MaxBytes = 1 }, "retries can't have max_bytes"},
		"negative bytes":        {func(o *Topology) { o.Dead.MaxBytes = -1 }, "limits of dead must not be negative"},
		"negative size":         {func(o *Topology) { o.Queries.MaxMsgSize = -1 }, "limits of queries must not be negative"},
		"tiny age":              {func(o *Topology) { o.Results.MaxAge = time.Millisecond }, "max_age of results"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topology := DefaultTopology()
			tc.change(&topology)
			err := topology.Validate()
			require.ErrorIs(t, err, ErrTopology)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	topology := DefaultTopology()
	topology.Replicas, topology.MaxDeliver = 0, 0
	err := topology.Validate()
	require.ErrorContains(t, err, "replicas")
	require.ErrorContains(t, err, "max_deliver")
}

func TestNamedClientsGetTheirOwnConsumers(t *testing.T) {
	t.Parallel()
	topology := DefaultTopology()
	topology.Providers, topology.Clients = []string{"easypay"}, []string{"shop", "POS-2"}
	require.NoError(t, topology.Validate())
	n := topology.Names()
	require.Equal(t, []string{
		"discount.query.easypay.interactive.shop", "discount.query.easypay.interactive.POS-2",
		"discount.query.easypay.bulk.shop", "discount.query.easypay.bulk.POS-2",
	}, streamNamed(t, topology, n.Queries()).Subjects, "a query of anybody else is refused at publish")
	require.Equal(t, []string{"discount.retry.at.>", "discount.retry.due.easypay.interactive.*", "discount.retry.due.easypay.bulk.*"},
		streamNamed(t, topology, n.Retries()).Subjects)
	var names []string
	for _, binding := range topology.Consumers() {
		names = append(names, binding.Stream+"/"+binding.Config.Durable+"/"+binding.Client)
	}
	require.Equal(t, []string{
		"DISCOUNT_QUERIES/easypay-interactive-shop/shop", "DISCOUNT_QUERIES/easypay-interactive-POS-2/POS-2",
		"DISCOUNT_QUERIES/easypay-bulk-shop/shop", "DISCOUNT_QUERIES/easypay-bulk-POS-2/POS-2",
		"DISCOUNT_RETRIES/easypay-interactive/", "DISCOUNT_RETRIES/easypay-bulk/",
	}, names)

	topology.Clients = []string{"a.b"}
	require.ErrorContains(t, topology.Validate(), `client "a.b"`)
	topology.Clients = []string{"shop", "shop"}
	require.ErrorContains(t, topology.Validate(), `two consumers would be called "easypay-interactive-shop"`)
}
