package unionpay

import "strconv"

// alphabet is the set of characters that a type of the interface page allows: a are letters, n digits, s special characters.
type alphabet uint8

const (
	typeN   alphabet = iota // Digits.
	typeAN                  // Letters and digits.
	typeNS                  // Digits and special characters.
	typeANS                 // Letters, digits and special characters.
)

// allows tells whether b belongs to the alphabet. Special characters are the printable ones of ASCII, the space among them: what
// the upstream's specification does not list can't be sent safely.
func (a alphabet) allows(b byte) bool {
	digit := b >= '0' && b <= '9'
	letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
	special := b >= ' ' && b <= '~' && !digit && !letter
	switch a {
	case typeN:
		return digit
	case typeAN:
		return digit || letter
	case typeNS:
		return digit || special
	case typeANS:
		return digit || letter || special
	default:
		return false
	}
}

// describe returns the alphabet in words.
func (a alphabet) describe() string {
	switch a {
	case typeN:
		return "digits"
	case typeAN:
		return "letters and digits"
	case typeNS:
		return "digits and special characters"
	default:
		return "printable ASCII characters"
	}
}

// rule is one row of the interface page's request table. The lengths there are read as maxima.
type rule struct {
	name      string
	alphabet  alphabet
	max       int
	mandatory bool
}

// The rows of the request table (API page "Cardholder Instant Discount Usage Query", request parameters). refNum and localTime
// are made here and need no rule.
var (
	ruleProcType      = rule{"procType", typeAN, 2, true}
	ruleSignCertID    = rule{"signCertId", typeAN, 3, true}
	ruleEncCertID     = rule{"encCertId", typeAN, 3, true}
	ruleInsCode       = rule{"insCode", typeANS, 11, true}
	rulePID           = rule{"pid", typeN, 10, true}
	ruleScenID        = rule{"scenId", typeANS, 4, false}
	ruleLocalTimeZone = rule{"localTimeZone", typeANS, 9, true}
	ruleResvFld       = rule{"resvFld", typeANS, 500, false}
	ruleUserToken     = rule{"userToken", typeAN, 50, true}
	ruleCardNo        = rule{"cardNo", typeN, 19, true}
	ruleMobile        = rule{"mobile", typeANS, 30, false}
)

// The members of the JOSE headers, whose types UnionPay's security page shows by example only.
var (
	ruleAppID   = rule{"UPI-APPID", typeANS, 64, true}
	ruleReqPath = rule{"UPI-REQPATH", typeANS, 256, true}
	ruleSignKid = rule{"the signing kid", typeANS, 64, true}
	ruleEncKid  = rule{"the encryption kid", typeANS, 64, true}
)

// optional returns the rule for a field that may be empty here.
func (r rule) optional() rule {
	r.mandatory = false
	return r
}

// allows tells whether value keeps to the rule.
func (r rule) allows(value string) bool {
	if value == "" {
		return !r.mandatory
	}
	if len(value) > r.max {
		return false
	}
	for i := range len(value) {
		if !r.alphabet.allows(value[i]) {
			return false
		}
	}
	return true
}

// String returns what the rule asks for.
func (r rule) String() string {
	least := "0"
	if r.mandatory {
		least = "1"
	}
	return least + " to " + strconv.Itoa(r.max) + " " + r.alphabet.describe()
}
