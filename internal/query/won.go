package query

import (
	"strconv"

	"discountquery.example/worker/internal/fault"
)

// maxWon is the largest payment in won that a query may ask about: far above any payment, far below what could overflow.
const maxWon = 1_000_000_000_000

// readWon reads an amount of won, given as a JSON number or as a JSON string of digits as in the inquiry page's example.
func readWon(value []byte) (*int64, error) {
	text := string(value)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	amount, err := strconv.ParseInt(text, 10, 64)
	if err != nil || amount <= 0 || amount > maxWon {
		return nil, fault.New("read amount", fault.Malformed, fault.BadField)
	}
	return &amount, nil
}
