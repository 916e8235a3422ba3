package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Rate is a number of calls in a time. As text it is "10/s", "300/m" or "5000/h".
type Rate struct {
	// Calls is how many calls are made.
	Calls int
	// Per is the time they are made in: a second, a minute or an hour.
	Per time.Duration
}

// rateUnits are the times of a Rate by their letter.
var rateUnits = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// maxCalls keeps the interval of even the fastest rate at a microsecond or more.
const maxCalls = 1_000_000

// errRate says how a rate is written.
var errRate = errors.New("must be a rate: a whole number of calls from 1 to 1000000 per second, minute or hour, such as 10/s, 300/m or 5000/h")

// UnmarshalText reads a rate. The error never quotes the text.
func (r *Rate) UnmarshalText(text []byte) error {
	digits, letter, _ := strings.Cut(string(text), "/")
	per, known := rateUnits[letter]
	calls, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || !known || calls < 1 || calls > maxCalls {
		return errRate
	}
	*r = Rate{Calls: int(calls), Per: per}
	return nil
}

// String returns the rate as UnmarshalText reads it.
func (r Rate) String() string {
	for letter, per := range rateUnits {
		if per == r.Per {
			return strconv.Itoa(r.Calls) + "/" + letter
		}
	}
	return strconv.Itoa(r.Calls) + "/" + r.Per.String()
}

// Interval returns the time between two calls at this rate, rounded up to the nanosecond so that the rate is never exceeded.
// A rate without calls has no interval: it returns 0.
func (r Rate) Interval() time.Duration {
	if r.Calls < 1 {
		return 0
	}
	calls := time.Duration(r.Calls)
	return (r.Per + calls - 1) / calls
}
