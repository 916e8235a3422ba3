package easypay

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/strict"
)

const (
	// couponSize is about how many bytes a coupon takes in every dialect, which tells how many a list holds.
	couponSize = 180
	// maxGuess bounds what a long response of something else can claim by that.
	maxGuess = 64
	// maxCoupons bounds the list of a response.
	maxCoupons = 1000
	// maxOffers bounds those of an answer: far more than card companies have, and no more than one result event can carry.
	maxOffers = 250
)

// errUnreadable is every way in which a response is not the JSON the interface promises. What is wrong with it stays unsaid,
// because the text of a JSON error can quote the response.
var errUnreadable = errors.New("easypay: unreadable response")

// field is one scalar of a response as it was spelled. Null, the empty string and a missing member are all its zero value:
// KICC documents its numbers as numbers, and sends "51004", "" and null in their place.
type field struct {
	text string
	kind jsontext.Kind
}

// store sets the field unless it is told already, and tells whether the two agree. A member can come under two names.
func (f *field) store(value field) bool {
	if *f == (field{}) {
		*f = value
	}
	return value == (field{}) || *f == value
}

// coupon is one item of the list, unread.
type coupon struct {
	card, name, id, exhaustion, minimum, kind, limit, rate, amount field
	// broken tells that the item says two things about one member.
	broken bool
}

// slot returns the place of a member by any of its names, or nil for a member we do not use. The names are those of the page's
// current table, then those of its example and of the older edition.
func (c *coupon) slot(name string) *field {
	switch name {
	case "couponJoinCd", "card_cd":
		return &c.card
	case "couponJoinNm", "card_nm":
		return &c.name
	case "couponGid", "coupon_id":
		return &c.id
	case "calcAuthLimitRate", "calc_auth_limit_rate":
		return &c.exhaustion
	case "standardAmount", "standard_amt":
		return &c.minimum
	case "discountType", "discount_type":
		return &c.kind
	case "maxDiscountAmount", "max_discount_amt":
		return &c.limit
	case "couponRate":
		return &c.rate
	case "couponAmount", "discount_amt":
		return &c.amount
	}
	return nil
}

// message is a whole response: the envelope, and its items as they were spelled. Reading it checks the syntax of all and the
// meaning of nothing, so that a failure code can be told whatever surrounds it.
type message struct {
	// text is the body. All fields are parts of it, which spares a copy of each.
	text       string
	code, note field
	coupons    []coupon
	// listed tells that a list was there, broken that one was no array or that two disagree.
	listed, broken bool
	forms          form
}

// parseMessage reads a body in UTF-8. Invalid JSON or UTF-8, a name that comes twice, trailing bytes and deep nesting are
// errUnreadable.
func parseMessage(body []byte) (*message, error) {
	m := &message{text: string(body)}
	if err := strict.Read(body, m); err != nil {
		return nil, errUnreadable
	}
	return m, nil
}

// UnmarshalJSONFrom reads the envelope, for strict.Read.
func (m *message) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return m.members(dec, func(name string) error {
		switch name {
		case "resCd", "res_cd":
			return m.unanimous(dec, name, &m.code)
		case "resMsg", "res_msg":
			return m.unanimous(dec, name, &m.note)
		case "couponList", "coupon_datas":
			m.forms |= formOf(name)
			return m.list(dec)
		}
		_, err := m.value(dec)
		return err
	})
}

// members reads one object, calling each for the value of every member.
func (m *message) members(dec *jsontext.Decoder, each func(name string) error) error {
	if dec.PeekKind() != '{' {
		return errUnreadable
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		name, err := m.value(dec)
		if err != nil {
			return err
		}
		if err := each(name.text); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// unanimous reads a member of the envelope, which must not say two things.
func (m *message) unanimous(dec *jsontext.Decoder, name string, slot *field) error {
	value, err := m.value(dec)
	if err != nil {
		return err
	}
	m.forms |= formOf(name)
	if !slot.store(value) {
		return errUnreadable
	}
	return nil
}

// list reads a list of coupons, which null or an empty string may stand for. What is no list is remembered as broken.
func (m *message) list(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '[' {
		value, err := m.value(dec)
		m.broken = m.broken || value != (field{})
		return err
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	coupons := make([]coupon, 0, min(len(m.text)/couponSize+1, maxGuess))
	for dec.PeekKind() != ']' {
		if len(coupons) == maxCoupons {
			return errUnreadable
		}
		coupons = append(coupons, coupon{})
		if err := m.coupon(dec, &coupons[len(coupons)-1]); err != nil {
			return err
		}
	}
	m.broken = m.broken || m.listed && !slices.Equal(m.coupons, coupons)
	m.coupons, m.listed = coupons, true
	_, err := dec.ReadToken()
	return err
}

// coupon reads one item of a list. What is no object leaves a coupon without an id, which is refused with the others.
func (m *message) coupon(dec *jsontext.Decoder, c *coupon) error {
	if dec.PeekKind() != '{' {
		_, err := m.value(dec)
		return err
	}
	return m.members(dec, func(name string) error {
		value, err := m.value(dec)
		if err != nil {
			return err
		}
		if slot := c.slot(name); slot != nil {
			m.forms |= formOf(name)
			c.broken = !slot.store(value) || c.broken
		}
		return nil
	})
}

// value reads one value, or one name of a member.
func (m *message) value(dec *jsontext.Decoder) (field, error) {
	raw, err := dec.ReadValue()
	if err != nil {
		return field{}, err
	}
	end := int(dec.InputOffset())
	spelled := m.text[end-len(raw) : end]
	switch kind := raw.Kind(); kind {
	case 'n':
		return field{}, nil
	case '"':
		return unquoted(spelled)
	case '{', '[':
		return field{kind: kind}, nil
	default:
		return field{text: spelled, kind: kind}, nil
	}
}

// unquoted returns the content of a string. Only one with escapes has to be copied.
func unquoted(spelled string) (field, error) {
	if spelled == `""` {
		return field{}, nil
	}
	if strings.IndexByte(spelled, '\\') < 0 {
		return field{text: spelled[1 : len(spelled)-1], kind: '"'}, nil
	}
	text, err := jsontext.AppendUnquote(nil, spelled)
	return field{text: string(text), kind: '"'}, err
}
