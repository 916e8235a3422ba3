package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/fault"
)

func plan(t *testing.T, s *brokertest.Server) broker.Plan {
	t.Helper()
	made, err := broker.MakePlan(t.Context(), s.JS, s.Topology)
	require.NoError(t, err)
	return made
}

func apply(t *testing.T, s *brokertest.Server) {
	t.Helper()
	require.NoError(t, broker.Apply(t.Context(), s.JS, plan(t, s), nil))
}

func stepOf(t *testing.T, p broker.Plan, name string) broker.Step {
	t.Helper()
	for _, step := range p.Steps {
		if step.Name == name || step.Stream+"/"+step.Name == name {
			return step
		}
	}
	require.FailNow(t, "no step about "+name)
	return broker.Step{}
}

// everything returns the configuration of every stream and consumer on the server, as the server tells it.
func everything(t *testing.T, s *brokertest.Server) map[string]any {
	t.Helper()
	found := map[string]any{}
	streams := s.JS.ListStreams(t.Context())
	for info := range streams.Info() {
		found[info.Config.Name] = info.Config
		handle, err := s.JS.Stream(t.Context(), info.Config.Name)
		require.NoError(t, err)
		consumers := handle.ListConsumers(t.Context())
		for consumer := range consumers.Info() {
			found[info.Config.Name+"/"+consumer.Name] = consumer.Config
		}
		require.NoError(t, consumers.Err())
	}
	require.NoError(t, streams.Err())
	return found
}

func publish(t *testing.T, s *brokertest.Server, subject, data string, opts ...jetstream.PublishOpt) *jetstream.PubAck {
	t.Helper()
	ack, err := s.JS.Publish(t.Context(), subject, []byte(data), opts...)
	require.NoError(t, err)
	return ack
}

func TestEmptyServerNeedsEverything(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	made := plan(t, s)
	require.Len(t, made.Steps, 6+3+8)
	for _, step := range made.Steps {
		require.Equal(t, broker.ActionCreate, step.Action, step)
	}
	require.False(t, made.Done())
	require.Empty(t, everything(t, s), "a plan changes nothing")
}

func TestAppliedPlanLeavesNothingToDo(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	var told []broker.Step
	require.NoError(t, broker.Apply(t.Context(), s.JS, plan(t, s), func(step broker.Step) { told = append(told, step) }))
	require.Len(t, told, 17)
	before := everything(t, s)
	require.Len(t, before, 6+3+8)

	again := plan(t, s)
	for _, step := range again.Steps {
		require.Equal(t, broker.ActionKeep, step.Action, step)
		require.Empty(t, step.Reason)
	}
	require.True(t, again.Done())
	require.NoError(t, broker.Apply(t.Context(), s.JS, again, nil))
	require.Equal(t, before, everything(t, s))

	left, err := broker.Verify(t.Context(), s.JS, s.Topology)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestVerifyTellsWhatIsMissingOrDrifted(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	names := s.Topology.Names()
	require.NoError(t, s.JS.DeleteConsumer(t.Context(), names.Retries(), "easypay-bulk"))
	require.NoError(t, s.JS.DeleteStream(t.Context(), names.Dead()))
	results, err := s.JS.Stream(t.Context(), names.Results())
	require.NoError(t, err)
	drifted := results.CachedInfo().Config
	drifted.AllowDirect = true
	_, err = s.JS.UpdateStream(t.Context(), drifted)
	require.NoError(t, err)

	left, err := broker.Verify(t.Context(), s.JS, s.Topology)
	require.NoError(t, err)
	got := map[string]broker.Action{}
	for _, step := range left {
		got[step.Name] = step.Action
	}
	require.Equal(t, map[string]broker.Action{
		names.Results(): broker.ActionChange, names.Dead(): broker.ActionCreate, "easypay-bulk": broker.ActionCreate,
	}, got)
}

func TestBucketsAreThoseOfTheClient(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	for _, bucket := range s.Topology.Buckets() {
		_, err := s.JS.CreateKeyValue(t.Context(), bucket)
		require.NoError(t, err)
	}
	made := plan(t, s)
	for _, bucket := range s.Topology.Buckets() {
		require.Equal(t, broker.ActionKeep, stepOf(t, made, bucket.Bucket).Action)
	}

	own := brokertest.New(t)
	theirs, ours := everything(t, s), everything(t, own)
	for _, bucket := range s.Topology.Buckets() {
		name := "KV_" + bucket.Bucket
		a, b := theirs[name].(jetstream.StreamConfig), ours[name].(jetstream.StreamConfig)
		a.Metadata, b.Metadata = nil, nil
		require.Equal(t, a, b)
	}
}

func TestReplaysHaveAsMuchRoomAsTheirLetters(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ letters, want int64 }{
		"few": {1 << 20, 64 << 20}, "as many as there are by default": {1 << 30, 256 << 20}, "many": {100 << 30, 25 << 30}, "any number": {0, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := brokertest.New(t, brokertest.WithTopology(func(topology *broker.Topology) { topology.Dead.MaxBytes = test.letters }))
			stream, err := s.JS.Stream(t.Context(), "KV_"+s.Topology.Names().ReplaysBucket())
			require.NoError(t, err)
			require.Equal(t, test.want, stream.CachedInfo().Config.MaxBytes)
			left, err := broker.Verify(t.Context(), s.JS, s.Topology)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestBucketsWork(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	kv, err := s.JS.KeyValue(t.Context(), s.Topology.Names().PaceBucket())
	require.NoError(t, err)
	first, err := kv.Create(t.Context(), "easypay", []byte("1"))
	require.NoError(t, err)
	_, err = kv.Update(t.Context(), "easypay", []byte("2"), first)
	require.NoError(t, err)
	_, err = kv.Update(t.Context(), "easypay", []byte("3"), first)
	require.ErrorIs(t, err, jetstream.ErrKeyExists)
}

func TestStalePlanIsRefused(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	made := plan(t, s)
	require.NoError(t, broker.Apply(t.Context(), s.JS, made, nil))
	before := everything(t, s)
	err := broker.Apply(t.Context(), s.JS, made, nil)
	require.ErrorIs(t, err, broker.ErrPlanStale)
	require.Equal(t, before, everything(t, s))
}

func TestPlanWithoutAServer(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	s.Stop()
	_, err := broker.MakePlan(t.Context(), s.JS, s.Topology)
	require.Error(t, err)
	require.Equal(t, fault.BrokerUnreachable, fault.CodeOf(err))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = broker.MakePlan(ctx, s.JS, s.Topology)
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
}

func TestInvalidTopologyIsNotPlanned(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	s.Topology.Lanes = nil
	_, err := broker.MakePlan(t.Context(), s.JS, s.Topology)
	require.ErrorIs(t, err, broker.ErrTopology)
	_, err = broker.Verify(t.Context(), s.JS, s.Topology)
	require.ErrorIs(t, err, broker.ErrTopology)
}

func TestForeignStreamOnOurSubjectsIsInTheWay(t *testing.T) {
	t.Parallel()
	for name, subject := range map[string]string{"all": "discount.>", "one lane": "discount.query.*.bulk.shop", "wildcards": "discount.*.*.*.*"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := brokertest.Start(t)
			_, err := s.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{subject}})
			require.NoError(t, err)
			before := everything(t, s)
			made := plan(t, s)
			step := stepOf(t, made, s.Topology.Names().Queries())
			require.Equal(t, broker.ActionInTheWay, step.Action)
			require.Contains(t, step.Reason, "OTHER")

			err = broker.Apply(t.Context(), s.JS, made, nil)
			require.ErrorIs(t, err, broker.ErrInTheWay)
			require.ErrorContains(t, err, "OTHER")
			require.ErrorContains(t, err, "DISCOUNT_QUERIES")
			require.Equal(t, fault.BrokerRefused, fault.CodeOf(err))
			require.Equal(t, before, everything(t, s), "nothing at all is done when anything is in the way")
		})
	}
}

func TestForeignStreamOnAnAddedLaneIsInTheWay(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	_, err := s.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"discount.query.easypay.night.*"}})
	require.NoError(t, err)
	s.Topology.Lanes = append(s.Topology.Lanes, "night")
	step := stepOf(t, plan(t, s), s.Topology.Names().Queries())
	require.Equal(t, broker.ActionInTheWay, step.Action)
	require.Contains(t, step.Reason, "OTHER")
}

func TestForeignConsumerOnOurMessagesIsInTheWay(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	queries := s.Topology.Names().Queries()
	require.NoError(t, s.JS.DeleteConsumer(t.Context(), queries, "easypay-bulk"))
	_, err := s.JS.CreateConsumer(t.Context(), queries, jetstream.ConsumerConfig{
		Durable: "spy", FilterSubject: "discount.query.easypay.bulk.one", AckPolicy: jetstream.AckExplicitPolicy,
	})
	require.NoError(t, err)
	made := plan(t, s)
	step := stepOf(t, made, queries+"/easypay-bulk")
	require.Equal(t, broker.ActionInTheWay, step.Action)
	require.Contains(t, step.Reason, "spy")
	spy := stepOf(t, made, "spy")
	require.Equal(t, broker.ActionKeep, spy.Action)
	require.NotEmpty(t, spy.Reason)
	require.ErrorIs(t, broker.Apply(t.Context(), s.JS, made, nil), broker.ErrInTheWay)
}

// TestConsumersTradeMessages: one of ours reads what another of ours should. That needs no hand, only the right order.
func TestConsumersTradeMessages(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	queries := s.Topology.Names().Queries()
	require.NoError(t, s.JS.DeleteConsumer(t.Context(), queries, "easypay-interactive"))
	consumer, err := s.JS.Consumer(t.Context(), queries, "unionpay-bulk")
	require.NoError(t, err)
	config := consumer.CachedInfo().Config
	config.FilterSubject, config.FilterSubjects = "", []string{"discount.query.unionpay.bulk.*", "discount.query.easypay.interactive.*"}
	_, err = s.JS.UpdateConsumer(t.Context(), queries, config)
	require.NoError(t, err)

	made := plan(t, s)
	require.Equal(t, broker.ActionCreate, stepOf(t, made, queries+"/easypay-interactive").Action)
	require.Equal(t, broker.ActionChange, stepOf(t, made, queries+"/unionpay-bulk").Action)
	require.NoError(t, broker.Apply(t.Context(), s.JS, made, nil))
	require.True(t, plan(t, s).Done())
}

func TestPushConsumerIsInTheWay(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	queries := s.Topology.Names().Queries()
	require.NoError(t, s.JS.DeleteConsumer(t.Context(), queries, "easypay-bulk"))
	_, err := s.JS.CreatePushConsumer(t.Context(), queries, jetstream.ConsumerConfig{
		Durable: "easypay-bulk", FilterSubject: "discount.query.easypay.bulk.*", AckPolicy: jetstream.AckExplicitPolicy, DeliverSubject: "push.here",
	})
	require.NoError(t, err)
	step := stepOf(t, plan(t, s), queries+"/easypay-bulk")
	require.Equal(t, broker.ActionInTheWay, step.Action)
	require.Contains(t, step.Reason, "push")
}

func TestRemovedProvider(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	names := s.Topology.Names()
	publish(t, s, "discount.query.unionpay.bulk.shop", "waiting")
	before := everything(t, s)

	s.Topology.Providers = []string{"easypay"}
	made := plan(t, s)
	step := stepOf(t, made, names.Queries())
	require.Equal(t, broker.ActionInTheWay, step.Action, "a stored query would be left unread")
	require.Contains(t, step.Reason, "1 messages are still stored under discount.query.unionpay.bulk.*")
	require.Equal(t, broker.ActionChange, stepOf(t, made, names.Retries()).Action)
	require.ErrorIs(t, broker.Apply(t.Context(), s.JS, made, nil), broker.ErrInTheWay)
	require.Equal(t, before, everything(t, s))

	consumer, err := s.JS.Consumer(t.Context(), names.Queries(), "unionpay-bulk")
	require.NoError(t, err)
	msg, err := consumer.Next()
	require.NoError(t, err)
	require.NoError(t, msg.DoubleAck(t.Context()))

	apply(t, s)
	_, err = s.JS.Publish(t.Context(), "discount.query.unionpay.bulk.shop", nil, jetstream.WithRetryAttempts(0))
	require.ErrorIs(t, err, jetstream.ErrNoStreamResponse)
	made = plan(t, s)
	require.True(t, made.Done())
	require.Contains(t, stepOf(t, made, names.Queries()+"/unionpay-bulk").Reason, "not in the configuration", "left, because nothing is ever deleted")
}

func TestAddedLane(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	kept := publish(t, s, "discount.query.easypay.bulk.shop", "waiting")
	s.Topology.Lanes = append(s.Topology.Lanes, "night")
	made := plan(t, s)
	require.Empty(t, made.InTheWay())
	require.NoError(t, broker.Apply(t.Context(), s.JS, made, nil))
	publish(t, s, "discount.query.easypay.night.shop", "new")
	stream, err := s.JS.Stream(t.Context(), s.Topology.Names().Queries())
	require.NoError(t, err)
	msg, err := stream.GetMsg(t.Context(), kept.Sequence)
	require.NoError(t, err)
	require.Equal(t, "waiting", string(msg.Data))
}

func TestLimitsOfTheConfigurationAndOfSomebodyElse(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	names := s.Topology.Names()
	edit := func(change func(*jetstream.StreamConfig)) {
		stream, err := s.JS.Stream(t.Context(), names.Queries())
		require.NoError(t, err)
		config := stream.CachedInfo().Config
		change(&config)
		_, err = s.JS.UpdateStream(t.Context(), config)
		require.NoError(t, err)
	}

	edit(func(c *jetstream.StreamConfig) { c.MaxBytes *= 2 })
	step := stepOf(t, plan(t, s), names.Queries())
	require.Equal(t, broker.ActionKeep, step.Action, "somebody raised it: not our business")
	require.Contains(t, step.Reason, "max_bytes")

	edit(func(c *jetstream.StreamConfig) { c.MaxBytes = s.Topology.Queries.MaxBytes / 2 })
	require.Equal(t, []broker.Change{{Field: "max_bytes", From: "536870912", To: "1073741824"}}, stepOf(t, plan(t, s), names.Queries()).Changes)
	apply(t, s)

	s.Topology.Queries.MaxBytes /= 4
	step = stepOf(t, plan(t, s), names.Queries())
	require.Equal(t, broker.ActionChange, step.Action, "the configuration asks for less than it did")
	apply(t, s)
	require.True(t, plan(t, s).Done())

	for i := range 4 {
		publish(t, s, "discount.query.easypay.bulk.shop", fmt.Sprint(i))
	}
	s.Topology.Queries.MaxBytes = 50
	made := plan(t, s)
	step = stepOf(t, made, names.Queries())
	require.Equal(t, broker.ActionInTheWay, step.Action)
	require.Contains(t, step.Reason, "max_bytes 50 is less than")
	require.ErrorIs(t, broker.Apply(t.Context(), s.JS, made, nil), broker.ErrInTheWay)
}

func TestMaxDeliverIsNotLoweredUnderMessagesInTrouble(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	queries := s.Topology.Names().Queries()
	publish(t, s, "discount.query.easypay.bulk.shop", "x")
	consumer, err := s.JS.Consumer(t.Context(), queries, "easypay-bulk")
	require.NoError(t, err)
	for range 2 {
		msg, err := consumer.Next()
		require.NoError(t, err)
		require.NoError(t, msg.Nak())
	}
	msg, err := consumer.Next()
	require.NoError(t, err)
	s.Topology.MaxDeliver--
	step := stepOf(t, plan(t, s), queries+"/easypay-bulk")
	require.Equal(t, broker.ActionInTheWay, step.Action)
	require.Contains(t, step.Reason, "max_deliver")

	require.NoError(t, msg.DoubleAck(t.Context()))
	apply(t, s)
	require.True(t, plan(t, s).Done())
}

func TestForeignSettingsOutliveAChange(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	names := s.Topology.Names()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)

	stream, err := s.JS.Stream(t.Context(), names.Queries())
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	config.Description, config.Compression, config.MaxConsumers = "orders", jetstream.S2Compression, 50
	config.Metadata["team"] = "shop"
	_, err = s.JS.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	results, err := s.JS.Stream(t.Context(), names.Results())
	require.NoError(t, err)
	config = results.CachedInfo().Config
	config.Subjects = append(config.Subjects, "archive.>")
	_, err = s.JS.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	consumer, err := s.JS.Consumer(t.Context(), names.Queries(), "easypay-bulk")
	require.NoError(t, err)
	cc := consumer.CachedInfo().Config
	cc.Description, cc.MaxRequestBatch, cc.SampleFrequency = "night", 9, "10%"
	_, err = s.JS.UpdateConsumer(t.Context(), names.Queries(), cc)
	require.NoError(t, err)
	_, err = s.JS.PauseConsumer(t.Context(), names.Queries(), "easypay-bulk", until)
	require.NoError(t, err)
	require.True(t, plan(t, s).Done(), "what others set is no drift")

	s.Topology.Queries.MaxMsgSize *= 2
	s.Topology.Results.MaxMsgSize *= 2
	s.Topology.AckWait *= 2
	apply(t, s)
	found := everything(t, s)
	after := found[names.Queries()].(jetstream.StreamConfig)
	require.Equal(t, "orders", after.Description)
	require.Equal(t, jetstream.S2Compression, after.Compression)
	require.Equal(t, 50, after.MaxConsumers)
	require.Equal(t, "shop", after.Metadata["team"])
	require.Equal(t, s.Topology.Queries.MaxMsgSize, after.MaxMsgSize)
	require.Equal(t, []string{"discount.result.>", "archive.>"}, found[names.Results()].(jetstream.StreamConfig).Subjects)
	worker := found[names.Queries()+"/easypay-bulk"].(jetstream.ConsumerConfig)
	require.Equal(t, "night", worker.Description)
	require.Equal(t, 9, worker.MaxRequestBatch)
	require.Equal(t, "10%", worker.SampleFrequency)
	require.NotNil(t, worker.PauseUntil)
	require.True(t, until.Equal(*worker.PauseUntil), "a pause is ops' own")
	require.Equal(t, s.Topology.AckWait, worker.AckWait)
}

func TestApplyDeletesNothing(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	names := s.Topology.Names()
	_, err := s.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}})
	require.NoError(t, err)
	_, err = s.JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "other"})
	require.NoError(t, err)
	_, err = s.JS.CreateConsumer(t.Context(), names.Results(), jetstream.ConsumerConfig{Durable: "analytics"})
	require.NoError(t, err)
	for _, subject := range []string{"discount.query.easypay.bulk.c", "discount.retry.due.easypay.bulk.c", "discount.result.k.easypay.c.completed", "discount.dead.k.easypay.c.horizon", "other.x"} {
		publish(t, s, subject, "kept")
	}
	before := everything(t, s)

	s.Topology.Lanes = append(s.Topology.Lanes, "night")
	s.Topology.Results.MaxAge *= 2
	s.Topology.MaxAckPending *= 2
	apply(t, s)
	after := everything(t, s)
	for name := range before {
		require.Contains(t, after, name)
	}
	require.Equal(t, before["OTHER"], after["OTHER"])
	require.Equal(t, before[names.Results()+"/analytics"], after[names.Results()+"/analytics"])
	for _, name := range []string{names.Queries(), names.Retries(), names.Results(), names.Dead(), "OTHER"} {
		stream, err := s.JS.Stream(t.Context(), name)
		require.NoError(t, err)
		require.EqualValues(t, 1, stream.CachedInfo().State.Msgs, name)
	}
}

func TestServerWithoutRoomSaysSo(t *testing.T) {
	t.Parallel()
	embedded, err := broker.StartEmbedded(t.Context(), broker.EmbeddedOptions{StoreDir: t.TempDir(), MaxStore: 64 << 20})
	require.NoError(t, err)
	t.Cleanup(embedded.Shutdown)
	nc, err := broker.Connect(t.Context(), broker.Options{InProcess: embedded})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	made, err := broker.MakePlan(t.Context(), js, broker.DefaultTopology())
	require.NoError(t, err)
	err = broker.Apply(t.Context(), js, made, nil)
	require.Equal(t, fault.BrokerRefused, fault.CodeOf(err))
	require.ErrorContains(t, err, "DISCOUNT_QUERIES")
	require.ErrorContains(t, err, "no room for its limit of 1073741824 bytes")
}

func TestReplicasNeedACluster(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	s.Topology.Replicas = 3
	made := plan(t, s)
	step := stepOf(t, made, s.Topology.Names().Queries())
	require.Equal(t, broker.ActionChange, step.Action)
	require.Equal(t, []broker.Change{{Field: "num_replicas", From: "1", To: "3"}}, step.Changes)
	err := broker.Apply(t.Context(), s.JS, made, nil)
	require.Equal(t, fault.BrokerRefused, fault.CodeOf(err))
	require.ErrorContains(t, err, "10074")
	require.NotErrorIs(t, err, nats.ErrTimeout)
}
