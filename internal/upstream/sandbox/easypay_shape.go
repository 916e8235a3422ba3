package sandbox

// Dialect is one of the three spellings of EasyPay's answer.
type Dialect uint8

// The dialects. The API page's table and its example disagree, and its older edition has a third form.
const (
	// DialectA is the table of the API page: resCd, couponList, couponGid.
	DialectA Dialect = iota
	// DialectB is the older edition: res_cd, coupon_datas, coupon_id. It knows no percentage: such coupons appear only with the
	// discount of a given amount.
	DialectB
	// DialectC is the example of the API page: B's names with discount_type and max_discount_amt, without a rate.
	DialectC
	// DialectRotate takes A, B and C in turn.
	DialectRotate
)

// Numbers is how EasyPay writes numbers, and numbers that don't apply.
type Numbers uint8

// The ways to write numbers.
const (
	// NumbersPlain writes JSON numbers and leaves out what doesn't apply.
	NumbersPlain Numbers = iota
	// NumbersString writes numeric strings and leaves out what doesn't apply.
	NumbersString
	// NumbersEmpty writes numeric strings, and "" for what doesn't apply.
	NumbersEmpty
	// NumbersNull writes JSON numbers, and null for what doesn't apply.
	NumbersNull
	// NumbersMixed changes from number to number among all of these.
	NumbersMixed
)

// List is what becomes of EasyPay's coupon list.
type List uint8

// The forms of the list. All but the first mean the same: no coupon.
const (
	// ListFull is the list of the coupons that were found, which can be empty too.
	ListFull List = iota
	// ListEmpty is always [].
	ListEmpty
	// ListNull is null.
	ListNull
	// ListMissing leaves the list out.
	ListMissing
)

// charset is how EasyPay's answer is encoded, and what it says about that.
type charset uint8

const (
	charsetUTF8 charset = iota
	charsetCP949
	charsetCP949Undeclared
	charsetCP949AsUTF8
)

// The names of the forms, in the order of their values, as faults spell them.
var (
	dialectNames = [...]string{DialectA: "A", DialectB: "B", DialectC: "C", DialectRotate: "rotate"}
	numbersNames = [...]string{
		NumbersPlain: "plain", NumbersString: "string", NumbersEmpty: "empty", NumbersNull: "null", NumbersMixed: "mixed",
	}
	listNames    = [...]string{ListFull: "full", ListEmpty: "empty", ListNull: "null", ListMissing: "missing"}
	charsetNames = [...]string{
		charsetUTF8: "", charsetCP949: "declared", charsetCP949Undeclared: "undeclared", charsetCP949AsUTF8: "utf8",
	}
)

func (c charset) contentType() string {
	switch c {
	case charsetCP949:
		return "application/json; charset=euc-kr"
	case charsetCP949Undeclared:
		return "application/json"
	case charsetUTF8, charsetCP949AsUTF8:
	}
	return "application/json; charset=utf-8"
}

// shape is the form of an EasyPay answer. All shapes are valid; a client must read every one.
type shape struct {
	dialect Dialect
	numbers Numbers
	list    List
	charset charset
}

// apply changes one aspect of the shape.
func (s *shape) apply(a *armed) {
	switch a.Kind {
	case KindDialect:
		s.dialect = Dialect(a.set.n)
	case KindNumbers:
		s.numbers = Numbers(a.set.n)
	case KindList:
		s.list = List(a.set.n)
	case KindCP949:
		s.charset = charset(a.set.n)
	default: // The other kinds are no shapes.
	}
}
