package broker

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrTopology is a topology that no server could hold.
var ErrTopology = errors.New("topology")

// Validate returns an error of ErrTopology that names everything wrong with the topology.
func (t Topology) Validate() error {
	var faults []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	t.checkNames(check)
	t.checkLimits(check)
	check(t.Replicas >= 1 && t.Replicas <= 5, "replicas must be 1 to 5")
	check(t.AckWait >= time.Second, "ack_wait must be at least one second")
	check(t.MaxAckPending >= 1, "max_ack_pending must be at least 1")
	check(t.MaxDeliver >= 2, "max_deliver must be at least 2, so that a query outlives a crash of its holder")
	check(t.AnswerTTL >= time.Second, "answer_ttl must be at least one second")
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrTopology, strings.Join(faults, "; "))
}

func (t Topology) checkNames(check func(ok bool, format string, args ...any)) {
	const form = "must be 1 to 64 characters of a-z, 0-9, '-' and '_'"
	check(isToken(t.Prefix), "prefix %q %s", t.Prefix, form)
	check(len(t.Providers) > 0, "there must be at least one provider")
	check(len(t.Lanes) > 0, "there must be at least one lane")
	for _, provider := range t.Providers {
		check(isToken(provider), "provider %q %s", provider, form)
	}
	for _, lane := range t.Lanes {
		check(isToken(lane), "lane %q %s", lane, form)
	}
	for _, client := range t.Clients {
		check(isClient(client), "client %q must be 1 to 64 letters, digits, '-' and '_'", client)
	}
	seen := map[string]bool{}
	for _, binding := range t.queryConsumers() {
		check(!seen[binding.Config.Durable], "two consumers would be called %q", binding.Config.Durable)
		seen[binding.Config.Durable] = true
	}
}

func (t Topology) checkLimits(check func(ok bool, format string, args ...any)) {
	for _, of := range []struct {
		name   string
		limits Limits
	}{{"queries", t.Queries}, {"retries", t.Retries}, {"results", t.Results}, {"dead", t.Dead}, {"advisories", t.Advisories}, {"audit", t.Audit}} {
		l := of.limits
		check(l.MaxAge == 0 || l.MaxAge >= time.Second, "max_age of %s must be none or at least one second", of.name)
		check(l.MaxBytes >= 0 && l.MaxMsgSize >= 0, "limits of %s must not be negative", of.name)
	}
	check(t.Retries.MaxBytes == 0, "retries can't have max_bytes: a full stream would drop its oldest retries instead of refusing new ones")
}
