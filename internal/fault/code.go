package fault

// Code is the closed detail of a failure: fit for events, metric labels and logs, because none of it comes from outside.
type Code string

// Codes of queries that can't be read or used.
const (
	// Unclassified marks an error that carries no code of its own.
	Unclassified Code = "unclassified"
	// BadSubject is a query on a subject without provider, lane and client.
	BadSubject Code = "bad_subject"
	// BadEnvelope is a query whose CloudEvents attributes are missing or wrong.
	BadEnvelope Code = "bad_envelope"
	// BadJSON is a payload that is not strict JSON: duplicate names, invalid UTF-8, too deep, trailing bytes.
	BadJSON Code = "bad_json"
	// BadSchema is a query that breaks its JSON Schema.
	BadSchema Code = "bad_schema"
	// BadField is a field whose value the provider's own rules refuse (type, length, range).
	BadField Code = "bad_field"
	// TooLarge is a message or response beyond its size limit.
	TooLarge Code = "too_large"
	// UnsupportedType is an event type or version this worker does not serve.
	UnsupportedType Code = "unsupported_type"
	// BadSeal is sealed data that can't be opened: not a compact JWE, a refused algorithm, or a wrong key.
	BadSeal Code = "bad_seal"
	// UnknownKey is sealed data for a key id that the worker does not hold.
	UnknownKey Code = "unknown_key"
	// SealMismatch is sealed data whose id, source or type is not that of its envelope.
	SealMismatch Code = "seal_mismatch"
	// PlainCard is card data that was not sealed although it must be.
	PlainCard Code = "plain_card"
	// BadCard is a card number with a wrong length or check digit.
	BadCard Code = "bad_card"
	// ForbiddenCardData is a query that carries a card verification value, a PIN or track data.
	ForbiddenCardData Code = "forbidden_card_data"
	// DeadlinePassed is a query that met its deadline.
	DeadlinePassed Code = "deadline_passed"
	// Horizon is a query that could not be answered within its lane's horizon.
	Horizon Code = "horizon"
	// CrashLoop is a query whose holders died too often.
	CrashLoop Code = "crash_loop"
	// SetApart is a query that was held by several workers that died: it is asked again at another time than those that they held with it.
	SetApart Code = "set_apart"
	// Panicked is a query whose handling panicked.
	Panicked Code = "panicked"
)

// Codes of calls to an upstream.
const (
	// Connect is a connection that could not be made.
	Connect Code = "connect"
	// DNS is a host name that could not be resolved.
	DNS Code = "dns"
	// TLS is a failed handshake or certificate check.
	TLS Code = "tls"
	// Timeout is an attempt that ran into its own deadline.
	Timeout Code = "timeout"
	// ConnectionLost is a connection that broke after the request was written.
	ConnectionLost Code = "connection_lost"
	// HTTPStatus is a response with a status that carries no answer.
	HTTPStatus Code = "http_status"
	// Redirect is a response that points elsewhere; it is never followed.
	Redirect Code = "redirect"
	// BadResponse is a response that is not the JSON the interface promises.
	BadResponse Code = "bad_response"
	// BadSignature is a response whose signature is missing or does not verify.
	BadSignature Code = "bad_signature"
	// BadEcho is a response that belongs to another request.
	BadEcho Code = "bad_echo"
	// GatewayRefused is an upstream's gateway refusing our credentials or signature.
	GatewayRefused Code = "gateway_refused"
	// UpstreamBusy is a response code of the transient class.
	UpstreamBusy Code = "upstream_busy"
	// UpstreamBroken is a response code of the broken class, or one that nobody knows.
	UpstreamBroken Code = "upstream_broken"
	// UpstreamConfig is a response code that speaks of our account or configuration.
	UpstreamConfig Code = "upstream_config"
	// RateLimited is HTTP 429, or 503 with a Retry-After.
	RateLimited Code = "rate_limited"
	// BreakerOpen is a call that was not made because its upstream is known to be down.
	BreakerOpen Code = "breaker_open"
	// Paced is a query that was put off, because its account's pace or calls under way left no room for it soon.
	Paced Code = "paced"
	// RetryBudget is a repeated attempt that was not made, because too many others were.
	RetryBudget Code = "retry_budget"
	// SigningFailed is a request that could not be signed or encrypted.
	SigningFailed Code = "signing_failed"
	// Stopped is work cut short by a shutdown.
	Stopped Code = "stopped"
)

// Codes of the broker's side.
const (
	// NotStored is a write that the broker did not confirm.
	NotStored Code = "not_stored"
	// AlreadyAnswered is a query for which a result is stored already.
	AlreadyAnswered Code = "already_answered"
	// BrokerUnreachable is a broker that could not be reached or did not answer.
	BrokerUnreachable Code = "broker_unreachable"
	// BrokerRefused is a broker that answered and refused.
	BrokerRefused Code = "broker_refused"
)
