package broker_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
)

// streamDrift is one way in which a stream can differ from the topology.
type streamDrift struct {
	field  string
	stream func(broker.Names) string
	// mutate changes the configuration before the stream is made; later changes it once it is there.
	mutate, later func(*jetstream.StreamConfig)
	action        broker.Action
	// says is the setting that the reason names, if it is another one.
	says string
}

func streamDrifts() map[string]streamDrift {
	type config = jetstream.StreamConfig
	change, inTheWay := broker.ActionChange, broker.ActionInTheWay
	return map[string]streamDrift{
		"a lane is not stored": {"subjects", broker.Names.Queries, func(c *config) { c.Subjects = c.Subjects[1:] }, nil, change, ""},
		"a subject too many":   {"subjects", broker.Names.Queries, func(c *config) { c.Subjects = append(c.Subjects, c.Name+".extra") }, nil, change, ""},
		"dead letters not all": {"subjects", broker.Names.Dead, func(c *config) { c.Subjects = []string{c.Name + ".other"} }, nil, change, ""},
		"not a work queue":     {"retention", broker.Names.Queries, func(c *config) { c.Retention = jetstream.LimitsPolicy }, nil, inTheWay, ""},
		"a work queue":         {"retention", broker.Names.Results, func(c *config) { c.Retention = jetstream.WorkQueuePolicy }, nil, inTheWay, ""},
		"by interest":          {"retention", broker.Names.Results, func(c *config) { c.Retention = jetstream.InterestPolicy }, nil, change, ""},
		"in memory":            {"storage", broker.Names.Queries, func(c *config) { c.Storage = jetstream.MemoryStorage }, nil, inTheWay, ""},
		"drops the oldest":     {"discard", broker.Names.Queries, func(c *config) { c.Discard = jetstream.DiscardOld }, nil, change, ""},
		"full per subject": {"discard_new_per_subject", broker.Names.Queries, func(c *config) {
			c.DiscardNewPerSubject, c.MaxMsgsPerSubject = true, 5
		}, nil, change, ""},
		"queries age":        {"max_age", broker.Names.Queries, func(c *config) { c.MaxAge = time.Hour }, nil, change, ""},
		"little room":        {"max_bytes", broker.Names.Results, func(c *config) { c.MaxBytes = 1000 }, nil, change, ""},
		"retries get full":   {"max_bytes", broker.Names.Retries, func(c *config) { c.MaxBytes = 1000 }, nil, change, ""},
		"small messages":     {"max_msg_size", broker.Names.Dead, func(c *config) { c.MaxMsgSize = 100 }, nil, change, ""},
		"few messages":       {"max_msgs", broker.Names.Queries, func(c *config) { c.MaxMsgs = 10 }, nil, change, ""},
		"few per subject":    {"max_msgs_per_subject", broker.Names.Results, func(c *config) { c.MaxMsgsPerSubject = 1 }, nil, change, ""},
		"short memory":       {"duplicate_window", broker.Names.Queries, func(c *config) { c.Duplicates = time.Second }, nil, change, ""},
		"consumers bounded":  {"consumer_limits", broker.Names.Queries, func(c *config) { c.ConsumerLimits.MaxAckPending = 5000 }, nil, change, ""},
		"confirms nothing":   {"no_ack", broker.Names.Results, func(c *config) { c.NoAck = true }, nil, change, ""},
		"sealed":             {"sealed", broker.Names.Results, nil, func(c *config) { c.Sealed = true }, inTheWay, ""},
		"results deletable":  {"deny_delete", broker.Names.Results, func(c *config) { c.DenyDelete = false }, nil, change, ""},
		"dead not deletable": {"deny_delete", broker.Names.Dead, func(c *config) { c.DenyDelete = true }, nil, inTheWay, ""},
		"queries purgeable":  {"deny_purge", broker.Names.Queries, func(c *config) { c.DenyPurge = false }, nil, change, ""},
		"advisories locked":  {"deny_purge", broker.Names.Advisories, func(c *config) { c.DenyPurge = true }, nil, inTheWay, ""},
		"queries roll up":    {"allow_rollup_hdrs", broker.Names.Queries, func(c *config) { c.DenyPurge, c.AllowRollup = false, true }, nil, change, ""},
		"results read off":   {"allow_direct", broker.Names.Results, func(c *config) { c.AllowDirect = true }, nil, change, ""},
		"results expire":     {"allow_msg_ttl", broker.Names.Results, func(c *config) { c.AllowMsgTTL = true }, nil, inTheWay, ""},
		"markers": {"subject_delete_marker_ttl", broker.Names.Dead, func(c *config) {
			c.DenyPurge, c.SubjectDeleteMarkerTTL = false, time.Minute
		}, nil, inTheWay, "allow_msg_ttl"},
		"retries can't wait": {"allow_msg_schedules", broker.Names.Retries, func(c *config) { c.AllowMsgSchedules = false }, nil, change, ""},
		"queries scheduled": {"allow_msg_schedules", broker.Names.Queries, func(c *config) {
			c.DenyPurge, c.Discard, c.AllowMsgSchedules = false, jetstream.DiscardOld, true
		}, nil, inTheWay, ""},
		"a counter": {"allow_msg_counter", broker.Names.Dead, func(c *config) {
			c.Discard, c.AllowMsgCounter = jetstream.DiscardOld, true
		}, nil, inTheWay, ""},
		"written late": {"persist_mode", broker.Names.Queries, func(c *config) { c.PersistMode = jetstream.AsyncPersistMode }, nil, inTheWay, ""},
		"a mirror":     {"mirror", broker.Names.Results, func(c *config) { c.Subjects, c.Mirror = nil, &jetstream.StreamSource{Name: "ELSEWHERE"} }, nil, inTheWay, ""},
		"other subject": {"subject_transform", broker.Names.Dead, func(c *config) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "x.>"}
		}, nil, change, ""},
		"republished": {"republish", broker.Names.Queries, func(c *config) { c.RePublish = &jetstream.RePublish{Source: ">", Destination: "leak.>"} }, nil, change, ""},
	}
}

// TestStreamDrift makes each stream differently by hand and looks at what the plan finds, and whether it can be applied.
// Each case has a prefix of its own, so that one server serves them all.
func TestStreamDrift(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	covered := []string{"num_replicas"} // Needs a cluster, and is planned in TestReplicasNeedACluster.
	number := 0
	for name, tc := range streamDrifts() {
		covered = append(covered, tc.field)
		number++
		topology := s.Topology
		topology.Prefix = fmt.Sprintf("p%d", number)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := tc.stream(topology.Names())
			config := desiredStream(t, topology, target)
			if tc.mutate != nil {
				tc.mutate(&config)
			}
			_, err := s.JS.CreateStream(t.Context(), config)
			require.NoError(t, err)
			if tc.later != nil {
				tc.later(&config)
				_, err = s.JS.UpdateStream(t.Context(), config)
				require.NoError(t, err)
			}
			step := planOf(t, s, topology, target)
			require.Equal(t, tc.action, step.Action, step)
			require.True(t, slices.ContainsFunc(step.Changes, func(c broker.Change) bool { return c.Field == tc.field && c.From != c.To }), step)
			if tc.action == broker.ActionInTheWay {
				require.Contains(t, step.Reason, cmp.Or(tc.says, tc.field))
				return
			}
			require.Empty(t, step.Reason)
			made, err := broker.MakePlan(t.Context(), s.JS, topology)
			require.NoError(t, err)
			require.NoError(t, broker.Apply(t.Context(), s.JS, made, nil))
			require.Equal(t, broker.ActionKeep, planOf(t, s, topology, target).Action)
		})
	}
	require.Empty(t, missingFrom(broker.StreamFieldNames(), covered), "compared, but without a case here")
}

// consumerDrift is one way in which a consumer can differ from the topology.
type consumerDrift struct {
	field  string
	mutate func(*jetstream.ConsumerConfig)
	// stream changes the queries' stream, where the server takes the consumer on no other.
	stream func(*jetstream.StreamConfig)
	action broker.Action
}

func consumerDrifts() map[string]consumerDrift {
	type config = jetstream.ConsumerConfig
	change, inTheWay := broker.ActionChange, broker.ActionInTheWay
	limits := func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy }
	return map[string]consumerDrift{
		"one client only": {"filter_subject", func(c *config) { c.FilterSubject = c.FilterSubject[:len(c.FilterSubject)-1] + "shop" }, nil, change},
		"two filters": {"filter_subject", func(c *config) {
			base := c.FilterSubject[:len(c.FilterSubject)-1]
			c.FilterSubject, c.FilterSubjects = "", []string{base + "a", base + "b"}
		}, nil, change},
		"not durable":      {"durable_name", func(c *config) { c.Durable, c.InactiveThreshold = "", time.Hour }, nil, inTheWay},
		"new only":         {"deliver_policy", func(c *config) { c.DeliverPolicy = jetstream.DeliverNewPolicy }, limits, inTheWay},
		"acks in groups":   {"ack_policy", func(c *config) { c.AckPolicy = jetstream.AckAllPolicy }, limits, inTheWay},
		"at the old pace":  {"replay_policy", func(c *config) { c.ReplayPolicy = jetstream.ReplayOriginalPolicy }, nil, inTheWay},
		"in memory":        {"mem_storage", func(c *config) { c.MemoryStorage = true }, nil, inTheWay},
		"impatient":        {"ack_wait", func(c *config) { c.AckWait = time.Second }, nil, change},
		"few at once":      {"max_ack_pending", func(c *config) { c.MaxAckPending = 1 }, nil, change},
		"gives up never":   {"max_deliver", func(c *config) { c.MaxDeliver = -1 }, nil, change},
		"gives up early":   {"max_deliver", func(c *config) { c.MaxDeliver = 3 }, nil, change},
		"backs off":        {"backoff", func(c *config) { c.BackOff = []time.Duration{time.Second, time.Minute} }, nil, change},
		"goes by itself":   {"inactive_threshold", func(c *config) { c.InactiveThreshold = time.Hour }, nil, change},
		"headers only":     {"headers_only", func(c *config) { c.HeadersOnly = true }, nil, change},
		"overflow":         {"priority_policy", func(c *config) { c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyOverflow, []string{"g"} }, nil, change},
		"overflow, groups": {"priority_groups", func(c *config) { c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyOverflow, []string{"g"} }, nil, change},
	}
}

// TestConsumerDrift does for consumers what TestStreamDrift does for streams.
func TestConsumerDrift(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	var covered []string
	number := 0
	for name, tc := range consumerDrifts() {
		covered = append(covered, tc.field)
		number++
		topology := s.Topology
		topology.Prefix = fmt.Sprintf("c%d", number)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queries := topology.Names().Queries()
			stream := desiredStream(t, topology, queries)
			if tc.stream != nil {
				tc.stream(&stream)
			}
			_, err := s.JS.CreateStream(t.Context(), stream)
			require.NoError(t, err)
			binding := topology.Consumers()[0]
			require.Equal(t, queries, binding.Stream)
			config := binding.Config
			tc.mutate(&config)
			_, err = s.JS.CreateConsumer(t.Context(), queries, config)
			require.NoError(t, err)

			target := queries + "/" + binding.Config.Durable
			step := planOf(t, s, topology, target)
			require.Equal(t, tc.action, step.Action, step)
			require.True(t, slices.ContainsFunc(step.Changes, func(c broker.Change) bool { return c.Field == tc.field && c.From != c.To }), step)
			if tc.action == broker.ActionInTheWay {
				require.Contains(t, step.Reason, tc.field)
				return
			}
			made, err := broker.MakePlan(t.Context(), s.JS, topology)
			require.NoError(t, err)
			require.NoError(t, broker.Apply(t.Context(), s.JS, made, nil))
			require.Equal(t, broker.ActionKeep, planOf(t, s, topology, target).Action)
		})
	}
	require.Empty(t, missingFrom(broker.ConsumerFieldNames(), covered), "compared, but without a case here")
}

func desiredStream(t *testing.T, topology broker.Topology, name string) jetstream.StreamConfig {
	t.Helper()
	streams := topology.Streams()
	at := slices.IndexFunc(streams, func(c jetstream.StreamConfig) bool { return c.Name == name })
	require.GreaterOrEqual(t, at, 0, name)
	return streams[at]
}

func planOf(t *testing.T, s *brokertest.Server, topology broker.Topology, name string) broker.Step {
	t.Helper()
	made, err := broker.MakePlan(t.Context(), s.JS, topology)
	require.NoError(t, err)
	return stepOf(t, made, name)
}

func missingFrom(names, covered []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(covered, name) })
}
