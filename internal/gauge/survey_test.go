package gauge

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestFullness(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config jetstream.StreamConfig
		want   float64
	}{
		"no limits":              {jetstream.StreamConfig{MaxMsgs: -1, MaxBytes: -1}, 0},
		"of messages":            {jetstream.StreamConfig{MaxMsgs: 100, MaxBytes: -1}, 0.5},
		"of bytes":               {jetstream.StreamConfig{MaxMsgs: -1, MaxBytes: 4000}, 0.25},
		"messages are nearer":    {jetstream.StreamConfig{MaxMsgs: 60, MaxBytes: 4000}, 50.0 / 60},
		"bytes are nearer":       {jetstream.StreamConfig{MaxMsgs: 100, MaxBytes: 1250}, 0.8},
		"it was made smaller":    {jetstream.StreamConfig{MaxMsgs: 25, MaxBytes: -1}, 2},
		"limits of the server's": {jetstream.StreamConfig{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := streamOf(&jetstream.StreamInfo{Config: test.config, State: jetstream.StreamState{Msgs: 50, Bytes: 1000}}, "DEAD")
			require.Equal(t, Stream{Name: "DEAD", Messages: 50, Bytes: 1000, Full: got.Full}, got)
			require.InDelta(t, test.want, got.Full, 1e-9)
		})
	}
}

// TestFiguresThatDoNotFit holds answers of different moments against each other: none may wrap around.
func TestFiguresThatDoNotFit(t *testing.T) {
	t.Parallel()
	retries := []Queue{{Kind: QueueRetry, Backlog: 3, AckPending: 2}, {Kind: QueueQuery, Backlog: 100}}
	require.EqualValues(t, 2, scheduled(7, retries))
	require.EqualValues(t, 0, scheduled(4, retries), "one came due and another came meanwhile")
	q := Queue{}
	q.add(&jetstream.ConsumerInfo{NumAckPending: -1, AckFloor: jetstream.SequenceInfo{Stream: 9}, Delivered: jetstream.SequenceInfo{Stream: 7}})
	require.Zero(t, q)
}

func TestAge(t *testing.T) {
	t.Parallel()
	require.Equal(t, time.Minute, age(began, began.Add(time.Minute)))
	require.Zero(t, age(began.Add(time.Minute), began), "a message that came meanwhile")
	require.Zero(t, age(time.Time{}, began), "no message")
}

func TestTimeIsTheBrokers(t *testing.T) {
	t.Parallel()
	s := survey{
		streams:   map[string]*jetstream.StreamInfo{"A": {TimeStamp: began}, "B": {TimeStamp: began.Add(time.Second)}},
		consumers: []consumerInfo{{info: &jetstream.ConsumerInfo{TimeStamp: began.Add(2 * time.Second)}}, {info: &jetstream.ConsumerInfo{}}},
	}
	require.Equal(t, began.Add(2*time.Second), s.at())
}
