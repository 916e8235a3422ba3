package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// Listen says where Start serves. Each address is host:port; port 0 takes a free one, and "" leaves that server out.
type Listen struct {
	EasyPay, UnionPay, Admin string
}

// Running is a sandbox that is being served.
type Running struct {
	easyPay, unionPay, admin string

	servers []*http.Server
	release context.CancelFunc
	group   errgroup.Group
}

// Start serves the sandbox over plain HTTP until Close. The context bounds the start only. When one address can't be had, nothing
// is left running.
func (s *Sandbox) Start(ctx context.Context, l Listen) (*Running, error) {
	base, release := context.WithCancel(context.WithoutCancel(ctx))
	run := &Running{release: release}
	for _, server := range []struct {
		name, address string
		handler       http.Handler
		url           *string
	}{
		{"easypay", l.EasyPay, s.EasyPay(), &run.easyPay},
		{"unionpay", l.UnionPay, s.UnionPay(), &run.unionPay},
		{"admin", l.Admin, s.Admin(), &run.admin},
	} {
		if server.address == "" {
			continue
		}
		url, err := run.serve(ctx, base, server.address, server.handler)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start the sandbox's %s server: %w", server.name, err), run.Close(ctx))
		}
		*server.url = url
	}
	return run, nil
}

// serve listens, serves in the background and returns the URL.
func (run *Running) serve(ctx, base context.Context, address string, handler http.Handler) (string, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          log.New(io.Discard, "", 0), // Whatever it had to say could quote a request.
	}
	run.servers = append(run.servers, server)
	run.group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the sandbox: %w", err)
		}
		return nil
	})
	return "http://" + listener.Addr().String(), nil
}

// EasyPayURL returns the base URL of EasyPay without a slash at its end, or "" when it isn't served.
func (run *Running) EasyPayURL() string { return run.easyPay }

// UnionPayURL returns the base URL of UnionPay without a slash at its end, or "" when it isn't served.
func (run *Running) UnionPayURL() string { return run.unionPay }

// AdminURL returns the base URL of the admin API without a slash at its end, or "" when it isn't served.
func (run *Running) AdminURL() string { return run.admin }

// farewell is how long Close waits for answers under way. Honest ones take microseconds, and held ones are let go at once.
const farewell = 500 * time.Millisecond

// Close stops serving and waits until it has stopped; calls that a fault holds are dropped. It returns an error when a server had
// failed before. Close can be called again.
func (run *Running) Close(ctx context.Context) error {
	run.release()
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	for _, server := range run.servers {
		if err := server.Shutdown(ctx); err != nil {
			_ = server.Close() // Not polite in time: the rest is cut off, which is no failure.
		}
	}
	return run.group.Wait()
}
