package config

import "time"

// HTTP is shared by the calls to all upstreams.
type HTTP struct {
	// UserAgent is sent with every call.
	UserAgent string `koanf:"user_agent"`
	// AttemptTimeout is how long one attempt may take, from dialling to the last byte of the body.
	AttemptTimeout time.Duration `koanf:"attempt_timeout"`
	// DialTimeout is the part of an attempt that may go into the TCP connection.
	DialTimeout time.Duration `koanf:"dial_timeout"`
	// TLSHandshakeTimeout is the part of an attempt that may go into the TLS handshake.
	TLSHandshakeTimeout time.Duration `koanf:"tls_handshake_timeout"`
	// RecycleConnections is after how long a connection is replaced, so that changes of DNS are seen.
	RecycleConnections time.Duration `koanf:"recycle_connections"`
	// MaxResponseBytes is the largest response body that is read.
	MaxResponseBytes Size `koanf:"max_response_bytes"`
}

// Timeout returns the time one attempt may take at a provider: the provider's own timeout, or the shared one if that is zero.
func (h HTTP) Timeout(own time.Duration) time.Duration {
	if own > 0 {
		return own
	}
	return h.AttemptTimeout
}

// Retry is how often and how soon a failed call is made again: at once in the worker, and beyond that as a scheduled message.
type Retry struct {
	// MaxAttempts is how many calls are made within one delivery of a query, the first included.
	MaxAttempts int `koanf:"max_attempts"`
	// InitialInterval is the pause before the second call.
	InitialInterval time.Duration `koanf:"initial_interval"`
	// MaxInterval is the longest pause between two calls.
	MaxInterval time.Duration `koanf:"max_interval"`
	// Multiplier is by how much each pause is longer than the one before.
	Multiplier float64 `koanf:"multiplier"`
	// Jitter is the part of a pause that is random, from 0 (none) to 1.
	Jitter float64 `koanf:"jitter"`
	// Budget is the time after which no further call is started within one delivery.
	Budget time.Duration `koanf:"budget"`
	// Share is how many calls may be repeated at once in the worker, as a part of the first calls: 0.1 for one in ten.
	Share float64 `koanf:"share"`
	// Reserve is how many repeated calls can be saved up while there is nothing to repeat.
	Reserve int `koanf:"reserve"`
	// Schedule is how soon a query comes back whose calls all failed.
	Schedule Schedule `koanf:"schedule"`
}

// Schedule is how soon a query comes back whose calls all failed.
type Schedule struct {
	// First is the delay of the first scheduled retry; each later one waits longer.
	First time.Duration `koanf:"first"`
	// Max is the longest delay of a scheduled retry.
	Max time.Duration `koanf:"max"`
}

// Breaker is when an upstream counts as down, so that no more queries are taken for it.
type Breaker struct {
	// MinCalls is how many calls there must be within the window before their failures are judged.
	MinCalls int `koanf:"min_calls"`
	// FailureRatio is the part of failed calls, from 0 to 1, from which on the upstream counts as down.
	FailureRatio float64 `koanf:"failure_ratio"`
	// Window is how far back calls are counted.
	Window time.Duration `koanf:"window"`
	// OpenFor is how long nothing is asked before a single call tries again.
	OpenFor time.Duration `koanf:"open_for"`
}

// Providers are the upstreams.
type Providers struct {
	// EasyPay is KICC EasyPay's instant-discount inquiry.
	EasyPay EasyPay `koanf:"easypay"`
	// UnionPay is UnionPay International's cardholder instant-discount usage query.
	UnionPay UnionPay `koanf:"unionpay"`
}

// Enabled returns the names of the providers that are switched on, as they stand in subjects, in alphabetical order.
func (p Providers) Enabled() []string {
	var names []string
	if p.EasyPay.Enabled {
		names = append(names, "easypay")
	}
	if p.UnionPay.Enabled {
		names = append(names, "unionpay")
	}
	return names
}

// Pace is how fast one upstream account may be called by all workers together.
type Pace struct {
	// Rate is the long-run number of calls in a time.
	Rate Rate `koanf:"rate"`
	// Burst is how many calls may be made at once after a quiet time.
	Burst int `koanf:"burst"`
}

// Concurrency is how many calls to one upstream account one worker may have under way at once. Within these bounds it follows how long
// they take.
type Concurrency struct {
	// Min is how many there may always be.
	Min int `koanf:"min"`
	// Max is how many there may be at most. Zero means that there is no limit, whatever they take.
	Max int `koanf:"max"`
}

// EasyPay is KICC EasyPay's instant-discount inquiry.
type EasyPay struct {
	// Enabled switches the provider on.
	Enabled bool `koanf:"enabled"`
	// Variant is the edition of the interface: current (JSON, POST /api/etc/inquiryCoupon) or legacy (the older portal's, EUC-KR).
	Variant string `koanf:"variant"`
	// BaseURL is the scheme and host of the interface. The default is KICC's test host.
	BaseURL URL `koanf:"base_url"`
	// Path is the path of the interface. Empty means the variant's own.
	Path string `koanf:"path"`
	// MallID is the merchant id used for queries that name none. Empty means that each query must name its own.
	MallID string `koanf:"mall_id"`
	// AmountAs is how the amount is sent: number (as in the interface's table) or string (as in its example).
	AmountAs string `koanf:"amount_as"`
	// Charset is how responses are read: auto (UTF-8 if the bytes are, else CP949), utf-8 or cp949.
	Charset string `koanf:"charset"`
	// RequireCard refuses queries that name neither a card company nor the first digits of a card.
	RequireCard bool `koanf:"require_card"`
	// ZeroCapIsNoCap reads a largest discount of 0 as "no cap". Otherwise such an offer's verdict is unknown.
	ZeroCapIsNoCap bool `koanf:"zero_cap_is_no_cap"`
	// NearlyExhausted is the exhaustion rate in percent, as an exact decimal, above which an offer is marked as nearly gone.
	NearlyExhausted string `koanf:"nearly_exhausted"`
	// Codes gives response codes another class than the built-in table: ok, empty, declined, transient, broken or config.
	Codes map[string]string `koanf:"codes"`
	// Timeout is how long one attempt may take. Zero means http.attempt_timeout.
	Timeout time.Duration `koanf:"timeout"`
	// MaxConnections is how many connections are open at once. Zero means as many as calls are under way.
	MaxConnections int `koanf:"max_connections"`
	// Pace is how fast the account may be called.
	Pace Pace `koanf:"pace"`
	// Concurrency is how many calls one worker may have under way.
	Concurrency Concurrency `koanf:"concurrency"`
	// TLS is whom we trust and who we are on these connections.
	TLS TLS `koanf:"tls"`
	// Accounts are further accounts, by name. Queries that none of them claims belong to the provider's own settings.
	Accounts map[string]*EasyPayAccount `koanf:"accounts"`
}

// UnionPay is UnionPay International's cardholder instant-discount usage query. What UnionPay assigns or does not publish has no default.
type UnionPay struct {
	// Enabled switches the provider on.
	Enabled bool `koanf:"enabled"`
	// BaseURL is the scheme and host of the interface, given by UnionPay.
	BaseURL URL `koanf:"base_url"`
	// Path is the path of the interface, given by UnionPay.
	Path string `koanf:"path"`
	// ReqPath is the path that is signed as UPI-REQPATH. Empty means the same as path.
	ReqPath string `koanf:"req_path"`
	// ProcType is the interface's id: two letters or digits.
	ProcType string `koanf:"proc_type"`
	// SignCertID is the id of our signing certificate in the body: three letters or digits.
	SignCertID string `koanf:"sign_cert_id"`
	// EncCertID is the id of UnionPay's encryption certificate in the body: three letters or digits.
	EncCertID string `koanf:"enc_cert_id"`
	// InsCode is our institution code: at most 11 characters.
	InsCode string `koanf:"ins_code"`
	// PID is the programme asked about by queries that name none: at most 10 digits.
	PID string `koanf:"pid"`
	// ScenID is the scenario of queries that name none: at most 4 characters. Empty leaves the field out.
	ScenID string `koanf:"scen_id"`
	// ResvFld is the reserved field of every request: at most 500 characters. Empty leaves the field out.
	ResvFld string `koanf:"resv_fld"`
	// AppID is our application id, signed as UPI-APPID.
	AppID string `koanf:"app_id"`
	// TimeZone is the zone of localTime, in the nine characters of localTimeZone.
	TimeZone string `koanf:"time_zone"`
	// AmountUnit is how amounts are written in responses: major (2.22 is two units and 22 hundredths) or minor (222).
	AmountUnit string `koanf:"amount_unit"`
	// JWS is how requests are signed.
	JWS JWS `koanf:"jws"`
	// Response is how responses are checked.
	Response Response `koanf:"response"`
	// Encryption is how the card data of requests is encrypted.
	Encryption Encryption `koanf:"encryption"`
	// Codes gives response codes another class than the built-in table: ok, empty, declined, transient, broken or config.
	Codes map[string]string `koanf:"codes"`
	// Timeout is how long one attempt may take. Zero means http.attempt_timeout.
	Timeout time.Duration `koanf:"timeout"`
	// MaxConnections is how many connections are open at once. Zero means as many as calls are under way.
	MaxConnections int `koanf:"max_connections"`
	// Pace is how fast the account may be called.
	Pace Pace `koanf:"pace"`
	// Concurrency is how many calls one worker may have under way.
	Concurrency Concurrency `koanf:"concurrency"`
	// TLS is whom we trust and who we are on these connections.
	TLS TLS `koanf:"tls"`
	// Accounts are further institutions, by name. Queries that none of them claims belong to the provider's own settings.
	Accounts map[string]*UnionPayAccount `koanf:"accounts"`
}

// JWS is how requests to UnionPay are signed.
type JWS struct {
	// KID is the id of our signing certificate in the signature's header.
	KID string `koanf:"kid"`
	// PrivateKeyFile is our RSA signing key, in PEM.
	PrivateKeyFile string `koanf:"private_key_file"`
	// B64InHeader adds "b64":false (RFC 7797) to the signature's header and signs the body as it is.
	B64InHeader bool `koanf:"b64_in_header"`
}

// Response is how responses of UnionPay are checked.
type Response struct {
	// Verify is required (an unsigned response is refused), if_present (a signature is checked when there is one) or off.
	Verify string `koanf:"verify"`
	// KeyFiles are UnionPay's signing keys: each key's id and its public key or certificate, in PEM.
	KeyFiles map[string]string `koanf:"key_files"`
}

// Encryption is how the card data of requests to UnionPay is encrypted.
type Encryption struct {
	// Mode is jwe (data is one compact JWE) or off (data is a plain object, protected by TLS only).
	Mode string `koanf:"mode"`
	// Alg is how the content key is encrypted: RSA1_5 or RSA-OAEP-256.
	Alg string `koanf:"alg"`
	// Enc is how the content is encrypted: A128CBC-HS256, A128GCM or A256GCM.
	Enc string `koanf:"enc"`
	// KID is the id of UnionPay's encryption certificate in the JWE's header.
	KID string `koanf:"kid"`
	// PublicKeyFile is UnionPay's public RSA key or certificate, in PEM.
	PublicKeyFile string `koanf:"public_key_file"`
}
