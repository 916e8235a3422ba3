// Package freeport gives tests addresses for processes that must be told where to listen. It must never be part of the product.
package freeport

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// The ports that are given out lie below those that systems give to outgoing connections (from 32768 on Linux), so that none is taken between
// being found free and being used.
const (
	first = 10_000
	count = 22_000
	// stride keeps processes that were started one after the other apart.
	stride = 37
)

// given is how many addresses this process has looked at.
var given atomic.Int32

// Address returns an address of this machine that nobody listens on. It gives out none twice, as long as a process needs less than 22,000.
func Address(t testing.TB) string {
	t.Helper()
	for range count {
		port := first + (os.Getpid()*stride+int(given.Add(1)))%count
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address); err == nil {
			require.NoError(t, listener.Close())
			return address
		}
	}
	require.FailNow(t, "no port is free")
	return ""
}
