package query

import (
	"strings"

	"discountquery.example/worker/internal/fault"
)

// Subjects builds and reads the subjects below one prefix, so that no other room writes them by hand.
type Subjects struct {
	prefix string
}

// NewSubjects returns the subjects below prefix, "discount" by default.
func NewSubjects(prefix string) Subjects { return Subjects{prefix: prefix} }

// Query returns the subject on which client asks provider in lane.
func (s Subjects) Query(provider Provider, lane Lane, client string) string {
	return s.join("query", string(provider), string(lane), client)
}

// Ask returns the subject on which client asks provider and has its answer as the reply. Nothing is stored under it.
func (s Subjects) Ask(provider Provider, client string) string {
	return s.join("ask", string(provider), client)
}

// Lookup returns the subject on which client requests a stored result of its own. Nothing is stored under it.
func (s Subjects) Lookup(client string) string { return s.join("lookup", client) }

// Keys returns the subject on which anybody requests the public keys to seal to. Nothing is stored under it.
func (s Subjects) Keys() string { return s.join("keys") }

// RetryAt returns the subject that holds the scheduled retry of the query with key. Each query has at most one.
func (s Subjects) RetryAt(key string) string { return s.join("retry.at", key) }

// RetryDue returns the subject on which a scheduled retry comes due.
func (s Subjects) RetryDue(provider Provider, lane Lane, client string) string {
	return s.join("retry.due", string(provider), string(lane), client)
}

// Result returns the subject of a result; status is "completed" or "failed".
func (s Subjects) Result(key string, provider Provider, client, status string) string {
	return s.join("result", key, string(provider), client, status)
}

// ResultGuard returns the wildcard over all results of key. Every writer guards its publish with this same string.
func (s Subjects) ResultGuard(key string) string { return s.join("result", key, ">") }

// ResultOf returns the wildcard on which client sees the results of key, whatever the provider and status.
func (s Subjects) ResultOf(key, client string) string { return s.join("result", key, "*", client, "*") }

// Dead returns the subject of a dead letter.
func (s Subjects) Dead(key string, provider Provider, client, reason string) string {
	return s.join("dead", key, string(provider), client, reason)
}

// DeadGuard returns the wildcard over all dead letters of key.
func (s Subjects) DeadGuard(key string) string { return s.join("dead", key, ">") }

func (s Subjects) join(tokens ...string) string {
	return s.prefix + "." + strings.Join(tokens, ".")
}

// Address is what the subject of a query says about it.
type Address struct {
	Provider Provider
	Lane     Lane
	Client   string
	// Retry tells that the subject is that of a scheduled retry that came due.
	Retry bool
	// Asked tells that the query came as a request, beside the queue.
	Asked bool
}

// Parse reads the subject of a query, of a retry that came due or of a query that came as a request, whose lane is Interactive. An
// unknown provider or lane is Malformed.
func (s Subjects) Parse(subject string) (Address, error) {
	bad := fault.New("read subject", fault.Malformed, fault.BadSubject)
	rest, ok := strings.CutPrefix(subject, s.prefix+".")
	if !ok {
		return Address{}, bad
	}
	var address Address
	switch kind, tail, _ := strings.Cut(rest, "."); kind {
	case "query":
		rest = tail
	case "ask":
		rest, address.Asked = tail, true
	default:
		if rest, ok = strings.CutPrefix(rest, "retry.due."); !ok {
			return Address{}, bad
		}
		address.Retry = true
	}
	provider, rest, _ := strings.Cut(rest, ".")
	lane, client := string(Interactive), rest
	if !address.Asked {
		lane, client, _ = strings.Cut(rest, ".")
	}
	address.Provider, address.Lane, address.Client = Provider(provider), Lane(lane), client
	if !address.known() {
		return Address{}, bad
	}
	return address, nil
}

// ReadLookup returns the client that the subject of a lookup names. A subject of another form is Malformed.
func (s Subjects) ReadLookup(subject string) (string, error) {
	client, ok := strings.CutPrefix(subject, s.join("lookup", ""))
	if !ok || !IsToken(client) {
		return "", fault.New("read subject", fault.Malformed, fault.BadSubject)
	}
	return client, nil
}

func (a Address) known() bool {
	return (a.Provider == EasyPay || a.Provider == UnionPay) && (a.Lane == Interactive || a.Lane == Bulk) && IsToken(a.Client)
}

// IsToken tells whether name can stand as one token of a subject: 1 to 64 characters of letters, digits, '-' and '_'.
func IsToken(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for _, r := range []byte(name) {
		if !isAlphanumeric(r) && r != '-' && r != '_' {
			return false
		}
	}
	return true
}

func isAlphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}
