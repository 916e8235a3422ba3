package easypay

import "strings"

// form is a set of spellings that were seen in one response.
type form uint8

const (
	// formTable is the spelling of the current page's table: resCd, couponList, couponGid.
	formTable form = 1 << iota
	// formOlder is the spelling of the older edition: res_cd, coupon_datas, coupon_id.
	formOlder
	// formExample is what the current page's example adds to the older spelling: discount_type and max_discount_amt.
	formExample
)

// formOf returns the spelling that a name we know belongs to.
func formOf(name string) form {
	switch {
	case name == "discount_type", name == "max_discount_amt":
		return formExample
	case strings.IndexByte(name, '_') < 0:
		return formTable
	default:
		return formOlder
	}
}

// dialect names the spelling of a response:
//
//   - A is the current table's names and no others;
//   - B is the older edition's names and no others;
//   - C is the hybrid: the older names together with any that are not of that edition, as in the current page's example.
//
// Members that are not used do not count. A response without coupons shows the names of its envelope only, so it is A or B: an
// empty C can't be told from an empty B.
func (f form) dialect() string {
	switch f {
	case formTable:
		return "A"
	case formOlder:
		return "B"
	default:
		return "C"
	}
}
