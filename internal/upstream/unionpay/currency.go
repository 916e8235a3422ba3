package unionpay

import (
	_ "embed"
	"strconv"
	"strings"
)

// currencyList is the complete list of active currencies and funds of ISO 4217 (list one as of 2026-01-01): numeric code, alphabetic
// code, exponent of the minor unit. The exponent is empty where the list says "N.A.", as for gold.
//
//go:embed currencies.csv
var currencyList string

// currency is one currency as results show it.
type currency struct {
	// code is the alphabetic code, or the three digits where it is not known.
	code string
	// exponent is how many digits the minor unit has, -1 where there is none or it is not known.
	exponent int
}

// currencies maps numeric codes of three digits to currencies.
type currencies map[string]currency

// readCurrencies reads the shipped list.
func readCurrencies() currencies {
	table := make(currencies)
	for line := range strings.Lines(currencyList) {
		numeric, rest, _ := strings.Cut(strings.TrimSpace(line), ",")
		code, digits, _ := strings.Cut(rest, ",")
		exponent, err := strconv.Atoi(digits)
		if err != nil {
			exponent = -1
		}
		table[numeric] = currency{code: code, exponent: exponent}
	}
	return table
}

// lookup returns the currency of a numeric code of one to three digits; a JSON number has lost its leading zeros. A code that is not
// on the list stands for itself and has no known exponent.
func (c currencies) lookup(numeric string) currency {
	numeric = strings.Repeat("0", max(0, 3-len(numeric))) + numeric
	if found, ok := c[numeric]; ok {
		return found
	}
	return currency{code: numeric, exponent: -1}
}
