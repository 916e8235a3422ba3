package broker

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"discountquery.example/worker/internal/fault"
)

const (
	// MinServerVersion is the oldest server this package works with. Older ones lose messages of a work queue that met their
	// maximum of deliveries, or leak the state of them (nats-server issues 7817 and 8156).
	MinServerVersion = "2.14.1"
	// RecommendedServerVersion is the server this package is tested with.
	RecommendedServerVersion = "2.15.2"
)

// CheckServer returns an error if the server behind nc is too old (errors.Is ErrServerTooOld) or has no JetStream
// (ErrNoJetStream). It asks nothing: the server said both when the connection was made.
func CheckServer(nc *nats.Conn) error {
	version := nc.ConnectedServerVersion()
	if version == "" {
		return problem("check server", fault.BrokerUnreachable, nats.ErrDisconnected, "not connected to a NATS server")
	}
	if !versionAtLeast(version, MinServerVersion) {
		return problem("check server", fault.BrokerRefused, ErrServerTooOld,
			"the NATS server has version %q, which is older than %s: upgrade it, best to %s", version, MinServerVersion, RecommendedServerVersion)
	}
	if enabled, _ := nc.ConnectedServerJetStream(); !enabled {
		return problem("check server", fault.BrokerRefused, ErrNoJetStream,
			"the NATS server has JetStream switched off: start it with --jetstream or a jetstream block in its configuration")
	}
	return nil
}

// Recommended tells whether a server of the given version is at least the recommended one.
func Recommended(version string) bool { return versionAtLeast(version, RecommendedServerVersion) }

// versionAtLeast compares semantic versions. A version that can't be read is not at least anything.
func versionAtLeast(version, floor string) bool {
	have, ok := parseVersion(version)
	want, _ := parseVersion(floor)
	if !ok {
		return false
	}
	for i := range have {
		if c := cmp.Compare(have[i], want[i]); c != 0 {
			return c > 0
		}
	}
	return true
}

// parseVersion returns major, minor, patch, and 0 for a pre-release or 1 for a release, which sorts a pre-release before its release.
func parseVersion(version string) ([4]int, bool) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "+")
	core, pre, _ := strings.Cut(version, "-")
	numbers := strings.Split(core, ".")
	if len(numbers) != 3 {
		return [4]int{}, false
	}
	var parsed [4]int
	for i, text := range numbers {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return [4]int{}, false
		}
		parsed[i] = int(n)
	}
	if pre == "" {
		parsed[3] = 1
	}
	return parsed, true
}
