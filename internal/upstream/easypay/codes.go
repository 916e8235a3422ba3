package easypay

import (
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// codeSuccess is the one response code that the coupon inquiry page documents. Every other code is a failure.
const codeSuccess = "0000"

// defaultClasses returns the classes of the response codes that KICC has published. All others are broken.
//
// The card codes are issuer declines of payments, which an inquiry should never meet. Should one come all the same, it is a
// lasting answer about that card: no operator can repair it and no replay can help, so it is declined rather than broken.
// VTIM and VT00 tell of a time-out behind KICC and ask for another attempt.
func defaultClasses() map[string]query.Class {
	return map[string]query.Class{
		codeSuccess: query.ClassOK,
		"8521":      query.ClassDeclined, // Limit exceeded.
		"8035":      query.ClassDeclined, // Insufficient funds.
		"8314":      query.ClassDeclined, // Invalid expiry date.
		"8315":      query.ClassDeclined, // Invalid expiry date.
		"8316":      query.ClassDeclined, // Invalid expiry date.
		"8311":      query.ClassDeclined, // Wrong card password.
		"8350":      query.ClassDeclined, // Lost or stolen card.
		"8373":      query.ClassDeclined, // Contact the issuer.
		"8527":      query.ClassDeclined, // Insufficient points.
		"VTIM":      query.ClassTransient,
		"VT00":      query.ClassTransient,
	}
}

// isCode tells whether text can be a response code: 1 to 8 letters and digits. The page says 4; the bound leaves room for
// longer ones and none for a card number.
func isCode(text string) bool { return len(text) >= 1 && len(text) <= 8 && isAlphanumeric(text) }

// codeFault returns the fault of a response whose code is of a class that holds no answer.
func codeFault(class query.Class, code string) error {
	kind, detail := fault.Rejected, fault.UpstreamBroken
	switch class {
	case query.ClassTransient:
		kind, detail = fault.Unavailable, fault.UpstreamBusy
	case query.ClassConfig:
		kind, detail = fault.Unauthorized, fault.UpstreamConfig
	}
	err := responseFault(kind, detail)
	err.Upstream = code
	return err
}
