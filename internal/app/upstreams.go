package app

import (
	"context"
	"crypto/rsa"
	"fmt"
	"time"

	"go.uber.org/zap"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/upstream"
	"discountquery.example/worker/internal/upstream/easypay"
	"discountquery.example/worker/internal/upstream/unionpay"
)

// callers asks the upstream of a query's provider.
type callers map[query.Provider]*upstream.Client

// Call asks the upstream that the query names. The broker's subjects allow no other provider than the configured ones.
func (c callers) Call(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
	return c[q.Provider].Call(ctx, q, details)
}

// capacity returns how many more queries are worth taking up for a provider.
func (c callers) capacity(provider query.Provider) func() int { return c[provider].Breaker.Capacity }

// policies returns the rules of each lane.
func policies(c config.Config) map[query.Lane]decide.Policy {
	of := func(lane config.Lane) decide.Policy {
		return decide.Policy{
			Horizon: lane.Horizon, QuarantineAfter: c.Consumer.QuarantineAfter,
			FirstRetry: c.Retry.Schedule.First, MaxRetry: c.Retry.Schedule.Max,
		}
	}
	return map[query.Lane]decide.Policy{query.Interactive: of(c.Lanes.Interactive), query.Bulk: of(c.Lanes.Bulk)}
}

// buildCallers builds a client for each enabled provider, and the pace that all of them keep.
func (a *App) buildCallers() (callers, *quota.Local, error) {
	providers := a.Config.Providers
	rates := map[query.Provider]quota.Rate{
		query.EasyPay: rateOf(providers.EasyPay.Pace), query.UnionPay: rateOf(providers.UnionPay.Pace),
	}
	pace := quota.NewLocal(rates)
	all := callers{}
	if providers.EasyPay.Enabled {
		provider, err := NewEasyPay(providers.EasyPay)
		if err != nil {
			return nil, nil, err
		}
		client, err := a.newClient(query.EasyPay, provider, pace, providers.EasyPay.Timeout, providers.EasyPay.MaxConnections, providers.EasyPay.TLS)
		if err != nil {
			return nil, nil, err
		}
		all[query.EasyPay] = client
	}
	if providers.UnionPay.Enabled {
		provider, err := NewUnionPay(providers.UnionPay)
		if err != nil {
			return nil, nil, err
		}
		client, err := a.newClient(query.UnionPay, provider, pace, providers.UnionPay.Timeout, providers.UnionPay.MaxConnections, providers.UnionPay.TLS)
		if err != nil {
			return nil, nil, err
		}
		all[query.UnionPay] = client
	}
	return all, pace, nil
}

func rateOf(pace config.Pace) quota.Rate {
	return quota.Rate{PerSecond: float64(pace.Rate.Calls) / pace.Rate.Per.Seconds(), Burst: pace.Burst}
}

func (a *App) newClient(
	name query.Provider, provider upstream.Provider, pace upstream.Pacer, timeout time.Duration, connections int, tls config.TLS,
) (*upstream.Client, error) {
	transport, err := upstream.NewTransport(transportOptions(a.Config.HTTP, connections, tls))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	a.lifecycle.onStop(string(name)+" connections", func(context.Context) error { transport.Close(); return nil })
	c := a.Config.Breaker
	breaker := upstream.NewBreaker(upstream.BreakerPolicy{
		MinCalls: c.MinCalls, FailureRatio: c.FailureRatio, Window: c.Window, OpenFor: c.OpenFor,
	}, func(to upstream.BreakerState) { a.breakerChanged(name, to) })
	return upstream.New(upstream.Options{
		Breaker: breaker, Budget: upstream.NewBudget(a.Config.Retry.Share, a.Config.Retry.Reserve),
		Name: name, Provider: provider, Transport: transport, AttemptTimeout: a.Config.HTTP.Timeout(timeout),
		MaxResponse: int64(a.Config.HTTP.MaxResponseBytes), UserAgent: a.Config.HTTP.UserAgent, Pacer: pace, OnAttempt: a.metrics.Attempt,
		Retry: upstream.RetryPolicy{
			MaxAttempts: a.Config.Retry.MaxAttempts, Initial: a.Config.Retry.InitialInterval, MaxInterval: a.Config.Retry.MaxInterval,
			Multiplier: a.Config.Retry.Multiplier, Jitter: a.Config.Retry.Jitter, Budget: a.Config.Retry.Budget,
		},
	}), nil
}

// breakerChanged tells that an upstream went down or came back. It is called under the breaker's lock.
func (a *App) breakerChanged(name query.Provider, to upstream.BreakerState) {
	fields := []zap.Field{zap.String("provider", string(name)), zap.String("breaker", string(to))}
	switch to {
	case upstream.BreakerOpen:
		a.metrics.Breaker(name, 1)
		a.log.Error("upstream is down: its queries are left where they are", fields...)
	case upstream.BreakerHalfOpen:
		a.metrics.Breaker(name, 0.5)
		a.log.Info("upstream is tried again", fields...)
	case upstream.BreakerClosed:
		a.metrics.Breaker(name, 0)
		a.log.Info("upstream is back", fields...)
	}
}

func transportOptions(c config.HTTP, connections int, tls config.TLS) upstream.TransportOptions {
	return upstream.TransportOptions{
		CAFile: tls.CAFile, CertFile: tls.CertFile, KeyFile: tls.KeyFile, Connections: connections,
		DialTimeout: c.DialTimeout, HandshakeTimeout: c.TLSHandshakeTimeout, Recycle: c.RecycleConnections,
	}
}

// NewEasyPay returns the configured EasyPay provider.
func NewEasyPay(c config.EasyPay) (*easypay.Provider, error) {
	return easypay.New(easypay.Options{
		BaseURL: string(c.BaseURL), Variant: c.Variant, Path: c.Path, MallID: c.MallID, AmountAs: c.AmountAs, Charset: c.Charset,
		RequireCard: c.RequireCard, ZeroCapIsNoCap: c.ZeroCapIsNoCap, NearlyExhausted: c.NearlyExhausted, Codes: classes(c.Codes),
	})
}

// NewUnionPay reads the configured keys and returns the UnionPay provider.
func NewUnionPay(c config.UnionPay) (*unionpay.Provider, error) {
	signing, err := unionpay.LoadKey(c.JWS.PrivateKeyFile)
	if err != nil {
		return nil, err
	}
	encryption := unionpay.Encryption{
		Mode: unionpay.EncryptionMode(c.Encryption.Mode), Alg: c.Encryption.Alg, Enc: c.Encryption.Enc, Kid: c.Encryption.KID,
	}
	if encryption.Mode != unionpay.EncryptOff {
		if encryption.Key, err = unionpay.LoadPublicKey(c.Encryption.PublicKeyFile); err != nil {
			return nil, err
		}
	}
	verification := map[string]*rsa.PublicKey{}
	for kid, file := range c.Response.KeyFiles {
		if verification[kid], err = unionpay.LoadPublicKey(file); err != nil {
			return nil, err
		}
	}
	return unionpay.New(unionpay.Options{
		BaseURL: string(c.BaseURL), Path: c.Path, ReqPath: c.ReqPath, ProcType: c.ProcType, SignCertID: c.SignCertID, EncCertID: c.EncCertID,
		InsCode: c.InsCode, PID: c.PID, ScenID: c.ScenID, ResvFld: c.ResvFld, AppID: c.AppID,
		Signing:    unionpay.Signing{Kid: c.JWS.KID, Key: signing, B64InHeader: c.JWS.B64InHeader},
		Encryption: encryption, VerifyResponse: unionpay.Verification(c.Response.Verify), ResponseKeys: verification,
		TimeZone: c.TimeZone, Codes: classes(c.Codes), AmountUnit: unionpay.AmountUnit(c.AmountUnit),
	})
}

func classes(codes map[string]string) map[string]query.Class {
	all := make(map[string]query.Class, len(codes))
	for code, class := range codes {
		all[code] = query.Class(class)
	}
	return all
}
