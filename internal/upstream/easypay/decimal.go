package easypay

import (
	"math/bits"
	"strconv"
	"strings"
)

// Limits of the numbers that are read. 18 digits hold every amount of won there is, and a rate that a server kept in a double
// and printed with all its noise. They also keep the arithmetic below within 128 bits.
const (
	maxDigits   = 18
	maxScale    = 17
	maxExponent = 40
)

// decimal is an exact number of at least 0: units divided by 10 to the power of scale. Trailing zeros of the fraction are gone,
// so equal numbers have equal values. Absent is not zero: a number nobody told has told false.
type decimal struct {
	units uint64
	scale uint8
	told  bool
}

// hundred is 100 percent.
var hundred = decimal{units: 100, told: true}

// powers holds the powers of ten up to the largest divisor of a rate in percent.
var powers = [maxScale + 3]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// parseDecimal reads digits with an optional fraction and exponent, which a server that keeps its numbers in doubles prints
// for round amounts (1.0E7). Signs, other words and numbers beyond the limits are refused, for no field of a coupon can mean them.
func parseDecimal(text string) (decimal, bool) {
	mantissa, exponent, ok := cutExponent(text)
	if !ok {
		return decimal{}, false
	}
	whole, fraction, hasPoint := strings.Cut(mantissa, ".")
	if whole == "" || !all(whole, isDigit) || !all(fraction, isDigit) || hasPoint && fraction == "" {
		return decimal{}, false
	}
	fraction = strings.TrimRight(fraction, "0")
	whole = strings.TrimLeft(whole, "0")
	if len(whole)+len(fraction) > maxDigits {
		return decimal{}, false
	}
	units := appendDigits(appendDigits(0, whole), fraction)
	return scaled(units, len(fraction)-exponent)
}

// cutExponent splits off the exponent of a number, which is 0 where there is none.
func cutExponent(text string) (mantissa string, exponent int, ok bool) {
	i := strings.IndexAny(text, "eE")
	if i < 0 {
		return text, 0, true
	}
	exponent, err := strconv.Atoi(text[i+1:])
	return text[:i], exponent, err == nil && exponent >= -maxExponent && exponent <= maxExponent
}

// appendDigits writes digits behind those of units.
func appendDigits(units uint64, digits string) uint64 {
	for i := range len(digits) {
		units = units*10 + uint64(digits[i]-'0')
	}
	return units
}

// scaled returns units divided by 10 to the power of scale, which may be negative, without trailing zeros.
func scaled(units uint64, scale int) (decimal, bool) {
	if units == 0 {
		return decimal{told: true}, true
	}
	for ; scale > 0 && units%10 == 0; scale-- {
		units /= 10
	}
	for ; scale < 0; scale++ {
		if units >= powers[maxDigits-1] {
			return decimal{}, false
		}
		units *= 10
	}
	if scale > maxScale {
		return decimal{}, false
	}
	return decimal{units: units, scale: uint8(scale), told: true}, true
}

// won returns the number as a whole amount of won, and whether it is one.
func (d decimal) won() (int64, bool) {
	return int64(d.units), d.scale == 0 //nolint:gosec // 18 digits fit.
}

// compare returns -1, 0 or 1 as d is smaller than, equal to or larger than e.
func (d decimal) compare(e decimal) int {
	dHigh, dLow := bits.Mul64(d.units, powers[e.scale])
	eHigh, eLow := bits.Mul64(e.units, powers[d.scale])
	switch {
	case dHigh == eHigh && dLow == eLow:
		return 0
	case dHigh < eHigh || dHigh == eHigh && dLow < eLow:
		return -1
	default:
		return 1
	}
}

// String returns the number in digits, empty if nobody told it.
func (d decimal) String() string {
	if !d.told {
		return ""
	}
	var text [maxDigits + 6]byte
	at, units := len(text), d.units
	for place := 0; units > 0 || place <= int(d.scale); place++ {
		if place > 0 && place == int(d.scale) {
			at--
			text[at] = '.'
		}
		at--
		text[at] = '0' + byte(units%10)
		units /= 10
	}
	return string(text[at:])
}
