package broker

import (
	"errors"
	"regexp"

	"github.com/nats-io/nats.go"
)

// EventKind says what happened to a connection. The list is closed.
type EventKind string

// The kinds of events.
const (
	// EventDisconnected is a lost connection. The client tries to get it back for as long as it lives.
	EventDisconnected EventKind = "disconnected"
	// EventReconnected is a connection that was got back.
	EventReconnected EventKind = "reconnected"
	// EventReconnectFailed is an attempt to get the connection back that failed.
	EventReconnectFailed EventKind = "reconnect_failed"
	// EventClosed is a connection that is gone for good.
	EventClosed EventKind = "closed"
	// EventLameDuck is a server that is about to stop.
	EventLameDuck EventKind = "lame_duck"
	// EventPublishDenied is a publish to a subject this user may not publish to. Its publisher sees a mere timeout.
	EventPublishDenied EventKind = "publish_denied"
	// EventSubscribeDenied is a subscription to a subject this user may not read.
	EventSubscribeDenied EventKind = "subscribe_denied"
	// EventCredentialsRefused is a server that refuses our credentials.
	EventCredentialsRefused EventKind = "credentials_refused"
	// EventTLSFailed is an attempt to get the connection back whose TLS handshake failed, on our side or on the server's.
	EventTLSFailed EventKind = "tls_failed"
	// EventFilesUnusable is an attempt to get the connection back that failed while a file with credentials or certificates is missing
	// or holds something else.
	EventFilesUnusable EventKind = "files_unusable"
	// EventSlowConsumer is a subscription that dropped messages because they came faster than they were read.
	EventSlowConsumer EventKind = "slow_consumer"
	// EventError is any other error outside a call.
	EventError EventKind = "error"
)

// EventKinds returns every kind, so that metrics can exist at zero from the start.
func EventKinds() []EventKind {
	return []EventKind{
		EventDisconnected, EventReconnected, EventReconnectFailed, EventClosed, EventLameDuck,
		EventPublishDenied, EventSubscribeDenied, EventCredentialsRefused, EventTLSFailed, EventFilesUnusable, EventSlowConsumer, EventError,
	}
}

// Advice says what to do about an event that does not pass by itself, "" for all others.
func (k EventKind) Advice() string {
	switch k {
	case EventCredentialsRefused:
		return "the server refuses our credentials: put valid ones in place or let the server know these; the files are read again at each attempt"
	case EventTLSFailed:
		return "the TLS handshake fails: check the CA file, our certificate, and the certificate and host name of the server; " +
			"the files are read again at each attempt"
	case EventFilesUnusable:
		return "a file with credentials or certificates can't be used: check that it is there, that we may read it and what it holds; " +
			"it is read again at each attempt"
	case EventDisconnected, EventReconnected, EventReconnectFailed, EventClosed, EventLameDuck, EventPublishDenied, EventSubscribeDenied,
		EventSlowConsumer, EventError:
	}
	return ""
}

// Event is one thing that happened to a connection outside a call. It carries no text of the server's.
type Event struct {
	Kind EventKind
	// Subject is the subject of a denied publish or subscription, else "".
	Subject string
	// Server is the address of the server, without user and password, or "" while there is none and for a server in this process.
	Server string
}

// deniedRe finds the subject in the server's words for a denied publish or subscription (server 2.15: client.go).
var deniedRe = regexp.MustCompile(`^nats: permissions violation: Permissions Violation for (Publish|Subscription)[^"]*"([^"\s]{1,256})"`)

// errorEvent returns the event for an error that the client met outside a call.
func errorEvent(err error) Event {
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		match := deniedRe.FindStringSubmatch(err.Error())
		if match == nil {
			return Event{Kind: EventError}
		}
		if match[1] == "Subscription" {
			return Event{Kind: EventSubscribeDenied, Subject: match[2]}
		}
		return Event{Kind: EventPublishDenied, Subject: match[2]}
	case refusesCredentials(err):
		return Event{Kind: EventCredentialsRefused}
	case errors.Is(err, nats.ErrSlowConsumer):
		return Event{Kind: EventSlowConsumer}
	default:
		return Event{Kind: EventError}
	}
}

func refusesCredentials(err error) bool {
	for _, refusal := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
