package config

import (
	"maps"
	"regexp"
	"slices"
	"time"
)

// DefaultAccount is the name of the account that a provider's own settings make: it asks what no other account claims.
const DefaultAccount = "default"

// accountName is what an account may be called: it stands in variables, metrics, logs and keys of buckets.
var accountName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// EasyPayAccount is a further account at KICC. What it leaves out it takes from the provider when it is loaded.
type EasyPayAccount struct {
	// MallIDs are the merchant ids whose queries are this account's. It may list the provider's mall_id.
	MallIDs []string `koanf:"mall_ids"`
	// Timeout is how long one attempt may take. Zero means the provider's.
	Timeout time.Duration `koanf:"timeout"`
	// MaxConnections is how many connections are open at once. Zero means as many as calls are under way.
	MaxConnections int `koanf:"max_connections"`
	// Pace is how fast the account may be called.
	Pace Pace `koanf:"pace"`
	// Concurrency is how many calls one worker may have under way.
	Concurrency Concurrency `koanf:"concurrency"`
}

// UnionPayAccount is a further institution at UnionPay. What it leaves out it takes from the provider when it is loaded.
type UnionPayAccount struct {
	// PIDs are the programmes whose queries are this account's. It may list the provider's pid.
	PIDs []string `koanf:"pids"`
	// SignCertID is the id of the institution's signing certificate in the body: three letters or digits.
	SignCertID string `koanf:"sign_cert_id"`
	// EncCertID is the id of UnionPay's encryption certificate in the body: three letters or digits.
	EncCertID string `koanf:"enc_cert_id"`
	// InsCode is the institution's code: at most 11 characters.
	InsCode string `koanf:"ins_code"`
	// AppID is the institution's application id, signed as UPI-APPID.
	AppID string `koanf:"app_id"`
	// JWS is how requests are signed.
	JWS JWS `koanf:"jws"`
	// Response is how responses are checked.
	Response Response `koanf:"response"`
	// Encryption is how the card data of requests is encrypted.
	Encryption Encryption `koanf:"encryption"`
	// Timeout is how long one attempt may take. Zero means the provider's.
	Timeout time.Duration `koanf:"timeout"`
	// MaxConnections is how many connections are open at once. Zero means as many as calls are under way.
	MaxConnections int `koanf:"max_connections"`
	// Pace is how fast the account may be called.
	Pace Pace `koanf:"pace"`
	// Concurrency is how many calls one worker may have under way.
	Concurrency Concurrency `koanf:"concurrency"`
	// TLS is whom we trust and who we are on these connections.
	TLS TLS `koanf:"tls"`
}

// AccountNames returns the names of all accounts, the default one first and the others in alphabetical order.
func (p EasyPay) AccountNames() []string { return accountNames(p.Accounts) }

// AccountNames returns the names of all accounts, the default one first and the others in alphabetical order.
func (p UnionPay) AccountNames() []string { return accountNames(p.Accounts) }

// mostAccounts returns how many accounts the provider with the most of them has.
func (p Providers) mostAccounts() int {
	return max(len(p.EasyPay.Accounts), len(p.UnionPay.Accounts)) + 1
}

func accountNames[A any](accounts map[string]*A) []string {
	return slices.Concat([]string{DefaultAccount}, slices.Sorted(maps.Keys(accounts)))
}

// Account returns the provider's settings as they hold for one account. A name that is not known gets those of the default account.
func (p EasyPay) Account(name string) EasyPay {
	if a := p.Accounts[name]; a != nil {
		p.Pace, p.Concurrency, p.MaxConnections = a.Pace, a.Concurrency, a.MaxConnections
		p.Timeout = ownTimeout(a.Timeout, p.Timeout)
	}
	return p
}

// Account returns the provider's settings as they hold for one account. A name that is not known gets those of the default account.
func (p UnionPay) Account(name string) UnionPay {
	if a := p.Accounts[name]; a != nil {
		p.InsCode, p.AppID, p.SignCertID, p.EncCertID = a.InsCode, a.AppID, a.SignCertID, a.EncCertID
		p.JWS, p.Response, p.Encryption = a.JWS, a.Response, a.Encryption
		p.Pace, p.Concurrency, p.MaxConnections, p.TLS = a.Pace, a.Concurrency, a.MaxConnections, a.TLS
		p.Timeout = ownTimeout(a.Timeout, p.Timeout)
	}
	return p
}

// ownTimeout returns an account's timeout, or the provider's if it is zero.
func ownTimeout(own, provider time.Duration) time.Duration {
	if own == 0 {
		return provider
	}
	return own
}
