package config

import "time"

// NATS is the connection to the message broker.
type NATS struct {
	// URL is the server's address, or several separated by commas. Empty means the embedded server.
	URL URL `koanf:"url"`
	// Name is the connection's name in the server's lists.
	Name string `koanf:"name"`
	// CredentialsFile is a .creds file: JWT and nkey seed in one.
	CredentialsFile string `koanf:"credentials_file"`
	// NKeyFile is a file with an nkey seed.
	NKeyFile string `koanf:"nkey_file"`
	// User is the user name that goes with the password file.
	User string `koanf:"user"`
	// PasswordFile is a file that holds the user's password.
	PasswordFile string `koanf:"password_file"`
	// TLS is the encryption of the connection.
	TLS NATSTLS `koanf:"tls"`
	// InboxPrefix is the first part of the subjects on which replies arrive, so that permissions can confine them. Empty means the client's own, _INBOX.
	InboxPrefix string `koanf:"inbox_prefix"`
	// ConnectTimeout is how long one attempt to connect to one server may take.
	ConnectTimeout time.Duration `koanf:"connect_timeout"`
	// RequestTimeout is how long one request to the server (a publish, an ack, a lookup) may take.
	RequestTimeout time.Duration `koanf:"request_timeout"`
}

// NATSTLS is the encryption of the broker connection.
type NATSTLS struct {
	TLS
	// HandshakeFirst starts TLS before the server speaks. It must be set as it is on the server.
	HandshakeFirst bool `koanf:"handshake_first"`
}

// TLS is whom we trust and who we are.
type TLS struct {
	// CAFile holds the certificates of the authorities that are trusted instead of the system's, in PEM.
	CAFile string `koanf:"ca_file"`
	// CertFile is our own certificate with its chain, in PEM.
	CertFile string `koanf:"cert_file"`
	// KeyFile is the private key of our own certificate, in PEM.
	KeyFile string `koanf:"key_file"`
}

// Embedded is the server that runs inside the worker when nats.url is empty.
type Embedded struct {
	// Listen is the host and port where publishers and subscribers reach it. It has no authentication, so the host must be loopback;
	// port 0 takes any free one, and empty means that only this process reaches it.
	Listen string `koanf:"listen"`
	// SyncAlways writes every message through to the disk before it is confirmed, so that a power cut loses nothing.
	SyncAlways bool `koanf:"sync_always"`
	// MaxStore is the most that all its streams together may hold. Zero leaves it to the server: three quarters of the free disk.
	MaxStore Size `koanf:"max_store"`
}

// Streams are the limits that `worker setup` gives to the streams.
type Streams struct {
	// Replicas is on how many servers of a cluster each stream is kept: 1, 3 or 5.
	Replicas int `koanf:"replicas"`
	// Queries is the work queue that publishers write to.
	Queries QueryStream `koanf:"queries"`
	// Results is the stream of what came out.
	Results KeptStream `koanf:"results"`
	// Dead is the stream of the dead letters.
	Dead KeptStream `koanf:"dead"`
	// Advisories is the stream of the server's warnings about consumers.
	Advisories AdvisoryStream `koanf:"advisories"`
}

// QueryStream limits the stream of the queries. When it is full the server refuses new ones.
type QueryStream struct {
	// MaxBytes is the most that waiting queries may take. Zero means no limit.
	MaxBytes Size `koanf:"max_bytes"`
	// MaxMsgSize is the largest query the server accepts, headers included.
	MaxMsgSize Size `koanf:"max_msg_size"`
}

// KeptStream limits a stream whose messages are kept for a time. When it is full the server refuses new ones, and the worker stops taking queries.
type KeptStream struct {
	// MaxAge is how long a message is kept.
	MaxAge time.Duration `koanf:"max_age"`
	// MaxBytes is the most that kept messages may take. Zero means no limit.
	MaxBytes Size `koanf:"max_bytes"`
}

// AdvisoryStream limits the stream of the server's warnings about consumers.
type AdvisoryStream struct {
	// MaxAge is how long a warning is kept.
	MaxAge time.Duration `koanf:"max_age"`
}

// Consumer is how queries are taken and handed out again.
type Consumer struct {
	// AckWait is how long the server waits for a sign of life before it hands a query to another worker. Held queries are heartbeated well within it.
	AckWait time.Duration `koanf:"ack_wait"`
	// MaxAckPending is how many queries of one provider and lane all workers together may hold.
	MaxAckPending int `koanf:"max_ack_pending"`
	// MaxDeliver is after how many deliveries the server itself stops handing a query out. It is the net below quarantine_after.
	MaxDeliver int `koanf:"max_deliver"`
	// QuarantineAfter is after how many deliveries that nobody settled a query becomes a dead letter instead of being tried again.
	QuarantineAfter int `koanf:"quarantine_after"`
	// PullExpiry is how long one request for queries stays open at the server. A stopping worker waits for it.
	PullExpiry time.Duration `koanf:"pull_expiry"`
}
