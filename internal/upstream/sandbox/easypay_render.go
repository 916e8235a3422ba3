package sandbox

import (
	"encoding/json"
	"strconv"
)

// names are the members of an EasyPay answer in one dialect. An empty name doesn't exist in it.
type names struct {
	code, message, list                     string
	card, cardName, id, exhaustion, minimum string
	kind, limit, rate, discount             string
}

// dialects holds the names of each dialect: A from the table of the API page, C from its example, B from its older edition.
var dialects = [...]names{
	DialectA: {
		code: "resCd", message: "resMsg", list: "couponList",
		card: "couponJoinCd", cardName: "couponJoinNm", id: "couponGid", exhaustion: "calcAuthLimitRate", minimum: "standardAmount",
		kind: "discountType", limit: "maxDiscountAmount", rate: "couponRate", discount: "couponAmount",
	},
	DialectB: {
		code: "res_cd", message: "res_msg", list: "coupon_datas",
		card: "card_cd", cardName: "card_nm", id: "coupon_id", exhaustion: "calc_auth_limit_rate", minimum: "standard_amt",
		discount: "discount_amt",
	},
	DialectC: {
		code: "res_cd", message: "res_msg", list: "coupon_datas",
		card: "card_cd", cardName: "card_nm", id: "coupon_id", exhaustion: "calc_auth_limit_rate", minimum: "standard_amt",
		kind: "discount_type", limit: "max_discount_amt", discount: "discount_amt",
	},
}

// renderer writes an EasyPay answer. It appends by hand, since this is the hot path of load tests.
type renderer struct {
	buf       []byte
	shape     shape
	badNumber bool
	count     int
}

// response writes the whole answer. A code other than success leaves the list out, as the legacy edition allows.
func (r *renderer) response(coupons []*listed, q *inquiry, code, message string) {
	n := &dialects[r.shape.dialect]
	r.buf = append(r.buf, '{')
	r.text(n.code, code)
	r.text(n.message, message)
	if code == EasyPayOK {
		r.list(n, coupons, q)
	}
	r.close('}')
}

func (r *renderer) list(n *names, coupons []*listed, q *inquiry) {
	switch r.shape.list {
	case ListMissing:
		return
	case ListNull:
		r.raw(n.list, "null")
		return
	case ListEmpty:
		coupons = nil
	case ListFull:
	}
	r.name(n.list)
	r.buf = append(r.buf, '[')
	for _, c := range coupons {
		if r.shape.dialect == DialectB && c.Type == Percentage && q.amount <= 0 {
			continue // This dialect can't say a percentage.
		}
		r.coupon(n, c, q.amount)
	}
	r.close(']')
	r.buf = append(r.buf, ',')
}

func (r *renderer) coupon(n *names, c *listed, amount int64) {
	r.buf = append(r.buf, '{')
	r.text(n.card, c.CardCd)
	r.raw(n.cardName, c.quotedName)
	r.text(n.id, c.ID)
	if r.badNumber {
		r.raw(n.exhaustion, "1e999")
		r.badNumber = false
	} else {
		r.number(n.exhaustion, c.exhaustion)
	}
	r.number(n.minimum, strconv.FormatInt(c.Minimum, 10))
	r.text(n.kind, string(c.Type))
	percentage := c.Type == Percentage
	r.optional(n.limit, strconv.FormatInt(c.Cap, 10), percentage && c.Cap > 0)
	r.optional(n.rate, c.rate, percentage)
	r.optional(n.discount, strconv.FormatInt(c.Discount(amount), 10), !percentage || amount > 0)
	r.close('}')
	r.buf = append(r.buf, ',')
}

// number writes a number in the shape's way.
func (r *renderer) number(name, literal string) {
	quoted := r.shape.numbers == NumbersString || r.shape.numbers == NumbersEmpty
	if r.shape.numbers == NumbersMixed {
		r.count++
		quoted = r.count%2 == 0
	}
	if quoted {
		literal = `"` + literal + `"`
	}
	r.raw(name, literal)
}

// optional writes a number that applies, or in the shape's way that it doesn't apply. The example of the API page (dialect C)
// writes null for that even where all else is plain.
func (r *renderer) optional(name, literal string, applies bool) {
	if name == "" {
		return
	}
	if applies {
		r.number(name, literal)
		return
	}
	form := r.shape.numbers
	if form == NumbersMixed {
		r.count++
		form = [...]Numbers{NumbersPlain, NumbersEmpty, NumbersNull}[r.count%3]
	}
	switch {
	case form == NumbersEmpty:
		r.raw(name, `""`)
	case form == NumbersNull || r.shape.dialect == DialectC:
		r.raw(name, "null")
	}
}

// text writes a string that needs no escapes.
func (r *renderer) text(name, value string) {
	if name == "" {
		return
	}
	r.name(name)
	r.buf = append(append(append(r.buf, '"'), value...), '"', ',')
}

// raw writes a member whose value is JSON already.
func (r *renderer) raw(name, literal string) {
	r.name(name)
	r.buf = append(append(r.buf, literal...), ',')
}

func (r *renderer) name(name string) {
	r.buf = append(append(append(r.buf, '"'), name...), '"', ':')
}

// close ends an object or array and takes back the comma after its last member.
func (r *renderer) close(mark byte) {
	if last := len(r.buf) - 1; r.buf[last] == ',' {
		r.buf = r.buf[:last]
	}
	r.buf = append(r.buf, mark)
}

// quote writes text as a JSON string.
func quote(text string) string {
	out, err := json.Marshal(text)
	if err != nil {
		return `""` // Can't happen: any string can be marshalled.
	}
	return string(out)
}
