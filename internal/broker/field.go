package broker

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// field is one setting of C, a stream's or a consumer's configuration, that the worker depends on.
// Settings without a field (description, placement, compression, pause, ...) belong to whoever set them.
type field[C any] struct {
	// name is the setting's name on the wire.
	name string
	// show returns the value as text. Two values are equal when their texts are.
	show func(*C) string
	// copy lays the value of from over that of to.
	copy func(to, from *C)
	// wider tells that have allows more than want. Only limits have it.
	wider func(have, want *C) bool
	// frozen returns why the server can't turn have into want, or "".
	frozen func(have, want *C) string
}

// Reasons for which a setting can't be changed on an existing object.
const (
	madeOnce  = "can't be changed once it exists"
	neverOff  = "can't be switched off once it is on"
	otherKind = "can't be changed from or to a work queue"
)

// plain returns the field of a setting that can be changed freely.
func plain[C any, T any](name string, at func(*C) *T) field[C] {
	return field[C]{
		name: name,
		show: func(c *C) string { return strings.ToLower(fmt.Sprint(*at(c))) },
		copy: func(to, from *C) { *at(to) = *at(from) },
	}
}

// limit returns the field of a bound for which zero and less mean no bound.
func limit[C any, T ~int | ~int32 | ~int64](name string, at func(*C) *T) field[C] {
	f := plain(name, at)
	reach := func(c *C) int64 {
		if v := int64(*at(c)); v > 0 {
			return v
		}
		return math.MaxInt64
	}
	f.wider = func(have, want *C) bool { return reach(have) > reach(want) }
	f.show = func(c *C) string {
		if reach(c) == math.MaxInt64 {
			return "unlimited"
		}
		return fmt.Sprint(*at(c))
	}
	return f
}

// fixed returns the field of a setting that is chosen once, when the object is made.
func fixed[C any, T any](name string, at func(*C) *T) field[C] {
	f := plain(name, at)
	f.frozen = func(_, _ *C) string { return madeOnce }
	return f
}

// oneWay returns the field of a switch that can be turned on but not off.
func oneWay[C any](name string, at func(*C) *bool) field[C] {
	f := plain(name, at)
	f.frozen = func(have, _ *C) string {
		if *at(have) {
			return neverOff
		}
		return ""
	}
	return f
}

// absent returns the field of a setting that must not be there at all. Text returns what a present one is shown as.
func absent[C any, T any](name string, at func(*C) **T, text func(*T) string) field[C] {
	f := plain(name, at)
	f.show = func(c *C) string {
		if *at(c) == nil {
			return "none"
		}
		return text(*at(c))
	}
	return f
}

// streamFields lists what the worker depends on in a stream. Which changes the server refuses was read in its source
// (2.15: configUpdateCheckLocked).
func streamFields() []field[jetstream.StreamConfig] {
	type config = jetstream.StreamConfig
	retention := plain("retention", func(c *config) *jetstream.RetentionPolicy { return &c.Retention })
	retention.frozen = func(have, want *config) string {
		if have.Retention == jetstream.WorkQueuePolicy || want.Retention == jetstream.WorkQueuePolicy {
			return otherKind
		}
		return ""
	}
	mirror := absent("mirror", func(c *config) **jetstream.StreamSource { return &c.Mirror },
		func(m *jetstream.StreamSource) string { return "of " + m.Name })
	mirror.frozen = func(_, _ *config) string { return madeOnce }
	subjects := plain("subjects", func(c *config) *[]string { return &c.Subjects })
	subjects.show = func(c *config) string { return strings.Join(slices.Sorted(slices.Values(c.Subjects)), " ") }
	return []field[config]{
		subjects,
		retention,
		fixed("storage", func(c *config) *jetstream.StorageType { return &c.Storage }),
		plain("discard", func(c *config) *jetstream.DiscardPolicy { return &c.Discard }),
		plain("discard_new_per_subject", func(c *config) *bool { return &c.DiscardNewPerSubject }),
		limit("max_age", func(c *config) *time.Duration { return &c.MaxAge }),
		limit("max_bytes", func(c *config) *int64 { return &c.MaxBytes }),
		limit("max_msg_size", func(c *config) *int32 { return &c.MaxMsgSize }),
		limit("max_msgs", func(c *config) *int64 { return &c.MaxMsgs }),
		limit("max_msgs_per_subject", func(c *config) *int64 { return &c.MaxMsgsPerSubject }),
		limit("duplicate_window", func(c *config) *time.Duration { return &c.Duplicates }),
		limit("num_replicas", func(c *config) *int { return &c.Replicas }),
		plain("consumer_limits", func(c *config) *jetstream.StreamConsumerLimits { return &c.ConsumerLimits }),
		plain("no_ack", func(c *config) *bool { return &c.NoAck }),
		oneWay("sealed", func(c *config) *bool { return &c.Sealed }),
		oneWay("deny_delete", func(c *config) *bool { return &c.DenyDelete }),
		oneWay("deny_purge", func(c *config) *bool { return &c.DenyPurge }),
		plain("allow_rollup_hdrs", func(c *config) *bool { return &c.AllowRollup }),
		plain("allow_direct", func(c *config) *bool { return &c.AllowDirect }),
		oneWay("allow_msg_ttl", func(c *config) *bool { return &c.AllowMsgTTL }),
		plain("subject_delete_marker_ttl", func(c *config) *time.Duration { return &c.SubjectDeleteMarkerTTL }),
		oneWay("allow_msg_schedules", func(c *config) *bool { return &c.AllowMsgSchedules }),
		fixed("allow_msg_counter", func(c *config) *bool { return &c.AllowMsgCounter }),
		fixed("persist_mode", func(c *config) *jetstream.PersistModeType { return &c.PersistMode }),
		mirror,
		absent("subject_transform", func(c *config) **jetstream.SubjectTransformConfig { return &c.SubjectTransform },
			func(t *jetstream.SubjectTransformConfig) string { return t.Source + " to " + t.Destination }),
		absent("republish", func(c *config) **jetstream.RePublish { return &c.RePublish },
			func(r *jetstream.RePublish) string { return r.Source + " to " + r.Destination }),
	}
}

// bucketFields lists what the worker depends on in the stream behind a bucket. How a bucket lets its keys expire and who else
// reads it is left to its owner.
func bucketFields() []field[jetstream.StreamConfig] {
	left := []string{"allow_msg_ttl", "subject_delete_marker_ttl", "allow_direct", "republish"}
	return slices.DeleteFunc(streamFields(), func(f field[jetstream.StreamConfig]) bool { return slices.Contains(left, f.name) })
}

// consumerFields lists what the worker depends on in a consumer. Which changes the server refuses was read in its source
// (2.15: checkNewConsumerConfig).
func consumerFields() []field[jetstream.ConsumerConfig] {
	type config = jetstream.ConsumerConfig
	filter := field[config]{
		name: "filter_subject",
		show: func(c *config) string { return strings.Join(filtersOf(c), " ") },
		copy: func(to, from *config) { to.FilterSubject, to.FilterSubjects = from.FilterSubject, from.FilterSubjects },
	}
	return []field[config]{
		filter,
		fixed("durable_name", func(c *config) *string { return &c.Durable }),
		fixed("deliver_policy", func(c *config) *jetstream.DeliverPolicy { return &c.DeliverPolicy }),
		fixed("ack_policy", func(c *config) *jetstream.AckPolicy { return &c.AckPolicy }),
		fixed("replay_policy", func(c *config) *jetstream.ReplayPolicy { return &c.ReplayPolicy }),
		fixed("mem_storage", func(c *config) *bool { return &c.MemoryStorage }),
		plain("ack_wait", func(c *config) *time.Duration { return &c.AckWait }),
		plain("max_ack_pending", func(c *config) *int { return &c.MaxAckPending }),
		plain("max_deliver", func(c *config) *int { return &c.MaxDeliver }),
		plain("backoff", func(c *config) *[]time.Duration { return &c.BackOff }),
		plain("inactive_threshold", func(c *config) *time.Duration { return &c.InactiveThreshold }),
		plain("headers_only", func(c *config) *bool { return &c.HeadersOnly }),
		plain("priority_policy", func(c *config) *jetstream.PriorityPolicy { return &c.PriorityPolicy }),
		plain("priority_groups", func(c *config) *[]string { return &c.PriorityGroups }),
	}
}

// filtersOf returns a consumer's filters, which the wire carries in two ways.
func filtersOf(c *jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return slices.Sorted(slices.Values(c.FilterSubjects))
}
