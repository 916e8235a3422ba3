package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

func TestErrorEvents(t *testing.T) {
	t.Parallel()
	denied := func(text string) error { return fmt.Errorf("%w: %s", nats.ErrPermissionViolation, text) }
	for name, tc := range map[string]struct {
		err  error
		want Event
	}{
		"publish":         {denied(`Permissions Violation for Publish to "a.b"`), Event{Kind: EventPublishDenied, Subject: "a.b"}},
		"reply":           {denied(`Permissions Violation for Publish with Reply of "_INBOX.x"`), Event{Kind: EventPublishDenied, Subject: "_INBOX.x"}},
		"subscription":    {denied(`Permissions Violation for Subscription to "a.>"`), Event{Kind: EventSubscribeDenied, Subject: "a.>"}},
		"queue":           {denied(`Permissions Violation for Subscription to "a.*" using queue "q"`), Event{Kind: EventSubscribeDenied, Subject: "a.*"}},
		"unknown wording": {denied(`Permissions Violation: something else "6200000000000005"`), Event{Kind: EventError}},
		"endless subject": {denied(`Permissions Violation for Publish to "` + strings.Repeat("a", 300) + `"`), Event{Kind: EventError}},
		"authorization":   {nats.ErrAuthorization, Event{Kind: EventCredentialsRefused}},
		"expired":         {nats.ErrAuthExpired, Event{Kind: EventCredentialsRefused}},
		"revoked":         {nats.ErrAuthRevoked, Event{Kind: EventCredentialsRefused}},
		"account expired": {nats.ErrAccountAuthExpired, Event{Kind: EventCredentialsRefused}},
		"slow":            {nats.ErrSlowConsumer, Event{Kind: EventSlowConsumer}},
		"other":           {errors.New("something with 6200000000000005 in it"), Event{Kind: EventError}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := errorEvent(tc.err)
			require.Equal(t, tc.want, got)
			require.Contains(t, EventKinds(), got.Kind)
		})
	}
}

func TestEventKindsAreDistinct(t *testing.T) {
	t.Parallel()
	kinds := EventKinds()
	slices.Sort(kinds)
	require.Len(t, slices.Compact(kinds), len(EventKinds()))
}
