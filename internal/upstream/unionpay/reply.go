package unionpay

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep a response may be nested. The interface's own has one level.
const maxDepth = 16

// reply is the body of a response (API page "Cardholder Instant Discount Usage Query", synchronous response parameters). Members
// that are not listed are ignored, because UnionPay may add some at any time.
type reply struct {
	ProcType  string   `json:"procType"`
	InsCode   string   `json:"insCode"`
	DayAmt    number   `json:"dayAmt"`
	DayCnt    number   `json:"dayCnt"`
	MonthAmt  number   `json:"monthAmt"`
	MonthCnt  number   `json:"monthCnt"`
	TotalAmt  number   `json:"ttlAmt"`
	TotalCnt  number   `json:"ttlCnt"`
	Currency  number   `json:"discCurr"`
	RefNum    number   `json:"refNum"`
	RespCode  string   `json:"respCode"`
	RespMsg   string   `json:"respMsg"`
	Message   *message `json:"MsgResponse"`
	LowerCase *message `json:"msgResponse"`
}

// message is how the gateway itself answers when it refuses a request. Its name comes in two spellings.
type message struct {
	Code string `json:"responseCode"`
}

// gatewayCode returns the code of a body that holds nothing but the gateway's message, and "" for any other.
func (r *reply) gatewayCode() string {
	if r.RespCode != "" {
		return ""
	}
	for _, m := range []*message{r.Message, r.LowerCase} {
		if m != nil {
			return m.Code
		}
	}
	return ""
}

// readReply reads a body. It reports only whether that worked: the errors of the decoder repeat what they read.
func readReply(body []byte) (*reply, bool) {
	r := new(reply)
	if jsontext.Value(body).Kind() != '{' || !shallow(body) || json.Unmarshal(body, r) != nil {
		return nil, false
	}
	return r, true
}

// shallow tells whether data nests no deeper than maxDepth. It does not judge anything else: the decoder that comes after it refuses
// duplicate names, invalid UTF-8 and bytes behind the value.
func shallow(data []byte) bool {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(data))
	for {
		if _, err := decoder.ReadToken(); err != nil {
			return true
		}
		if decoder.StackDepth() > maxDepth {
			return false
		}
	}
}

// number is the text of a numeric field. Its page does not tell whether such fields are JSON numbers or strings, so both are taken;
// null and "" are absent.
type number string

// maxNumber is the longest numeric field that is read, in characters: 15 digits, a sign and a point, with room to spare.
const maxNumber = 20

// errNotNumeric is never printed: readReply drops it.
var errNotNumeric = errors.New("not a numeric field")

// UnmarshalJSONFrom reads a string, a number or null and keeps the characters as they are. An exponent is refused where the field
// is used, because e is neither a digit nor a special character.
func (t *number) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	value, err := decoder.ReadValue()
	if err != nil {
		return err
	}
	switch value.Kind() {
	case 'n':
		*t = ""
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil || len(text) > maxNumber {
			return errNotNumeric
		}
		*t = number(text)
	case '0':
		if len(value) > maxNumber {
			return errNotNumeric
		}
		*t = number(value)
	default:
		return errNotNumeric
	}
	return nil
}
