package consumer

// Event is what a consumer reports about itself.
type Event struct {
	// Consumer is the name of the durable consumer.
	Consumer string
	// What says what happened.
	What What
	// Err is the broker's error, if there was one.
	Err error
}

// What lists what a consumer reports.
type What string

// What a consumer reports.
const (
	// Pulling is reported when pulling works, for the first time or again.
	Pulling What = "pulling"
	// Resting is a consumer that has had no reason to pull since it was bound to, for some seconds: an operator has paused its account, or its
	// upstream is down. It is reported once.
	Resting What = "resting"
	// PullFailed is a pull that the broker did not answer or refused. The consumer goes on trying.
	PullFailed What = "pull_failed"
	// Gone is a durable consumer that does not exist any more. The consumer goes on trying.
	Gone What = "gone"
	// Left is a connection that was given up for one to the next server, because most consumers on it have got no answer for some seconds:
	// its server may be cut off from its cluster.
	Left What = "left"
	// Stalled is a durable consumer that delivers nothing to anybody although messages wait and nothing is in their way. The consumer
	// goes on trying, on a new connection. It is reported again for as long as it lasts.
	Stalled What = "stalled"
	// Paused is a durable consumer that somebody has paused. Pulling goes on, and gets nothing until the pause is over.
	Paused What = "paused"
	// AckFailed is an ack that the broker did not confirm. The message will be delivered again and find its result.
	AckFailed What = "ack_failed"
	// HeartbeatFailed is a held message whose hold could not be extended.
	HeartbeatFailed What = "heartbeat_failed"
)

func (c *Consumer) report(what What, err error) {
	c.OnEvent(Event{Consumer: c.Stream + "/" + c.Name, What: what, Err: err})
}
