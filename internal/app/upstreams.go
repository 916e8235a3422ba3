package app

import (
	"context"
	"crypto/rsa"
	"fmt"
	"time"

	"go.uber.org/zap"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/trace"
	"discountquery.example/worker/internal/upstream"
	"discountquery.example/worker/internal/upstream/easypay"
	"discountquery.example/worker/internal/upstream/unionpay"
)

// policies returns the rules of each lane.
func policies(c config.Config) map[query.Lane]decide.Policy {
	of := func(lane config.Lane) decide.Policy {
		return decide.Policy{
			Horizon: lane.Horizon, QuarantineAfter: c.Consumer.QuarantineAfter,
			FirstRetry: c.Retry.Schedule.First, MaxRetry: c.Retry.Schedule.Max,
		}
	}
	return map[query.Lane]decide.Policy{query.Interactive: of(c.Lanes.Interactive), query.Bulk: of(c.Lanes.Bulk.Lane)}
}

// buildCallers builds a client for each account of each enabled provider.
func (a *App) buildCallers(keeps upstream.Pacer) (callers, error) {
	all := callers{directory: newDirectory(a.Config.Providers), clients: map[quota.Account]*upstream.Client{}}
	for _, one := range accounts(a.Config.Providers) {
		client, err := a.newClient(one, keeps)
		if err != nil {
			return callers{}, fmt.Errorf("%s: %w", accountName(one.Account), err)
		}
		all.clients[one.Account] = client
		a.metrics.ExpectAccount(one.Provider, one.Name)
	}
	return all, nil
}

func (a *App) newClient(one account, keeps upstream.Pacer) (*upstream.Client, error) {
	provider, err := a.keepProvider(one)
	if err != nil {
		return nil, err
	}
	transport, err := a.keepTransport(transportOptions(a.Config.HTTP, one.connections, one.tls))
	if err != nil {
		return nil, err
	}
	a.lifecycle.onStop(accountName(one.Account)+" connections", func(context.Context) error { transport.Close(); return nil })
	c := a.Config.Breaker
	breaker := upstream.NewBreaker(upstream.BreakerPolicy{
		MinCalls: c.MinCalls, FailureRatio: c.FailureRatio, Window: c.Window, OpenFor: c.OpenFor,
	}, func(to upstream.BreakerState) { a.breakerChanged(one.Account, to) })
	return upstream.New(upstream.Options{
		Breaker: breaker, Budget: upstream.NewBudget(a.Config.Retry.Share, a.Config.Retry.Reserve), Hold: a.hold(one), Concurrency: a.newConcurrency(one),
		Name: one.Provider, Account: one.Name, Provider: provider, Transport: transport, AttemptTimeout: a.Config.HTTP.Timeout(one.timeout),
		MaxResponse: int64(a.Config.HTTP.MaxResponseBytes), UserAgent: a.Config.HTTP.UserAgent, Pacer: keeps,
		OnAttempt: func(ctx context.Context, provider query.Provider, took time.Duration, err error) {
			a.calls.Add(1)
			a.metrics.Attempt(provider, one.Name, took, err, trace.ID(ctx))
		},
		Retry: upstream.RetryPolicy{
			MaxAttempts: a.Config.Retry.MaxAttempts, Initial: a.Config.Retry.InitialInterval, MaxInterval: a.Config.Retry.MaxInterval,
			Multiplier: a.Config.Retry.Multiplier, Jitter: a.Config.Retry.Jitter, Budget: a.Config.Retry.Budget,
		},
	}), nil
}

// breakerChanged tells that an upstream went down or came back for one account. It is called under the breaker's lock.
func (a *App) breakerChanged(account quota.Account, to upstream.BreakerState) {
	fields := []zap.Field{zap.String("provider", string(account.Provider)), zap.String("account", account.Name), zap.String("breaker", string(to))}
	switch to {
	case upstream.BreakerOpen:
		a.metrics.Breaker(account.Provider, account.Name, 1)
		a.log.Error("upstream is down: nothing is asked there for now", fields...)
	case upstream.BreakerHalfOpen:
		a.metrics.Breaker(account.Provider, account.Name, 0.5)
		a.log.Info("upstream is tried again", fields...)
	case upstream.BreakerClosed:
		a.metrics.Breaker(account.Provider, account.Name, 0)
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
