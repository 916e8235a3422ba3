package broker

import "github.com/nats-io/nats.go"

// StreamFieldNames returns the settings of a stream that a plan compares.
func StreamFieldNames() []string {
	var names []string
	for _, f := range streamFields() {
		names = append(names, f.name)
	}
	return names
}

// ConsumerFieldNames returns the settings of a consumer that a plan compares.
func ConsumerFieldNames() []string {
	var names []string
	for _, f := range consumerFields() {
		names = append(names, f.name)
	}
	return names
}

// TellFailure tells why the last attempt to connect failed, as it is done before the next one.
func TellFailure(o Options, nc *nats.Conn) { (&keeper{Options: o}).tellFailure(nc) }
