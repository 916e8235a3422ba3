package deadletter

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/strict"
)

// mask is a JSON value without card data: each secret stands behind a word of its own, so that it can be put back.
type mask struct {
	text    jsontext.Value
	secrets []jsontext.Value
}

// secretNames are the members whose values are hidden whatever they are, in small letters without - and _.
var secretNames = []string{
	"cardno", "cardnumber", "pan", "accountno", "usertoken", "token", "mobile", "phone", "mobileno", "phoneno", "idno", "holder", "cardholder",
	"expiry", "expirydate", "expdate", "exp",
	"cvv", "cvv2", "cvc", "cvc2", "cvn", "cvn2", "cav2", "cid", "cardverificationvalue", "securitycode",
	"pin", "pinblock", "pinblk", "pindata", "track", "track1", "track2", "track3", "track1data", "track2data", "magstripe",
}

// errNotMaskable is a body in which card data can't be told from the rest.
var errNotMaskable = errors.New("it is not JSON in which card data can be found")

// hide returns the value without card data, indented. What is not strict JSON is errNotMaskable.
func hide(value []byte) (mask, error) {
	var whole jsontext.Value
	if strict.Read(value, &whole) != nil {
		return mask{}, errNotMaskable
	}
	var m mask
	out, err := rewrite(value, func(name string, literal jsontext.Value) (jsontext.Value, error) {
		if !isSecret(name, literal) {
			return literal, nil
		}
		m.secrets = append(m.secrets, bytes.Clone(literal))
		return jsontext.AppendQuote(nil, placeholder(len(m.secrets)))
	})
	if err != nil {
		return mask{}, err
	}
	m.text = out
	return m, nil
}

// restore puts the secrets back into a text that was edited.
func (m mask) restore(edited []byte) (jsontext.Value, error) {
	var whole jsontext.Value
	if strict.Read(edited, &whole) != nil {
		return nil, errNotMaskable
	}
	return rewrite(edited, func(_ string, literal jsontext.Value) (jsontext.Value, error) {
		for i, secret := range m.secrets {
			if string(literal) == strconv.Quote(placeholder(i+1)) {
				return secret, nil
			}
		}
		return literal, nil
	})
}

func placeholder(number int) string { return "[hidden " + strconv.Itoa(number) + "]" }

// rewrite copies a JSON value and lets change replace the values that are no object and no array, and those of secret members whatever they
// are. A member's name that looks like a card number is errNotMaskable.
func rewrite(value []byte, change func(name string, literal jsontext.Value) (jsontext.Value, error)) (jsontext.Value, error) {
	var out bytes.Buffer
	in, to := jsontext.NewDecoder(bytes.NewReader(value)), jsontext.NewEncoder(&out, jsontext.WithIndent("  "))
	for {
		kind := in.PeekKind()
		if kind == jsontext.KindInvalid {
			_, err := in.ReadToken()
			if errors.Is(err, io.EOF) {
				return bytes.TrimSpace(out.Bytes()), nil
			}
			return nil, errNotMaskable
		}
		parent, count := in.StackIndex(in.StackDepth())
		atName := parent == jsontext.KindBeginObject && count%2 == 0
		name := ""
		if parent == jsontext.KindBeginObject && !atName {
			name = in.StackPointer().LastToken()
		}
		nested := kind == jsontext.KindBeginObject || kind == jsontext.KindBeginArray
		end := kind == jsontext.KindEndObject || kind == jsontext.KindEndArray
		if err := copyNext(in, to, atName || end || nested && !isSecretName(name), name, change); err != nil {
			return nil, errNotMaskable
		}
	}
}

// copyNext copies the next token as it is, or the next value as it is changed.
func copyNext(
	in *jsontext.Decoder, out *jsontext.Encoder, asItIs bool, name string, change func(string, jsontext.Value) (jsontext.Value, error),
) error {
	if asItIs {
		token, err := in.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() == jsontext.KindString && holdsCard(token.String()) {
			return errNotMaskable
		}
		return out.WriteToken(token)
	}
	literal, err := in.ReadValue()
	if err != nil {
		return err
	}
	changed, err := change(name, literal)
	if err != nil {
		return err
	}
	return out.WriteValue(changed)
}

func isSecret(name string, literal jsontext.Value) bool {
	if isSecretName(name) {
		return true
	}
	text := string(literal)
	if literal.Kind() == jsontext.KindString {
		plain, err := jsontext.AppendUnquote(nil, literal)
		if err != nil {
			return true
		}
		text = string(plain)
	}
	return holdsCard(text)
}

func isSecretName(name string) bool {
	plain := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
	return slices.Contains(secretNames, plain)
}

// minCard is the length of the shortest card number (ISO/IEC 7812-1).
const minCard = 13

// holdsCard tells whether a text has so many digits in a row that they could be a card number, be there blanks or dashes between them. The
// check digit does not count: with one digit mistyped it is somebody's card number all the same.
func holdsCard(text string) bool {
	digits := 0
	for _, c := range []byte(text) {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c == ' ' || c == '-':
		default:
			digits = 0
		}
		if digits >= minCard {
			return true
		}
	}
	return false
}

// outline returns the shape of a text that can't be read: each letter and digit becomes an x, so that a missing brace can be seen and no
// card data can.
func outline(text []byte) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == unicode.ReplacementChar || r > unicode.MaxASCII:
			return 'x'
		case unicode.IsControl(r) && r != '\n' && r != '\t':
			return '?'
		default:
			return r
		}
	}, string(text))
}
