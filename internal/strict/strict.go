// Package strict reads JSON that strangers wrote: nothing that two readers could understand differently is accepted.
// It is a leaf and must never put a part of its input into an error.
package strict

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how deep JSON may nest. The deepest message of this project needs 6 levels.
const MaxDepth = 16

// ErrJSON is returned for bytes that are not strict JSON or do not fit the target.
var ErrJSON = errors.New("not strict JSON")

// Read reads data into v. Duplicate names, invalid UTF-8, bytes after the value and nesting beyond MaxDepth are ErrJSON, as is a
// value of another type than v's. Names are matched with their case; unknown ones are ignored.
func Read(data []byte, v any) error {
	if tooDeep(data) || json.Unmarshal(data, v) != nil {
		return ErrJSON
	}
	return nil
}

// ReadExactly is Read that refuses unknown names too.
func ReadExactly(data []byte, v any) error {
	if tooDeep(data) || json.Unmarshal(data, v, json.RejectUnknownMembers(true)) != nil {
		return ErrJSON
	}
	return nil
}

// tooDeep tells whether data nests beyond MaxDepth, without reading it as JSON.
func tooDeep(data []byte) bool {
	depth, inText := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			depth++
			if depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// authenticationData are the names under which sensitive authentication data travels. PCI DSS 3.3 forbids to store it, even encrypted.
var authenticationData = []string{
	"cvv", "cvv2", "cvc", "cvc2", "cvn", "cvn2", "cav2", "cid", "cardverificationvalue", "securitycode",
	"pin", "pinblock", "pinblk", "pindata", "track", "track1", "track2", "track3", "track1data", "track2data", "magstripe",
}

// HoldsAuthenticationData tells whether data, which must be JSON, has a member named like a card verification value, a PIN or
// track data at any depth. Upper and lower case, '-' and '_' make no difference.
func HoldsAuthenticationData(data []byte) bool {
	decoder := jsontext.NewDecoder(bytes.NewReader(data))
	for {
		token, err := decoder.ReadToken()
		if err != nil {
			return false
		}
		if token.Kind() != '"' {
			continue
		}
		// Inside an object, names and values are counted alike: a name makes the count odd.
		if kind, count := decoder.StackIndex(decoder.StackDepth()); kind != '{' || count%2 == 0 {
			continue
		}
		if slices.Contains(authenticationData, plainName(token.String())) {
			return true
		}
	}
}

func plainName(name string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return r
	}, name))
}
