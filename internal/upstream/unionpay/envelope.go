package unionpay

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/upstream"
)

// localTimeLayout is yyyyMMddHHmmss.
const localTimeLayout = "20060102150405"

// envelope is the body of a request (API page "Cardholder Instant Discount Usage Query", request parameters). Every value is a
// string, because references and card numbers would lose leading zeros otherwise.
type envelope struct {
	ProcType      string         `json:"procType"`
	SignCertID    string         `json:"signCertId"`
	EncCertID     string         `json:"encCertId"`
	InsCode       string         `json:"insCode"`
	PID           string         `json:"pid"`
	ScenID        string         `json:"scenId,omitempty"`
	RefNum        string         `json:"refNum"`
	LocalTime     string         `json:"localTime"`
	LocalTimeZone string         `json:"localTimeZone"`
	ResvFld       string         `json:"resvFld,omitempty"`
	Data          jsontext.Value `json:"data"`
}

// cardData is the content of data, in the clear. It must not leave envelope.go but encrypted, unless encryption is off.
type cardData struct {
	UserToken string `json:"userToken"`
	CardNo    string `json:"cardNo"`
	Mobile    string `json:"mobile,omitempty"`
}

// asked is a question whose fields keep to their rules.
type asked struct {
	pid    string
	scenID string
	card   *card.Details
}

// ask checks the question. The query's own pid and scenId go before the configured ones.
func (p *Provider) ask(question upstream.Question) (asked, error) {
	if question.Query == nil || question.Query.UnionPay == nil || question.Card == nil {
		return asked{}, rejected("data")
	}
	a := asked{
		pid:    orDefault(question.Query.UnionPay.PID, p.options.PID),
		scenID: orDefault(question.Query.UnionPay.ScenID, p.options.ScenID),
		card:   question.Card,
	}
	switch {
	case !rulePID.allows(a.pid):
		return asked{}, rejected(rulePID.name)
	case !ruleScenID.allows(a.scenID):
		return asked{}, rejected(ruleScenID.name)
	case !ruleUserToken.allows(a.card.UserToken.Reveal()):
		return asked{}, rejected(ruleUserToken.name)
	case !ruleCardNo.allows(a.card.Number.Reveal()):
		return asked{}, rejected(ruleCardNo.name)
	case !ruleMobile.allows(a.card.Mobile.Reveal()):
		return asked{}, rejected(ruleMobile.name)
	default:
		return a, nil
	}
}

// rejected returns the fault of a field that breaks its rule. The field's value is not told.
func rejected(field string) error {
	return fault.New("unionpay: check "+field, fault.Rejected, fault.BadField)
}

// envelope returns the bytes of the request's body. They are written once: what is signed is what is sent.
func (p *Provider) envelope(now time.Time, refNum string, a asked) ([]byte, error) {
	data, err := p.data(a.card)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{
		ProcType: p.options.ProcType, SignCertID: p.options.SignCertID, EncCertID: p.options.EncCertID,
		InsCode: p.options.InsCode, PID: a.pid, ScenID: a.scenID, RefNum: refNum,
		LocalTime: now.In(p.zone).Format(localTimeLayout), LocalTimeZone: p.options.TimeZone,
		ResvFld: p.options.ResvFld, Data: data,
	})
}

// data returns the value of the field data: the compact JWE of the card data as a JSON string, or the plain object where
// encryption is off.
func (p *Provider) data(details *card.Details) (jsontext.Value, error) {
	plain, err := json.Marshal(cardData{
		UserToken: details.UserToken.Reveal(), CardNo: details.Number.Reveal(), Mobile: details.Mobile.Reveal(),
	})
	if err != nil || p.sealer == nil {
		return plain, err
	}
	defer clear(plain)
	sealed, err := p.sealer.seal(plain)
	if err != nil {
		return nil, err
	}
	return jsontext.AppendQuote(nil, sealed)
}
