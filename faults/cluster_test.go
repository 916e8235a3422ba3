//go:build faults

package faults

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
	"discountquery.example/worker/internal/freeport"
)

// route is the way from one server of a cluster to another, through a proxy of its own.
type route struct {
	from, to *natsServer
	*proxy.Proxy
}

// linksOfOne is more than one proxy ever has: the numbers of connections differ in a whole cluster.
const linksOfOne = 1_000_000

// newCluster configures three servers that make a cluster, and starts none. Clients are told of no server but those they were given: all
// their ways lead through the proxies. So do all ways between the servers: the address that a server tells the others about itself leads
// nowhere, so that they have only those that are written down here.
func newCluster(t *testing.T, observe func(proxy.Event)) ([]*natsServer, []route) {
	t.Helper()
	const nowhere = "127.0.0.1:1"
	var servers []*natsServer
	var routes []route
	var listens []string
	for i := range 3 {
		servers = append(servers, newNATS(t, fmt.Sprintf("node%d", i+1), "", func(event proxy.Event) {
			event.Link += i * linksOfOne
			observe(event)
		}))
		listens = append(listens, freeport.Address(t))
	}
	for from, server := range servers {
		var ways []string
		for to, listen := range listens {
			if to == from {
				continue
			}
			way, err := proxy.Start(t.Context(), proxy.Options{Target: listen, Opaque: true})
			require.NoError(t, err)
			t.Cleanup(way.Close)
			routes = append(routes, route{from: server, to: servers[to], Proxy: way})
			ways = append(ways, "\"nats-route://"+way.Addr()+"\"")
		}
		server.configure(t, fmt.Sprintf("cluster { name: faults\n listen: \"%s\"\n advertise: \"%s\"\n no_advertise: true\n routes: [%s] }\n",
			listens[from], nowhere, strings.Join(ways, ", ")))
	}
	return servers, routes
}

// cutOff makes all that goes between one broker and the others vanish, as a broken switch does, until the returned function is called.
func (s *site) cutOff(victim *natsServer) (heal func()) {
	for _, way := range s.routes {
		if way.from == victim || way.to == victim {
			way.Silence(true)
		}
	}
	return func() {
		for _, way := range s.routes {
			way.Silence(false)
		}
	}
}
