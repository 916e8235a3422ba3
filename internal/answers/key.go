package answers

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/query"
)

// Account says in whose name a provider is asked.
type Account struct {
	// ID names the account, the upstream's address and every setting on which an answer depends: two workers that would get or read an
	// answer differently must not share one. It is only hashed.
	ID string
	// MallID, PID and ScenID are what a query asks with that leaves them out.
	MallID string
	PID    string
	ScenID string
}

// key returns the name of a question: the provider, and a hash over all that is asked and in whose name. A query with no question that can
// be compared has none.
//
// It stands in the broker's store, so it holds no card number: of a card there is only the keyed fingerprint, which nobody can try out
// numbers against. UnionPay is asked for the usage of a card number (its API page), so neither token nor mobile is part of the question.
func (c *Cache) key(q *query.Query, details *card.Details) (string, bool) {
	account := c.Accounts[q.Provider]
	parts := []string{"v1", string(q.Provider), account.ID}
	switch {
	case q.Provider == query.EasyPay && q.EasyPay != nil:
		amount := ""
		if q.EasyPay.Amount != nil {
			amount = strconv.FormatInt(*q.EasyPay.Amount, 10)
		}
		parts = append(parts, cmp.Or(q.EasyPay.MallID, account.MallID), q.EasyPay.CardCd, q.EasyPay.CardBin, amount)
	case q.Provider == query.UnionPay && q.UnionPay != nil && details != nil && details.Number.Reveal() != "":
		fingerprint, keyID := c.Fingerprint(details.Number)
		parts = append(parts, cmp.Or(q.UnionPay.PID, account.PID), cmp.Or(q.UnionPay.ScenID, account.ScenID), keyID, fingerprint)
	default:
		return "", false
	}
	hash := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(hash, "%d:%s,", len(part), part) // With its length, no part runs into the next. A hash takes every write.
	}
	return string(q.Provider) + "." + hex.EncodeToString(hash.Sum(nil)), true
}
