package app

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/keywatch"
	"discountquery.example/worker/internal/telemetry"
	"discountquery.example/worker/internal/upstream"
)

// The sources of keys, as they stand in metrics and logs.
const (
	sourceCards    = "cards"
	sourceUpstream = "upstream"
	sourceTLS      = "tls"
)

// startKeys prepares for keys that are read again when their files change. The broker's credentials need nothing of it: their files are read
// at each connect and reconnect.
func (a *App) startKeys(context.Context) error {
	a.keysSeen = telemetry.NewKeyMetrics(a.metrics.Registry(), sourceCards, sourceUpstream, sourceTLS)
	a.keys = keywatch.New(keywatch.Options{
		OnChange: a.keysRead,
		OnBlind: func(err error) {
			a.log.Warn("key files are looked at once a minute: the operating system does not tell of changes", zap.Error(err))
		},
	})
	return nil
}

// keysRead tells that the files of a source have changed.
func (a *App) keysRead(source string, err error) {
	a.keysSeen.Reloaded(source, err == nil)
	if err != nil {
		a.log.Error("changed keys can't be used, the worker goes on with those it has", zap.String("source", source), zap.Error(err))
		return
	}
	fields := []zap.Field{zap.String("source", source)}
	if source == sourceCards {
		fields = append(fields, zap.String("seals", a.ring.Sealer().KeyID()), zap.Strings("open", a.ring.KeyIDs()))
	}
	a.log.Info("keys were read again", fields...)
}

// keepRing reads the workers' keys and has them read again when they change.
func (a *App) keepRing() (*card.Ring, error) {
	dir := a.Config.Cards.KeysDir
	err := a.keys.Add(keywatch.Source{Name: sourceCards, Files: []string{filepath.Join(dir, "*.jwk")}, Load: func() error {
		next, err := card.LoadRing(dir)
		if err != nil {
			return err
		}
		if a.ring == nil {
			next.OnOpen(a.keysSeen.Opened)
			a.ring = next
		} else {
			a.ring.Replace(next)
		}
		a.keysSeen.Expect(a.ring.KeyIDs()...)
		return nil
	}})
	return a.ring, err
}

// publicKeys returns the public keys to seal to.
func (a *App) publicKeys() ([]byte, error) { return a.ring.PublicSet() }

// changing is a provider whose keys change: each attempt is made, signed and verified with those that there were when it began.
type changing struct {
	current atomic.Pointer[upstream.Provider]
}

// Prepare prepares an attempt with the present keys.
func (c *changing) Prepare(now time.Time, question upstream.Question) (upstream.Exchange, error) {
	return (*c.current.Load()).Prepare(now, question)
}

// keepProvider builds an account's provider and has it built again when its key files change, if it has any.
func (a *App) keepProvider(one account) (*changing, error) {
	kept := &changing{}
	err := a.keys.Add(keywatch.Source{Name: sourceUpstream, Files: one.keyFiles, Load: func() error {
		next, err := one.provider()
		if err == nil {
			kept.current.Store(&next)
		}
		return err
	}})
	return kept, err
}

// keepTransport builds the connections of an account and has its certificates read again when their files change.
func (a *App) keepTransport(options upstream.TransportOptions) (*upstream.Transport, error) {
	files := named(options.CAFile, options.CertFile, options.KeyFile)
	if len(files) == 0 {
		return upstream.NewTransport(options)
	}
	var transport *upstream.Transport
	err := a.keys.Add(keywatch.Source{Name: sourceTLS, Files: files, Load: func() (err error) {
		if transport != nil {
			return transport.Reload()
		}
		transport, err = upstream.NewTransport(options)
		return err
	}})
	return transport, err
}

// unionPayFiles returns the key files of an account.
func unionPayFiles(c config.UnionPay) []string {
	files := slices.Sorted(maps.Values(c.Response.KeyFiles))
	return named(append(files, c.JWS.PrivateKeyFile, c.Encryption.PublicKeyFile)...)
}

// named returns the names that are not empty.
func named(files ...string) []string {
	return slices.DeleteFunc(files, func(name string) bool { return name == "" })
}
