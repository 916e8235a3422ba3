package query

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxMaxAge is the largest age that a query may ask for.
const MaxMaxAge = 24 * time.Hour

// integer is an attribute of the CloudEvents type Integer. In JSON it is a number, or a text if it passed through somebody who did not know
// its type: the headers of the binary mode have none (CloudEvents 1.0, type system).
type integer string

// UnmarshalJSON takes a number or a text over as it is written. Whatever else there is stays what it is, and is no integer. Null is nothing.
func (i *integer) UnmarshalJSON(value []byte) error {
	switch text, err := jsontext.AppendUnquote(nil, value); {
	case err == nil:
		*i = integer(text)
	case string(value) == "null":
		*i = ""
	default:
		*i = integer(value)
	}
	return nil
}

// readMaxAge reads a number of seconds, in decimal digits without sign or leading zeros. Nothing is no maximum, and not zero.
func readMaxAge(text string) (*time.Duration, bool) {
	if text == "" {
		return nil, true
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	age := time.Duration(seconds) * time.Second
	if err != nil || age > MaxMaxAge || text != strconv.FormatUint(seconds, 10) {
		return nil, false
	}
	return &age, true
}

func seconds(age *time.Duration) *int64 {
	if age == nil {
		return nil
	}
	whole := int64(*age / time.Second)
	return &whole
}
