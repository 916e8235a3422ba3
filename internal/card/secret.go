// Package card owns everything about card data: it seals and unseals it, masks it and takes its fingerprint. No value of this
// room can be printed, logged or marshalled in the clear, and it must never log, store or send anything itself.
package card

import (
	"fmt"
	"io"

	"discountquery.example/worker/internal/fault"
)

// Secret is a text that must never be printed: a user token or a mobile. Its content lies behind a function, because fmt reads
// unexported fields by reflection and would print a string there even if the type has a String method.
type Secret struct {
	text func() string
}

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret {
	return Secret{text: func() string { return text }}
}

// Reveal returns the content, for the wire to the upstream and nothing else.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}

// Empty tells whether there is no content.
func (s Secret) Empty() bool { return s.Reveal() == "" }

// Format prints a mask for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// String returns a mask.
func (Secret) String() string { return "[secret]" }

// MarshalText returns a mask.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Number is a card number with 13 to 19 digits and a right check digit. It prints as a mask with its last four digits.
type Number struct {
	digits func() string
}

// ParseNumber returns the number in text, which may hold no spaces. A wrong length, character or check digit (ISO/IEC 7812-1)
// is Malformed with the code BadCard; the error does not repeat the text.
func ParseNumber(text string) (Number, error) {
	if len(text) < 13 || len(text) > 19 || !luhn(text) {
		return Number{}, fault.New("read card number", fault.Malformed, fault.BadCard)
	}
	return Number{digits: func() string { return text }}, nil
}

// Reveal returns the digits, for the wire to the upstream and for the fingerprint and nothing else.
func (n Number) Reveal() string {
	if n.digits == nil {
		return ""
	}
	return n.digits()
}

// LastFour returns the last four digits, the only part of a card number that events may hold.
func (n Number) LastFour() string {
	digits := n.Reveal()
	if len(digits) < 4 {
		return ""
	}
	return digits[len(digits)-4:]
}

// Format prints the mask for every verb.
func (n Number) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, n.String()) }

// String returns the mask.
func (n Number) String() string { return "****" + n.LastFour() }

// MarshalText returns the mask.
func (n Number) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// luhn tells whether text is all digits and its check digit is right.
func luhn(text string) bool {
	sum := 0
	for i := range len(text) {
		digit := int(text[len(text)-1-i] - '0')
		if digit < 0 || digit > 9 {
			return false
		}
		if i%2 == 1 {
			digit *= 2
			if digit > 9 {
				digit -= 9
			}
		}
		sum += digit
	}
	return sum%10 == 0
}

// Details is the card data of one UnionPay query, in the clear. It lives in memory only, from unsealing to the call.
type Details struct {
	// UserToken is the cardholder's token at UnionPay, up to 50 letters and digits.
	UserToken Secret
	// Number is the card number.
	Number Number
	// Mobile is the optional mobile number, up to 30 characters.
	Mobile Secret
}
