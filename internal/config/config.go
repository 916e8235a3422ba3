// Package config is the room of the settings: their names, defaults, checks and effective values.
// It is a leaf: it must never import another room, open a key file or connect to anything.
package config

import "time"

// Config is every setting of the worker. Each field's key is the path of its koanf tags joined by dots, for example
// "lanes.interactive.slots"; in the environment it is DISCOUNT_LANES__INTERACTIVE__SLOTS. Keys that end in _file, _files or
// _dir are paths of the file system. Secrets are never values, only files.
type Config struct {
	// DataDir is the folder of the embedded server's store. It is unused when nats.url is set.
	DataDir string `koanf:"data_dir"`
	// Prefix is the first token of every subject. In upper case it begins the streams' names, and it begins the buckets' names.
	Prefix string `koanf:"prefix"`
	// NATS is the connection to the message broker.
	NATS NATS `koanf:"nats"`
	// Embedded is the server that runs inside the worker when nats.url is empty.
	Embedded Embedded `koanf:"embedded"`
	// Streams are the limits that `worker setup` gives to the streams.
	Streams Streams `koanf:"streams"`
	// Clients, if there are any, are the only ones who may publish queries, and none of them keeps another waiting in the queue. Without
	// any, every client may, first come, first served.
	Clients []string `koanf:"clients"`
	// Lanes are the two ways through the worker.
	Lanes Lanes `koanf:"lanes"`
	// Ask is how queries are answered whose client waits for the reply.
	Ask Ask `koanf:"ask"`
	// Consumer is how queries are taken and handed out again.
	Consumer Consumer `koanf:"consumer"`
	// Shutdown is how the worker stops.
	Shutdown Shutdown `koanf:"shutdown"`
	// Cards is how card data is opened and sealed.
	Cards Cards `koanf:"cards"`
	// Admin is the listener of health and metrics.
	Admin Admin `koanf:"admin"`
	// Log is what is logged and in which form.
	Log Log `koanf:"log"`
	// HTTP is shared by the calls to all upstreams.
	HTTP HTTP `koanf:"http"`
	// Retry is how often and how soon a failed call is made again.
	Retry Retry `koanf:"retry"`
	// Breaker is when an upstream counts as down, so that no more queries are taken for it.
	Breaker Breaker `koanf:"breaker"`
	// Providers are the upstreams.
	Providers Providers `koanf:"providers"`
}

// Shutdown is how the worker stops.
type Shutdown struct {
	// Grace is the time from the first signal until the worker exits, finished or not. The runtime that kills it must wait longer.
	Grace time.Duration `koanf:"grace"`
}

// Cards is how card data is opened and sealed.
type Cards struct {
	// KeysDir holds the keys as *.jwk files. All private EC keys open sealed data and dead letters, the newest one seals;
	// oct keys are for fingerprints.
	KeysDir string `koanf:"keys_dir"`
	// AcceptPlain lets queries carry card data that is not sealed. It is for demonstrations and tests only.
	AcceptPlain bool `koanf:"accept_plain"`
	// MaxSealedBytes is the longest sealed text that is opened.
	MaxSealedBytes Size `koanf:"max_sealed_bytes"`
}

// Admin is the listener of health and metrics.
type Admin struct {
	// Listen is the host and port of /healthz, /readyz and /metrics. Empty means no listener.
	Listen string `koanf:"listen"`
}

// Log is what is logged and in which form.
type Log struct {
	// Level is the least level that is written: debug, info, warn or error.
	Level string `koanf:"level"`
	// Format is json (one object per line) or console (for people).
	Format string `koanf:"format"`
}

// Ask is how queries are answered whose client waits for the reply.
type Ask struct {
	// Slots is how many such queries to one provider this worker handles at once. One more is refused at once.
	Slots int `koanf:"slots"`
	// Timeout is how long a query without a deadline of its own may take.
	Timeout time.Duration `koanf:"timeout"`
	// MaxTimeout is how long any such query may take, whatever its deadline.
	MaxTimeout time.Duration `koanf:"max_timeout"`
	// InboxPrefix is how every reply subject must begin: a reply to any other could stand where its client may not write.
	InboxPrefix string `koanf:"inbox_prefix"`
}

// Lanes are the two ways through the worker.
type Lanes struct {
	// Interactive is for queries that somebody waits for.
	Interactive Lane `koanf:"interactive"`
	// Bulk is for queries that nobody waits for.
	Bulk BulkLane `koanf:"bulk"`
}

// Lane is one way through the worker.
type Lane struct {
	// Slots is how many queries of one provider this worker handles at once on this lane.
	Slots int `koanf:"slots"`
	// Horizon is how long a query without a deadline of its own may take, from its publication, before it is given up.
	Horizon time.Duration `koanf:"horizon"`
}

// BulkLane is the way of those who can wait.
type BulkLane struct {
	Lane
	// Share is the part of an account's calls that bulk queries have in any case while interactive ones wait too: 0.1 for a tenth.
	Share float64 `koanf:"share"`
}
