package app

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"discountquery.example/worker/internal/answers"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
)

// How recent answers are shared.
const (
	// answersKept is how many answers a worker keeps in its memory.
	answersKept = 2048
	// answersTimeout bounds one look into the bucket: what takes longer than a call helps nobody.
	answersTimeout = 500 * time.Millisecond
)

// newAnswers returns the cache that lets queries share answers which are fresh enough for them.
func (a *App) newAnswers(ctx context.Context, callers callers, ring *card.Ring) (*answers.Cache, error) {
	name := a.topology.Names().AnswersBucket()
	bucket, err := a.broker.JS.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("bind to bucket %s: %w", name, err)
	}
	return answers.New(answers.Options{
		Caller: callers, Bucket: bucket, Fingerprint: ring.Fingerprint, Accounts: askers(a.Config.Providers), Keep: a.topology.AnswerTTL,
		Size: answersKept, Timeout: min(a.Config.NATS.RequestTimeout, answersTimeout), OnTrouble: a.answersTrouble,
	}), nil
}

// askers says for each provider in whose name it is asked and how its answers are read. Answers of different askers are never shared. The
// accounts of one provider need no name here: a query's own merchant or offer says which it is, and that is part of the question.
func askers(c config.Providers) map[query.Provider]answers.Account {
	e, u := c.EasyPay, c.UnionPay
	return map[query.Provider]answers.Account{
		query.EasyPay: {MallID: e.MallID, ID: fmt.Sprint(
			e.BaseURL, "|", e.Variant, "|", e.Path, "|", e.Charset, "|", e.ZeroCapIsNoCap, "|", e.NearlyExhausted, "|", e.Codes)},
		query.UnionPay: {PID: u.PID, ID: fmt.Sprint(
			u.BaseURL, "|", u.Path, "|", u.InsCode, "|", u.AppID, "|", u.ScenID, "|", u.ResvFld, "|", u.AmountUnit, "|", u.Codes)},
	}
}

func (a *App) answersTrouble(what string, err error) {
	a.metrics.StoreTrouble(what)
	a.log.Warn("recent answers not at hand, upstream asked instead", zap.String("exchange", what), brokerError(err))
}
