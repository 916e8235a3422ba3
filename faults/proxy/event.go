package proxy

import (
	"strconv"
	"strings"
)

// Kind says what passed.
type Kind uint8

// What passes.
const (
	// Opened is a connection that was accepted and has reached the server.
	Opened Kind = iota
	// Published is a message of the client that settles nothing.
	Published
	// Delivered is a message of a stream that the server hands to the client.
	Delivered
	// Settled is an ack, nak, term or sign of life of the client for a delivered message: Payload says which.
	Settled
	// Replied is the server's answer to a message that the client has published, or to an ack, with a reply subject.
	Replied
)

// Event is one thing that passed, told in the order in which it passed: what the client sends when it leaves the client, and what
// the server sends just before it reaches the client. So a client can't have known a thing before it was told here.
type Event struct {
	// Link numbers the connections of one proxy from 1.
	Link int
	Kind Kind
	// Subject is that of the message; of Replied, the subject that the client had published to.
	Subject string
	Header  []byte
	Payload []byte
	// Delivery is set for Delivered and Settled.
	Delivery Delivery
	// Stopped tells that a rule kept the frame from arriving whole.
	Stopped bool
}

// Delivery is what the reply subject of a delivered message says.
type Delivery struct {
	Stream   string
	Consumer string
	// Number counts the deliveries of the message from 1.
	Number int
	// Sequence is the message's place in its stream.
	Sequence uint64
}

const ackPrefix = "$JS.ACK."

// readDelivery reads a reply subject: $JS.ACK.<stream>.<consumer>.<number>.<stream sequence>.<consumer sequence>.<time>.<pending>, since
// server 2.11 possibly with a domain and an account hash before the stream and a random token at the end.
func readDelivery(subject string) (Delivery, bool) {
	rest, ok := strings.CutPrefix(subject, ackPrefix)
	if !ok {
		return Delivery{}, false
	}
	tokens := strings.Split(rest, ".")
	if len(tokens) >= 9 {
		tokens = tokens[2:]
	}
	if len(tokens) < 7 {
		return Delivery{}, false
	}
	number, err := strconv.Atoi(tokens[2])
	if err != nil {
		return Delivery{}, false
	}
	sequence, err := strconv.ParseUint(tokens[3], 10, 64)
	return Delivery{Stream: tokens[0], Consumer: tokens[1], Number: number, Sequence: sequence}, err == nil
}

// kindOf says what a frame of one direction is. Frames that are no message, and messages that nobody asked about, are none.
func (l *link) kindOf(to Direction, frame *Frame) (Event, bool) {
	event := Event{Link: l.number, Subject: frame.Subject, Header: frame.Header, Payload: frame.Payload}
	if to == ToServer {
		if frame.Op != "PUB" && frame.Op != "HPUB" {
			return Event{}, false
		}
		if frame.Reply != "" && !strings.HasPrefix(frame.Subject, "$JS.API.CONSUMER.MSG.NEXT.") {
			l.expect(frame.Reply, frame.Subject)
		}
		var settles bool
		event.Kind = Published
		if event.Delivery, settles = readDelivery(frame.Subject); settles {
			event.Kind = Settled
		}
		return event, true
	}
	if frame.Op != "MSG" && frame.Op != "HMSG" {
		return Event{}, false
	}
	var delivered bool
	if event.Delivery, delivered = readDelivery(frame.Reply); delivered {
		event.Kind = Delivered
		return event, true
	}
	if asked, ok := l.expected(frame.Subject); ok {
		event.Kind, event.Subject = Replied, asked
		return event, true
	}
	return Event{}, false
}
