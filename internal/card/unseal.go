package card

import (
	"github.com/go-json-experiment/json"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/strict"
)

// Binding is what ties sealed card data to its query, so that a sealed text can't be moved to another one.
type Binding struct {
	// ID, Source and Type are the CloudEvents attributes of the query.
	ID     string `json:"id"`
	Source string `json:"source"`
	Type   string `json:"type"`
}

// contents is what is sealed, and what plain data looks like where plain data is accepted.
type contents struct {
	Binding

	UserToken string `json:"userToken"`
	CardNo    string `json:"cardNo"`
	Mobile    string `json:"mobile,omitempty"`
}

// SealDetails seals card data for the query that binding names, ready to be the data member of a query for UnionPay.
func (s *Sealer) SealDetails(details Details, binding Binding) (string, error) {
	plaintext, err := json.Marshal(contents{
		Binding: binding, UserToken: details.UserToken.Reveal(), CardNo: details.Number.Reveal(), Mobile: details.Mobile.Reveal(),
	})
	if err != nil {
		return "", fault.Because("seal card data", fault.Unknown, fault.SigningFailed, nil)
	}
	return s.Seal(plaintext)
}

// Unsealer turns the data member of a query into card data.
type Unsealer struct {
	// Ring holds the keys.
	Ring *Ring
	// AcceptPlain lets plain objects pass as well. It is for demo and tests.
	AcceptPlain bool
	// MaxSealed is the limit of the sealed text in bytes.
	MaxSealed int
}

// Snapshot returns an unsealer that keeps the present keys, whatever the ring is given later.
func (u *Unsealer) Snapshot() *Unsealer {
	same := *u
	same.Ring = u.Ring.Snapshot()
	return &same
}

// Unseal returns the card data in data, which is the JSON of a query's data member: a string with a compact JWE or, if plain data
// is accepted, an object. Everything that can be wrong with it is Malformed; the error tells what, but no value.
func (u *Unsealer) Unseal(data []byte, binding Binding) (*Details, error) {
	if len(data) > 0 && data[0] == '{' {
		if !u.AcceptPlain {
			return nil, fault.New("unseal card data", fault.Malformed, fault.PlainCard)
		}
		return readDetails(data, nil)
	}
	var compact string
	if strict.Read(data, &compact) != nil {
		return nil, fault.New("unseal card data", fault.Malformed, fault.BadSeal)
	}
	plaintext, err := u.Ring.Open(compact, u.MaxSealed)
	if err != nil {
		return nil, err
	}
	return readDetails(plaintext, &binding)
}

// readDetails reads and checks the contents. A nil binding is not compared.
func readDetails(plaintext []byte, binding *Binding) (*Details, error) {
	refuse := func(code fault.Code) (*Details, error) {
		return nil, fault.New("read card data", fault.Malformed, code)
	}
	var c contents
	if strict.Read(plaintext, &c) != nil {
		return refuse(fault.BadJSON)
	}
	if strict.HoldsAuthenticationData(plaintext) {
		return refuse(fault.ForbiddenCardData)
	}
	if binding != nil && c.Binding != *binding {
		return refuse(fault.SealMismatch)
	}
	if c.UserToken == "" {
		return refuse(fault.BadField)
	}
	number, err := ParseNumber(c.CardNo)
	if err != nil {
		return nil, err
	}
	return &Details{UserToken: NewSecret(c.UserToken), Number: number, Mobile: NewSecret(c.Mobile)}, nil
}
