package ask

import (
	"context"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/strict"
)

// Limits of a lookup.
const (
	// keyLength is the length of every key.
	keyLength = 26
	// maxAttribute is the length of the longest source and id that a query may have, in bytes.
	maxAttribute = 256
	// maxLookup is the size of the longest lookup that makes sense: a source and an id, every byte of them escaped.
	maxLookup = 2*6*maxAttribute + 64
)

// lookup replies with the stored result of a query. It can't be used to find out what other clients asked: a query of theirs is not found,
// like one that never was.
func (s *Service) lookup(ctx context.Context, m message, _ func(answer)) answer {
	client, err := s.Subjects.ReadLookup(m.subject)
	if err != nil {
		return answer{code: Malformed}
	}
	key, err := readLookup(m.data, client)
	if err != nil {
		return answer{code: Malformed}
	}
	within, cancel := context.WithTimeout(ctx, s.LookupTimeout)
	defer cancel()
	event, found, err := s.Results.Lookup(within, key, client)
	if err == nil && !found {
		return answer{code: NoResult}
	}
	return answerOf(ctx, event, err)
}

// readLookup returns the key that a lookup asks for: {"key": …}, or {"source": …, "id": …} of a query of client. Anything else is Malformed.
func readLookup(data []byte, client string) (string, error) {
	bad := fault.New("read lookup", fault.Malformed, fault.BadJSON)
	var wanted struct {
		Key    *string `json:"key"`
		Source *string `json:"source"`
		ID     *string `json:"id"`
	}
	if len(data) > maxLookup || strict.ReadExactly(data, &wanted) != nil {
		return "", bad
	}
	byKey, byIdentity := wanted.Key != nil, wanted.Source != nil && wanted.ID != nil
	switch {
	case byKey && wanted.Source == nil && wanted.ID == nil && isKey(*wanted.Key):
		return *wanted.Key, nil
	case !byKey && byIdentity && isAttribute(*wanted.Source) && isAttribute(*wanted.ID):
		return query.Key(client, *wanted.Source, *wanted.ID), nil
	default:
		return "", bad
	}
}

// isKey tells whether text can be a key. It becomes a part of a subject, so nothing else may pass.
func isKey(text string) bool {
	if len(text) != keyLength {
		return false
	}
	for _, b := range []byte(text) {
		if (b < 'a' || b > 'z') && (b < '2' || b > '7') {
			return false
		}
	}
	return true
}

// isAttribute tells whether text can be the source or the id of a query.
func isAttribute(text string) bool {
	if text == "" || len(text) > maxAttribute {
		return false
	}
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	return true
}
