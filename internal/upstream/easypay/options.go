package easypay

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"discountquery.example/worker/internal/query"
)

// Values of Options.Variant: the two editions of the coupon inquiry that KICC has published.
const (
	// VariantCurrent is POST /api/etc/inquiryCoupon with a JSON body in UTF-8.
	VariantCurrent = "current"
	// VariantLegacy is POST /webpay/common/InquiryCouponAction.do?mall_id=... without a body, in EUC-KR. It knows the merchant
	// only, so a card company is filtered here and a cardBin can't be asked.
	VariantLegacy = "legacy"
)

// Values of Options.AmountAs. The page's table calls the amount a Number, its example sends a string.
const (
	// AmountNumber sends the amount as a JSON number.
	AmountNumber = "number"
	// AmountString sends the amount as a JSON string of digits.
	AmountString = "string"
)

// Values of Options.Charset: how the bytes of a response are read.
const (
	// CharsetAuto reads UTF-8 where the bytes are valid UTF-8, and CP949 where they are not.
	CharsetAuto = "auto"
	// CharsetUTF8 reads UTF-8 only.
	CharsetUTF8 = "utf-8"
	// CharsetCP949 reads CP949, the superset of EUC-KR that Korean systems mean by that name. A byte order mark still means UTF-8.
	CharsetCP949 = "cp949"
)

// Defaults of Options.
const (
	currentPath        = "/api/etc/inquiryCoupon"
	legacyPath         = "/webpay/common/InquiryCouponAction.do"
	defaultNearlySpent = "95"
)

// Options says how to talk to EasyPay. Every field but BaseURL has a usable zero value.
type Options struct {
	// BaseURL is the scheme and host of the API, for example https://pgapi.easypay.co.kr. The legacy variant has a host of its own.
	BaseURL string
	// Variant is VariantCurrent (the default) or VariantLegacy.
	Variant string
	// Path replaces the variant's path. Empty means the published one.
	Path string
	// MallID is the merchant id of queries that name none. Empty means that each query must name its own.
	MallID string
	// AmountAs is AmountNumber (the default) or AmountString.
	AmountAs string
	// Charset is CharsetAuto (the default), CharsetUTF8 or CharsetCP949.
	Charset string
	// RequireCard refuses queries with neither cardCd nor cardBin. The page does not say what such a query means.
	RequireCard bool
	// ZeroCapIsNoCap reads a cap of 0 won as no cap. Without it a percentage coupon with such a cap stays unjudged.
	ZeroCapIsNoCap bool
	// NearlyExhausted is the exhaustion rate in percent, a decimal, above which an offer is marked. Empty means 95.
	NearlyExhausted string
	// Codes overrides the classes of response codes. The success code 0000 can't be overridden.
	Codes map[string]query.Class
}

// endpoint returns the address of the inquiry, without a query string. Its errors name the option only.
func (o Options) endpoint() (string, error) {
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != "http") {
		return "", errors.New("easypay options: BaseURL must be an absolute http or https address")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return "", errors.New("easypay options: BaseURL must have no user, query or fragment")
	}
	path := cmp.Or(o.Path, currentPath)
	if o.Path == "" && o.Variant == VariantLegacy {
		path = legacyPath
	}
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?# ") {
		return "", errors.New("easypay options: Path must begin with / and have no query or fragment")
	}
	address := strings.TrimRight(o.BaseURL, "/") + path
	if _, err := url.Parse(address); err != nil {
		return "", errors.New("easypay options: Path is no path of an address")
	}
	return address, nil
}

// check tells what is wrong with the options that are words.
func (o Options) check() error {
	switch {
	case !slices.Contains([]string{"", VariantCurrent, VariantLegacy}, o.Variant):
		return errors.New("easypay options: Variant must be current or legacy")
	case !slices.Contains([]string{"", AmountNumber, AmountString}, o.AmountAs):
		return errors.New("easypay options: AmountAs must be number or string")
	case !slices.Contains([]string{"", CharsetAuto, CharsetUTF8, CharsetCP949}, o.Charset):
		return errors.New("easypay options: Charset must be auto, utf-8 or cp949")
	case o.MallID != "" && !isMallID(o.MallID):
		return errors.New("easypay options: MallID must be 8 letters and digits")
	}
	return nil
}

// classes returns the class of each known response code.
func (o Options) classes() (map[string]query.Class, error) {
	classes := defaultClasses()
	for code, class := range o.Codes {
		switch {
		case !isCode(code):
			return nil, errors.New("easypay options: Codes has a code that is not 1 to 8 letters and digits")
		case code == codeSuccess:
			return nil, errors.New("easypay options: Codes can't override the success code 0000")
		case !isClass(class):
			return nil, fmt.Errorf("easypay options: Codes gives %s an unknown class", code)
		}
		classes[code] = class
	}
	return classes, nil
}

func isClass(class query.Class) bool {
	switch class {
	case query.ClassOK, query.ClassEmpty, query.ClassDeclined, query.ClassTransient, query.ClassBroken, query.ClassConfig:
		return true
	}
	return false
}
