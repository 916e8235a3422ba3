package schemas

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a document, above all that our events need. They keep hostile input from costing more than its length.
const (
	maxDepth  = 32
	maxNumber = 64
)

// errNotStrict stands for every fault of a document's syntax. It has no detail, because the reader's own error repeats input.
var errNotStrict = &Violation{Keyword: KeywordJSON}

// read turns a document into the values that the validator works on. It is strict: duplicate names, invalid UTF-8, bytes after
// the value, nesting beyond 32 levels and numbers beyond 64 characters or beyond a double's range are refused.
func (s *Set) read(document []byte) (any, error) {
	decoder, ok := s.decoders.Get().(*jsontext.Decoder)
	if !ok {
		decoder = new(jsontext.Decoder) // All are in use.
	}
	defer s.release(decoder)
	decoder.Reset(bytes.NewBuffer(document))
	value, err := readValue(decoder)
	if err != nil {
		return nil, errNotStrict
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errNotStrict
	}
	return value, nil
}

// release gives a decoder back without the document, so that no card data stays in memory with it.
func (s *Set) release(decoder *jsontext.Decoder) {
	decoder.Reset(nothing{})
	s.decoders.Put(decoder)
}

// nothing is a reader of an empty document.
type nothing struct{}

// Read returns io.EOF.
func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

func readValue(decoder *jsontext.Decoder) (any, error) {
	token, err := decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		return readObject(decoder)
	case '[':
		return readArray(decoder)
	case '"':
		return token.String(), nil
	case '0':
		return readNumber(token.String())
	case 't', 'f':
		return token.Bool(), nil
	default:
		return nil, nil //nolint:nilnil // The value of JSON's null is nil.
	}
}

func readObject(decoder *jsontext.Decoder) (any, error) {
	if decoder.StackDepth() > maxDepth {
		return nil, errNotStrict
	}
	object := make(map[string]any)
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String() // The token is void once the next one is read.
		if object[key], err = readValue(decoder); err != nil {
			return nil, err
		}
	}
	_, err := decoder.ReadToken()
	return object, err
}

func readArray(decoder *jsontext.Decoder) (any, error) {
	if decoder.StackDepth() > maxDepth {
		return nil, errNotStrict
	}
	array := []any{}
	for decoder.PeekKind() != ']' {
		value, err := readValue(decoder)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := decoder.ReadToken()
	return array, err
}

// readNumber returns an int64 or uint64 where the number is one, so that whole numbers stay exact, and a float64 otherwise. The
// validator's own form for numbers keeps the text and computes with its exponent, which a hostile 1e999999 would exploit.
func readNumber(text string) (any, error) {
	if len(text) > maxNumber {
		return nil, errNotStrict
	}
	if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
		return whole, nil
	}
	if whole, err := strconv.ParseUint(text, 10, 64); err == nil {
		return whole, nil
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(number, 0) {
		return nil, errNotStrict
	}
	return number, nil
}
