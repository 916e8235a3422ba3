package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate checks every setting by itself and against the others, and returns all that is wrong as Problems. It looks at values only: whether
// files and servers exist is for `worker check`.
func (c Config) Validate() error {
	v := &validator{}
	c.validateNATS(v)
	c.validateEmbedded(v)
	c.validateStreams(v)
	c.validateLanes(v)
	c.validateConsumer(v)
	c.validateHTTP(v)
	c.validateRetry(v)
	c.validateBreaker(v)
	c.validateRest(v)
	c.validateEasyPay(v)
	c.validateUnionPay(v)
	return v.problems.orNil()
}

// prefixToken is one lower-case token that is fit for subjects, stream names and bucket names alike. Stream names are in upper case, so two prefixes
// that differ by case only would share their streams.
var prefixToken = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// inboxPrefix is one or more tokens without wildcards.
var inboxPrefix = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (c Config) validateNATS(v *validator) {
	n := c.NATS
	if !prefixToken.MatchString(c.Prefix) {
		v.add("prefix", "must be one token of lower-case letters, digits, - and _, at most 32 long and beginning with a letter")
	}
	for _, part := range n.URL.split() {
		if n.URL == "" {
			break
		}
		address, err := url.Parse(part)
		if err != nil || address.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, address.Scheme) {
			v.add("nats.url", "must be one or more addresses separated by commas, each like nats://host:4222 or tls://host:4222")
			break
		}
	}
	v.check(n.Name != "", "nats.name", "must not be empty; name the connection, so that it can be found in the server's lists")
	v.check(n.InboxPrefix == "" || inboxPrefix.MatchString(n.InboxPrefix), "nats.inbox_prefix",
		"must be tokens of letters, digits, - and _, joined by dots, without wildcards; or empty")
	v.between("nats.connect_timeout", n.ConnectTimeout, 100*time.Millisecond, time.Minute)
	v.between("nats.request_timeout", n.RequestTimeout, 100*time.Millisecond, time.Minute)
	v.check((n.User == "") == (n.PasswordFile == ""), "nats.user", "and nats.password_file go together; give both or neither")
	ways := 0
	for _, way := range []string{n.CredentialsFile, n.NKeyFile, n.User + n.PasswordFile} {
		if way != "" {
			ways++
		}
	}
	v.check(ways < 2, "nats.credentials_file",
		"is one of several ways to log in that are set (nats.credentials_file, nats.nkey_file, nats.user); keep one")
	v.pair("nats.tls", n.TLS.TLS)
	if n.URL == "" && (ways > 0 || n.TLS != NATSTLS{}) {
		v.add("nats.url",
			"is empty, so the embedded server runs and the login and TLS settings of nats have no effect; give the server's address or remove them")
	}
}

func (c Config) validateEmbedded(v *validator) {
	v.limit("embedded.max_store", c.Embedded.MaxStore)
	if c.NATS.URL != "" {
		return
	}
	v.check(c.DataDir != "", "data_dir", "must name a folder for the embedded server's store")
	if c.Embedded.Listen != "" && v.listen("embedded.listen", c.Embedded.Listen) {
		host, _, _ := net.SplitHostPort(c.Embedded.Listen)
		v.check(loopback(host), "embedded.listen",
			"must be on a loopback host such as 127.0.0.1, because the embedded server asks nobody for a password; "+
				"for other machines run nats-server and set nats.url")
	}
	v.check(c.Streams.Replicas <= 1, "streams.replicas", "must be 1 on the embedded server; run a cluster and set nats.url for more")
	reserved := c.Streams.Queries.MaxBytes + c.Streams.Results.MaxBytes + c.Streams.Dead.MaxBytes
	v.check(c.Embedded.MaxStore == 0 || reserved < c.Embedded.MaxStore, "embedded.max_store",
		"must be larger than the max_bytes of all streams together, which the server reserves; raise it or lower those")
}

func (c Config) validateStreams(v *validator) {
	s := c.Streams
	v.check(slices.Contains([]int{1, 3, 5}, s.Replicas), "streams.replicas",
		"must be 1, 3 or 5: an even number survives no more failures than the odd one below it")
	v.limit("streams.queries.max_bytes", s.Queries.MaxBytes)
	v.limit("streams.results.max_bytes", s.Results.MaxBytes)
	v.limit("streams.dead.max_bytes", s.Dead.MaxBytes)
	v.sizeBetween("streams.queries.max_msg_size", s.Queries.MaxMsgSize, 4*kib, 8*mib)
	v.check(s.Queries.MaxMsgSize >= c.Cards.MaxSealedBytes+2*kib, "streams.queries.max_msg_size",
		"must leave room for cards.max_sealed_bytes and 2KiB of envelope; raise it")
	v.atLeast("streams.results.max_age", s.Results.MaxAge, time.Hour)
	v.atLeast("streams.dead.max_age", s.Dead.MaxAge, time.Hour)
	v.atLeast("streams.advisories.max_age", s.Advisories.MaxAge, time.Hour)
	horizon := max(c.Lanes.Interactive.Horizon, c.Lanes.Bulk.Horizon)
	v.check(s.Results.MaxAge > horizon, "streams.results.max_age",
		"must be longer than the longest horizon of the lanes, or a late query would be answered twice; raise it")
}

func (c Config) validateLanes(v *validator) {
	tier := c.Retry.Budget + c.longestAttempt()
	lane := func(key string, l Lane) {
		v.intBetween(key+".slots", l.Slots, 1, 10_000)
		v.check(l.Slots*c.Providers.mostAccounts() <= c.Consumer.MaxAckPending, key+".slots",
			"must not be more than consumer.max_ack_pending, and each account has as many; lower it or raise that")
		v.check(l.Horizon > tier, key+".horizon",
			"must be longer than retry.budget and one attempt's timeout together, or no query could use its retries; raise it")
	}
	lane("lanes.interactive", c.Lanes.Interactive)
	lane("lanes.bulk", c.Lanes.Bulk.Lane)
	v.check(c.Lanes.Bulk.Share >= leastShare && c.Lanes.Bulk.Share <= mostShare, "lanes.bulk.share",
		fmt.Sprintf("must be from %g, so that bulk queries never starve, to %g, so that interactive ones go first", leastShare, mostShare))
	v.intBetween("ask.slots", c.Ask.Slots, 1, 10_000)
	v.between("ask.timeout", c.Ask.Timeout, 100*time.Millisecond, time.Minute)
	v.check(c.Ask.MaxTimeout >= c.Ask.Timeout, "ask.max_timeout", "must not be shorter than ask.timeout; raise it")
	v.check(c.Ask.MaxTimeout <= time.Minute, "ask.max_timeout", "must be at most 1m: longer waits are for the queue; lower it")
	v.check(subjectPrefix.MatchString(c.Ask.InboxPrefix), "ask.inbox_prefix", "must begin a subject, such as _INBOX")
	for _, client := range c.Clients {
		v.check(clientName.MatchString(client), "clients", "must be names of 1 to 64 letters, digits, '-' and '_', as they stand in subjects")
	}
	v.check(len(slices.Compact(slices.Sorted(slices.Values(c.Clients)))) == len(c.Clients), "clients", "names a client twice; remove one")
}

// These bound lanes.bulk.share.
const (
	leastShare = 0.01
	mostShare  = 0.5
)

// subjectPrefix is what a prefix of reply subjects may be, clientName what a client's token of a subject may be.
var (
	subjectPrefix = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	clientName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

func (c Config) validateConsumer(v *validator) {
	n := c.Consumer
	v.check(n.AckWait > c.longestAttempt(), "consumer.ack_wait",
		"must be longer than every provider's attempt timeout, or queries are handed out twice; raise it")
	v.between("consumer.ack_wait", n.AckWait, 2*time.Second, time.Hour)
	v.intBetween("consumer.max_ack_pending", n.MaxAckPending, 1, 100_000)
	v.intBetween("consumer.quarantine_after", n.QuarantineAfter, 1, 1000)
	v.check(n.MaxDeliver > n.QuarantineAfter, "consumer.max_deliver",
		"must be more than consumer.quarantine_after, or queries get stuck before they become dead letters; raise it")
	v.between("consumer.pull_expiry", n.PullExpiry, 2*time.Second, time.Minute)
	v.check(n.PullExpiry <= c.Shutdown.Grace/2, "consumer.pull_expiry",
		"must be at most half of shutdown.grace: a stop waits for the pull that is open; lower it")
}

func (c Config) validateHTTP(v *validator) {
	h := c.HTTP
	v.check(printableASCII(h.UserAgent), "http.user_agent", "must be a name of printable ASCII characters, such as discount-worker")
	v.between("http.attempt_timeout", h.AttemptTimeout, 100*time.Millisecond, time.Minute)
	v.between("http.dial_timeout", h.DialTimeout, 10*time.Millisecond, time.Minute)
	v.between("http.tls_handshake_timeout", h.TLSHandshakeTimeout, 10*time.Millisecond, time.Minute)
	v.check(h.DialTimeout <= h.AttemptTimeout, "http.dial_timeout", "must not be longer than http.attempt_timeout; lower it")
	v.check(h.TLSHandshakeTimeout <= h.AttemptTimeout, "http.tls_handshake_timeout", "must not be longer than http.attempt_timeout; lower it")
	v.between("http.recycle_connections", h.RecycleConnections, time.Second, 24*time.Hour)
	v.sizeBetween("http.max_response_bytes", h.MaxResponseBytes, kib, 16*mib)
}

func (c Config) validateBreaker(v *validator) {
	b := c.Breaker
	v.intBetween("breaker.min_calls", b.MinCalls, 1, 100_000)
	v.check(b.FailureRatio > 0 && b.FailureRatio <= 1, "breaker.failure_ratio", "must be above 0 and at most 1")
	v.between("breaker.window", b.Window, time.Second, time.Hour)
	v.between("breaker.open_for", b.OpenFor, 100*time.Millisecond, time.Hour)
}

func (c Config) validateRetry(v *validator) {
	r := c.Retry
	v.intBetween("retry.max_attempts", r.MaxAttempts, 1, 10)
	v.between("retry.initial_interval", r.InitialInterval, time.Millisecond, time.Minute)
	v.check(r.MaxInterval >= r.InitialInterval, "retry.max_interval", "must not be shorter than retry.initial_interval; raise it")
	v.check(r.Multiplier >= 1 && r.Multiplier <= 10, "retry.multiplier", "must be from 1 to 10")
	v.check(r.Jitter >= 0 && r.Jitter <= 1, "retry.jitter", "must be from 0 (none) to 1")
	v.check(r.Budget >= r.MaxInterval, "retry.budget", "must not be shorter than retry.max_interval; raise it")
	v.check(r.Budget <= time.Minute, "retry.budget", "must be at most 1m: longer outages are for retry.schedule; lower it")
	v.check(r.Share >= 0 && r.Share <= 1, "retry.share", "must be from 0 to 1")
	v.intBetween("retry.reserve", r.Reserve, 0, 10_000)
	v.between("retry.schedule.first", r.Schedule.First, time.Second, time.Hour)
	v.check(r.Schedule.Max >= r.Schedule.First, "retry.schedule.max", "must not be shorter than retry.schedule.first; raise it")
}

func (c Config) validateRest(v *validator) {
	v.check(c.Shutdown.Grace > c.longestAttempt(), "shutdown.grace",
		"must be longer than every provider's attempt timeout, or calls under way are cut off at each stop; raise it")
	v.check(c.Shutdown.Grace <= 10*time.Minute, "shutdown.grace", "must be at most 10m; lower it")
	v.check(c.Cards.KeysDir != "", "cards.keys_dir", "must name the folder of the *.jwk files (`worker keys new` makes them)")
	v.sizeBetween("cards.max_sealed_bytes", c.Cards.MaxSealedBytes, kib, 8*kib)
	if c.Admin.Listen != "" {
		v.listen("admin.listen", c.Admin.Listen)
	}
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "json", "console")
	v.check(len(c.Providers.Enabled()) > 0, "providers", "has none enabled; set providers.easypay.enabled or providers.unionpay.enabled to true")
}

// longestAttempt returns the longest time one attempt may take at any enabled provider.
func (c Config) longestAttempt() time.Duration {
	var longest time.Duration
	if c.Providers.EasyPay.Enabled {
		for _, name := range c.Providers.EasyPay.AccountNames() {
			longest = max(longest, c.HTTP.Timeout(c.Providers.EasyPay.Account(name).Timeout))
		}
	}
	if c.Providers.UnionPay.Enabled {
		for _, name := range c.Providers.UnionPay.AccountNames() {
			longest = max(longest, c.HTTP.Timeout(c.Providers.UnionPay.Account(name).Timeout))
		}
	}
	return longest
}

// validator gathers problems.
type validator struct{ problems Problems }

func (v *validator) add(key, text string) {
	v.problems = append(v.problems, Problem{Key: key, Text: text})
}

func (v *validator) check(ok bool, key, text string) {
	if !ok {
		v.add(key, text)
	}
}

func (v *validator) between(key string, d, least, most time.Duration) {
	v.check(d >= least && d <= most, key, fmt.Sprintf("must be from %s to %s", duration(least), duration(most)))
}

func (v *validator) atLeast(key string, d, least time.Duration) {
	v.check(d >= least, key, "must be at least "+duration(least))
}

func (v *validator) intBetween(key string, n, least, most int) {
	v.check(n >= least && n <= most, key, fmt.Sprintf("must be from %d to %d", least, most))
}

func (v *validator) sizeBetween(key string, s, least, most Size) {
	v.check(s >= least && s <= most, key, fmt.Sprintf("must be from %s to %s", least, most))
}

// limit checks a stream's or store's limit. The ceiling keeps sums of limits from overflowing.
func (v *validator) limit(key string, s Size) {
	v.sizeBetween(key, s, 0, 1024*tib)
}

func (v *validator) oneOf(key, value string, allowed ...string) {
	v.check(slices.Contains(allowed, value), key, "must be one of "+strings.Join(allowed, ", "))
}

// pair checks that a certificate comes with its key.
func (v *validator) pair(key string, t TLS) {
	v.check((t.CertFile == "") == (t.KeyFile == ""), key+".cert_file", "and "+key+".key_file go together; give both or neither")
}

// timeout checks a provider's own timeout, which is zero where the shared one holds.
func (v *validator) timeout(key string, d time.Duration) {
	v.check(d == 0 || d >= 100*time.Millisecond && d <= time.Minute, key, "must be from 100ms to 1m, or 0s for http.attempt_timeout")
}

// listen checks a listener's host and port, and tells whether they are fine.
func (v *validator) listen(key, address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	v.check(err == nil, key, "must be a host and a port number such as 127.0.0.1:8090, or empty for none")
	return err == nil
}

// printableASCII tells whether text has printable ASCII characters only, and at least one.
func printableASCII(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return text != ""
}
