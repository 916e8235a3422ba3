package app

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

func TestUnansweredIsTold(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"no answer in time":        context.DeadlineExceeded,
		"no answer, as NATS says":  nats.ErrTimeout,
		"nobody there":             nats.ErrNoResponders,
		"the connection was lost":  nats.ErrDisconnected,
		"no answer after a repeat": jetstream.ErrNoStreamResponse,
		"without a leader":         &jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := unanswered(fmt.Errorf("bind to consumer easypay-bulk: %w", err))
			require.Equal(t, fault.BrokerUnreachable, fault.CodeOf(told))
			require.Equal(t, fault.Unavailable, fault.KindOf(told))
			require.ErrorIs(t, told, err)
			require.ErrorContains(t, told, "did not answer in time")
			require.Equal(t, told, unanswered(told), "once is enough")
		})
	}
}

func TestWhatWasAnsweredStays(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"nothing":             nil,
		"stopped":             context.Canceled,
		"something else":      errors.New("no such file"),
		"told already":        fault.Because("broker: connect", fault.Unavailable, fault.BrokerRefused, context.DeadlineExceeded),
		"a consumer is gone":  jetstream.ErrConsumerNotFound,
		"refused by a server": &jetstream.APIError{Code: 400, ErrorCode: 10025},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, err, unanswered(err))
		})
	}
}
