package answers

import (
	"time"

	"github.com/go-json-experiment/json"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/strict"
)

// version is the form of what lies in the bucket. Whoever changes its meaning, or that of the types in it, counts it up: workers of two
// builds share the bucket while a new one is rolled out.
const version = 1

// stored is an answer as it lies in the bucket. An answer holds no card data: usage and offers, and an upstream's message in which long
// numbers are masked.
type stored struct {
	Version  int            `json:"version"`
	AsOf     time.Time      `json:"asOf"`
	Outcome  query.Outcome  `json:"outcome"`
	Offers   []query.Offer  `json:"offers,omitempty"`
	Usage    *query.Usage   `json:"usage,omitzero"`
	Upstream query.Response `json:"upstream"`
}

func encode(answer query.Answer) ([]byte, error) {
	value, err := json.Marshal(stored{
		Version: version, AsOf: answer.AsOf.UTC(), Outcome: answer.Outcome, Offers: answer.Offers, Usage: answer.Usage, Upstream: answer.Upstream,
	})
	if err != nil {
		return nil, fault.Because("encode answer", fault.Unknown, fault.Unclassified, err)
	}
	return value, nil
}

// decode reads an answer of this version. Another version is Malformed with the code UnsupportedType, everything else that is no answer
// Malformed with the code BadJSON.
func decode(value []byte) (query.Answer, error) {
	var form struct {
		Version int `json:"version"`
	}
	if err := strict.Read(value, &form); err != nil {
		return query.Answer{}, fault.Because("decode answer", fault.Malformed, fault.BadJSON, err)
	}
	if form.Version != version {
		return query.Answer{}, fault.New("decode answer", fault.Malformed, fault.UnsupportedType)
	}
	var s stored
	if err := strict.Read(value, &s); err != nil || !keepable(s.Outcome) || s.AsOf.IsZero() {
		return query.Answer{}, fault.Because("decode answer", fault.Malformed, fault.BadJSON, err)
	}
	return query.Answer{AsOf: s.AsOf, Outcome: s.Outcome, Offers: s.Offers, Usage: s.Usage, Upstream: s.Upstream}, nil
}
