//go:build faults

package faults

import (
	"fmt"
	"strings"
	"testing"

	"discountquery.example/worker/faults/proxy"
)

// newCluster configures three servers that make a cluster, and starts none. Clients are told of no server but those they were given: all
// their ways lead through the proxies.
func newCluster(t *testing.T, observe func(proxy.Event)) []*natsServer {
	t.Helper()
	var routes []string
	for range 3 {
		routes = append(routes, "127.0.0.1:"+freePort(t))
	}
	var servers []*natsServer
	for i, route := range routes {
		settings := fmt.Sprintf("cluster { name: faults\n listen: \"%s\"\n no_advertise: true\n routes: [\"nats-route://%s\"] }\n",
			route, strings.Join(routes, "\", \"nats-route://"))
		servers = append(servers, newNATS(t, fmt.Sprintf("node%d", i+1), settings, observe))
	}
	return servers
}
