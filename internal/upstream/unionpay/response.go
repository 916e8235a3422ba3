package unionpay

import (
	"errors"
	"maps"
	"net/http"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

const (
	// dialect names the form of the answers in results.
	dialect = "unionpay"
	// gatewayRefusal is the code with which the gateway refuses credentials, signature or timestamp (UnionPay's FAQ on security).
	gatewayRefusal = "E0"
	// maxCode is the longest response code that is passed on. It is shorter than any digits worth hiding.
	maxCode = 7
)

const (
	opRead   = "unionpay: read response"
	opVerify = "unionpay: verify response"
)

// classes returns the table of response codes: the defaults under the overrides. The page publishes no codes. "00" is the success of
// the neighbouring interfaces; every other code is broken until somebody who knows it says otherwise.
func classes(overrides map[string]query.Class) map[string]query.Class {
	table := map[string]query.Class{"00": query.ClassOK}
	maps.Copy(table, overrides)
	return table
}

// read turns the response to the request with the reference refNum into an answer.
func (p *Provider) read(refNum string, r upstream.Response) (query.Answer, error) {
	if r.Status != http.StatusOK {
		return query.Answer{}, statusFault(r)
	}
	if what := p.verifier.check(r.Header, r.Body, r.At); what != noProblem {
		// The gateway's refusal comes unsigned. It is no answer, so that a forged one gains nothing that a dropped connection
		// would not.
		if what == noSignature && gatewayCode(r.Body) == gatewayRefusal {
			return query.Answer{}, failure(r, opRead, fault.Unauthorized, fault.GatewayRefused, gatewayRefusal)
		}
		return query.Answer{}, failure(r, opVerify+": "+string(what), fault.Unavailable, fault.BadSignature, "")
	}
	body, ok := readReply(r.Body)
	switch {
	case !ok:
		return query.Answer{}, failure(r, opRead, fault.Unavailable, fault.BadResponse, "")
	case body.gatewayCode() == gatewayRefusal:
		return query.Answer{}, failure(r, opRead, fault.Unauthorized, fault.GatewayRefused, gatewayRefusal)
	case body.RespCode == "":
		return query.Answer{}, failure(r, opRead, fault.Unavailable, fault.BadResponse, body.gatewayCode())
	case string(body.RefNum) != refNum || body.ProcType != p.options.ProcType || body.InsCode != p.options.InsCode:
		return query.Answer{}, failure(r, opRead, fault.Unavailable, fault.BadEcho, "")
	}
	return p.answer(refNum, body, r)
}

// answer turns a reply that is ours into an answer, by the class of its code.
func (p *Provider) answer(refNum string, body *reply, r upstream.Response) (query.Answer, error) {
	answer := query.Answer{
		AsOf: r.At,
		Upstream: query.Response{
			Code: cleanCode(body.RespCode), Message: query.CleanMessage(body.RespMsg), Reference: refNum,
			Status: r.Status, Dialect: dialect,
		},
	}
	switch p.classes[body.RespCode] {
	case query.ClassOK:
		usage, ok := p.usage(body)
		if !ok {
			return query.Answer{}, failure(r, opRead, fault.Unavailable, fault.BadResponse, body.RespCode)
		}
		answer.Outcome, answer.Usage = query.OutcomeOK, usage
		return answer, nil
	case query.ClassEmpty:
		answer.Outcome = query.OutcomeEmpty
		return answer, nil
	case query.ClassDeclined:
		answer.Outcome = query.OutcomeDeclined
		return answer, nil
	case query.ClassTransient:
		return query.Answer{}, failure(r, opRead, fault.Unavailable, fault.UpstreamBusy, body.RespCode)
	case query.ClassConfig:
		return query.Answer{}, failure(r, opRead, fault.Unauthorized, fault.UpstreamConfig, body.RespCode)
	default: // ClassBroken and every code that is not in the table.
		return query.Answer{}, failure(r, opRead, fault.Rejected, fault.UpstreamBroken, body.RespCode)
	}
}

// statusFault returns the fault of a status other than 200, with the gateway's code if the body holds one.
func statusFault(r upstream.Response) error {
	err := upstream.StatusFault(opRead, r)
	if known, ok := errors.AsType[*fault.Error](err); ok {
		known.Upstream = cleanCode(gatewayCode(r.Body))
	}
	return err
}

// gatewayCode returns the code of the gateway's own message in body, "" if there is none.
func gatewayCode(body []byte) string {
	r, ok := readReply(body)
	if !ok {
		return ""
	}
	return r.gatewayCode()
}

// failure returns the fault of a response that came but is no answer.
func failure(r upstream.Response, op string, kind fault.Kind, code fault.Code, upstreamCode string) *fault.Error {
	err := fault.New(op, kind, code)
	err.Status, err.Sent, err.Upstream = r.Status, true, cleanCode(upstreamCode)
	return err
}

// cleanCode returns a response code if it is fit for results and metrics, otherwise "".
func cleanCode(code string) string {
	if len(code) > maxCode {
		return ""
	}
	for i := range len(code) {
		if !typeAN.allows(code[i]) && code[i] != '_' && code[i] != '-' {
			return ""
		}
	}
	return code
}
