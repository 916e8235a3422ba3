package deadletter

import (
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// actions says for each code what is to be done about letters that died of it. A code that is not here has the advice of its reason.
var actions = map[fault.Code]string{
	fault.BadSubject:        "The message was on a subject that no provider serves: have its publisher use the right one, then drop it.",
	fault.BadEnvelope:       "Its CloudEvents attributes are wrong: have its publisher mend them; edit and replay it if it has an id, else drop it.",
	fault.BadJSON:           "It is not strict JSON: have its publisher mend and ask again, then drop it.",
	fault.BadSchema:         "It breaks the schema of its provider: have its publisher mend it, then edit and replay it or drop it.",
	fault.BadField:          "The provider's rules refuse one of its fields: edit and replay it, or have its publisher ask again and drop it.",
	fault.TooLarge:          "It is larger than allowed: have its publisher ask again, then drop it.",
	fault.UnsupportedType:   "No worker serves that event type or version: upgrade the workers, then replay it.",
	fault.BadSeal:           "Its sealed data can't be opened: have its publisher seal to the workers' public key and ask again, then drop it.",
	fault.UnknownKey:        "The workers lack the key it was sealed to: give it back to them, then replay it.",
	fault.SealMismatch:      "Its sealed data belongs to another query: have its publisher look into it; do not replay it.",
	fault.PlainCard:         "Its publisher sends card data in the clear: have that stopped at once, then drop it.",
	fault.BadCard:           "Its card number can't be right: have its publisher ask again with the right one, then drop it.",
	fault.ForbiddenCardData: "Its publisher sends data that must never be stored: have that stopped at once; nothing of the query was kept, so drop it.",
	fault.Horizon:           "The upstream did not answer for as long as its lane waits: see that it answers now, then replay it.",
	fault.CrashLoop:         "Workers died while they held it: find out why before anything else, then replay it alone with a canary of 1.",
	fault.Panicked:          "It makes the worker panic: update the workers to a release that mends it, then replay it alone.",
	fault.Connect:           "The upstream could not be reached: see that it can be, then replay it.",
	fault.DNS:               "The upstream's name could not be resolved: see that it can be, then replay it.",
	fault.TLS:               "The upstream's certificate was refused: see to the certificates, then replay it.",
	fault.Timeout:           "The upstream was too slow: see that it answers in time now, then replay it.",
	fault.ConnectionLost:    "The connection to the upstream broke: see that it holds, then replay it.",
	fault.HTTPStatus:        "The upstream answered with an HTTP status that is no answer: see what it means, then replay it.",
	fault.Redirect:          "The upstream sends calls elsewhere: mend its base_url, then replay it.",
	fault.BadResponse:       "The upstream's answer was not what its interface promises: ask the provider, then replay it.",
	fault.BadSignature:      "The upstream's signature does not verify: see to its certificates, then replay it.",
	fault.BadEcho:           "The upstream answered another request: ask the provider, then replay it.",
	fault.GatewayRefused:    "The upstream's gateway refused the credentials: mend them, then replay it.",
	fault.UpstreamBusy:      "The upstream had no time: see that it has now, then replay it slowly.",
	fault.UpstreamBroken:    "The upstream refuses it with a code of its own: look that up in the provider's manual, then replay or drop it.",
	fault.UpstreamConfig:    "The upstream says that our account is not set up for it: have the provider mend that, then replay it.",
	fault.RateLimited:       "The upstream asked for fewer calls: lower the account's rate, then replay it slowly.",
	fault.BreakerOpen:       "The upstream was known to be down: see that it answers now, then replay it.",
	fault.RetryBudget:       "Too many calls had to be repeated: see that the upstream answers now, then replay it.",
	fault.SigningFailed:     "The worker could not sign its request: see to the signing keys, then replay it.",
}

// reasonActions says what is to be done where the code says nothing.
var reasonActions = map[query.Reason]string{
	query.ReasonMalformed:   "It could not be read: have its publisher mend it, then edit and replay it or drop it.",
	query.ReasonRejected:    "It was refused for good: find out why, then replay or drop it.",
	query.ReasonExhausted:   "It got no answer in its time: see that the upstream answers now, then replay it.",
	query.ReasonQuarantined: "Workers died or panicked while they held it: find out why, then replay it alone with a canary of 1.",
}

// action returns what to do about letters like this one, in one sentence.
func action(letter *Letter) string {
	if letter.Unreadable {
		return "The letter itself can't be read: export it, look at it with the release that wrote it, then drop it."
	}
	if text, ok := actions[letter.Code]; ok {
		return text
	}
	if text, ok := reasonActions[letter.Reason]; ok {
		return text
	}
	return "Nobody has met this cause before: show one of its letters and find out."
}
