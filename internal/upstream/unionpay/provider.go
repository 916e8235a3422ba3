// Package unionpay speaks UnionPay International's cardholder instant-discount usage query: envelope, encryption, signature, fields
// and codes of its wire format. It must never send, log or store anything, and never let card data into an error or an answer.
package unionpay

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

// Provider prepares requests to UnionPay and reads its responses. It is safe for concurrent use.
type Provider struct {
	options    Options
	endpoint   *url.URL
	zone       *time.Location
	classes    map[string]query.Class
	currencies currencies
	signer     *signer
	verifier   *verifier
	sealer     *sealer
	sequence   sequence
}

// New returns a provider with the options given. The error names every option that is missing or wrong, without its value.
func New(options Options) (*Provider, error) {
	o := options.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("configure unionpay: %w", err)
	}
	random := rand.Reader
	if o.Rand != nil {
		random = o.Rand
	}
	p := &Provider{
		options:    o,
		classes:    classes(o.Codes),
		currencies: readCurrencies(),
		signer:     &signer{signing: o.Signing, appID: o.AppID, reqPath: o.ReqPath, random: random},
		verifier:   &verifier{mode: o.VerifyResponse, keys: o.ResponseKeys, unencoded: o.Signing.B64InHeader},
	}
	p.endpoint, _ = o.endpoint()
	p.zone, _ = parseZone(o.TimeZone)
	if o.Encryption.Mode == EncryptJWE {
		sealer, err := newSealer(o.Encryption)
		if err != nil {
			return nil, fmt.Errorf("configure unionpay: %w", err)
		}
		p.sealer = sealer
	}
	if err := p.sequence.start(random); err != nil {
		return nil, fmt.Errorf("configure unionpay: %w", err)
	}
	return p, nil
}

// Prepare checks the question against the field rules of the interface page and builds the request of one attempt, with a reference
// number, message id, time, encryption and signature of its own. A field that breaks its rule is Rejected with the code BadField;
// the error says which one by name only. The request's body can't be rewound, because a signed request must not be sent twice.
func (p *Provider) Prepare(now time.Time, question upstream.Question) (upstream.Exchange, error) {
	asked, err := p.ask(question)
	if err != nil {
		return upstream.Exchange{}, err
	}
	refNum := p.sequence.take()
	body, err := p.envelope(now, refNum, asked)
	if err != nil {
		return upstream.Exchange{}, fault.New("unionpay: encrypt request", fault.Unavailable, fault.SigningFailed)
	}
	jws, err := p.signer.sign(now, body)
	if err != nil {
		return upstream.Exchange{}, fault.New("unionpay: sign request", fault.Unavailable, fault.SigningFailed)
	}
	return upstream.Exchange{
		Request: p.request(body, jws),
		Read:    func(r upstream.Response) (query.Answer, error) { return p.read(refNum, r) },
	}, nil
}

// request returns the request that carries exactly the bytes that were signed. The signature's header is set past
// http.Header.Set, which would respell it: header names have no case, but a gateway may not know.
func (p *Provider) request(body []byte, jws string) *http.Request {
	address := *p.endpoint
	return &http.Request{
		Method: http.MethodPost, URL: &address, Host: address.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":  {"application/json;charset=UTF-8"},
			"Accept":        {"application/json"},
			signatureHeader: {jws},
		},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
	}
}
