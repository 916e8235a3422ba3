package config

import (
	"net/netip"
	"net/url"
	"strings"
)

// URL is an address, or several separated by commas, that may hold a password or a token. It prints masked; string(u) is the
// address itself, for the code that connects.
type URL string

// masked stands where a secret was.
const masked = "xxxxx"

// String returns the address without its secrets: passwords, tokens and query strings are masked, the user's name stays.
// An address that can't be taken apart without doubt is masked whole: a password with an unescaped / or ? looks like a path.
func (u URL) String() string {
	if u == "" {
		return ""
	}
	parts := u.split()
	for i, part := range parts {
		address, err := url.Parse(part)
		if err != nil || address.Host == "" || strings.Contains(address.Host+address.Path+address.RawQuery+address.Fragment, "@") {
			return masked
		}
		parts[i] = mask(address)
	}
	return strings.Join(parts, ",")
}

// GoString returns the same as String, so that %#v prints no secret either.
func (u URL) GoString() string { return u.String() }

// MarshalText returns the same as String, so that no encoder writes a secret.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// split returns the single addresses.
func (u URL) split() []string {
	parts := strings.Split(string(u), ",")
	for i, part := range parts {
		parts[i] = strings.TrimSpace(part)
	}
	return parts
}

// mask returns the address with its secrets masked. A user without a password is a token to NATS.
func mask(address *url.URL) string {
	if address.User != nil {
		name := url.User(masked)
		if _, ok := address.User.Password(); ok {
			name = url.UserPassword(address.User.Username(), masked)
		}
		address.User = name
	}
	if address.RawQuery != "" {
		address.RawQuery = masked
	}
	if address.Fragment != "" {
		address.Fragment = masked
	}
	return address.String()
}

// loopback tells whether a host can only be this machine.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
