package unionpay

import (
	"strconv"
	"strings"

	"discountquery.example/worker/internal/query"
)

const (
	// maxAmountDigits is the most digits an amount may have (type ns, length 15).
	maxAmountDigits = 15
	// maxCountDigits is the most digits a count is read with. The page says 10; what fits an int64 is taken.
	maxCountDigits = 18
)

// usage returns what the reply says about the use of the offer. It reports false if a mandatory field is missing or a field is not
// of its type. An absent period stays absent: the offer has no limit there, which is not the same as not used.
func (p *Provider) usage(r *reply) (*query.Usage, bool) {
	if r.TotalAmt == "" || r.TotalCnt == "" || !isDigits(string(r.Currency)) || len(r.Currency) > 3 {
		return nil, false
	}
	unit := p.currencies.lookup(string(r.Currency))
	day, okDay := p.used(r.DayAmt, r.DayCnt, unit)
	month, okMonth := p.used(r.MonthAmt, r.MonthCnt, unit)
	total, okTotal := p.used(r.TotalAmt, r.TotalCnt, unit)
	if !okDay || !okMonth || !okTotal {
		return nil, false
	}
	return &query.Usage{Day: day, Month: month, Total: total, Currency: unit.code}, true
}

// used returns one period, nil if neither its amount nor its count came.
func (p *Provider) used(amount, count number, unit currency) (*query.Used, bool) {
	if amount == "" && count == "" {
		return nil, true
	}
	var used query.Used
	if amount != "" {
		if !isAmount(string(amount)) {
			return nil, false
		}
		used.Amount = &query.Money{Minor: p.minor(string(amount), unit), Currency: unit.code, Raw: string(amount)}
	}
	if count != "" {
		if !isDigits(string(count)) || len(count) > maxCountDigits {
			return nil, false
		}
		value, err := strconv.ParseInt(string(count), 10, 64)
		if err != nil {
			return nil, false
		}
		used.Count = &value
	}
	return &used, true
}

// isAmount tells whether text is of the type ns: digits and special characters, at least one digit and at most 15.
func isAmount(text string) bool {
	digits := 0
	for i := range len(text) {
		if !typeNS.allows(text[i]) {
			return false
		}
		if typeN.allows(text[i]) {
			digits++
		}
	}
	return digits > 0 && digits <= maxAmountDigits
}

// minor returns the amount in minor units of its currency, nil where that can't be told exactly.
func (p *Provider) minor(amount string, unit currency) *int64 {
	switch {
	case unit.exponent < 0:
		return nil
	case p.options.AmountUnit == UnitMinor:
		return shifted(amount, 0)
	default:
		return shifted(amount, unit.exponent)
	}
}

// shifted returns text, an exact decimal with an optional sign, times ten to the power of exponent. It returns nil for text that is
// no such decimal (one with thousands separators, for example), that has more fraction digits than exponent other than zeros at
// its end (5000.00 won are exactly 5000 won), or that does not fit an int64.
func shifted(text string, exponent int) *int64 {
	sign := ""
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, text = text[:1], text[1:]
	}
	whole, fraction, point := strings.Cut(text, ".")
	if !isDigits(whole) || point && !isDigits(fraction) {
		return nil
	}
	if fraction = strings.TrimRight(fraction, "0"); len(fraction) > exponent {
		return nil
	}
	value, err := strconv.ParseInt(sign+whole+fraction+strings.Repeat("0", exponent-len(fraction)), 10, 64)
	if err != nil {
		return nil
	}
	return &value
}
