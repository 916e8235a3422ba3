package archtest

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Packages of others that some rooms must not know.
const (
	nats    = "github.com/nats-io"
	netHTTP = "net/http"
	zap     = "go.uber.org/zap"
	backoff = "github.com/cenkalti/backoff"
)

// maxDepth is the longest chain of own imports.
const maxDepth = 6

// rule says what one room may import outside its tests.
type rule struct {
	// may holds the own rooms it may import.
	may []string
	// mayAllBut, if set, allows every own room but these.
	mayAllBut []string
	// never holds packages of others it must not import, each with all below it.
	never []string
	// onlyStandard refuses every package of others.
	onlyStandard bool
}

// allows tells whether the rule's room may import the own room given.
func (r rule) allows(room string) bool {
	if r.mayAllBut != nil {
		return !slices.Contains(r.mayAllBut, room) && !testRooms()[room]
	}
	return slices.Contains(r.may, room)
}

// rooms is the map of the worker. A new room gets a line here, and the sentence in its package comment says what it must never do.
func rooms() map[string]rule {
	provider := rule{may: []string{"upstream", "fault", "query", "card", "strict"}, never: []string{nats, zap, backoff}}
	return map[string]rule{
		"crashpoint":        {onlyStandard: true, never: []string{netHTTP}},
		"mutant":            {onlyStandard: true, never: []string{netHTTP, "os"}},
		"nodump":            {never: []string{nats, netHTTP, zap, backoff, "os"}},
		"fault":             {onlyStandard: true, never: []string{netHTTP, "os"}},
		"strict":            {never: []string{nats, netHTTP, zap, "os"}},
		"schemas":           {never: []string{nats, netHTTP, zap, "os"}},
		"config":            {never: []string{nats, netHTTP, zap, backoff}},
		"query":             {may: []string{"fault", "schemas", "strict"}, never: []string{nats, netHTTP, zap, backoff, "os"}},
		"card":              {may: []string{"fault", "strict"}, never: []string{nats, netHTTP, zap, backoff}},
		"decide":            {may: []string{"fault", "query"}, onlyStandard: true, never: []string{"context", "net", "os", "io", "math/rand"}},
		"trace":             {may: []string{"fault"}, never: []string{nats, netHTTP, zap, backoff, "os", "go.opentelemetry.io/otel/sdk"}},
		"worker":            {may: []string{"fault", "query", "card", "decide", "crashpoint", "mutant", "trace"}, never: []string{nats, netHTTP, zap, backoff}},
		"ask":               {may: []string{"fault", "query", "strict"}, never: []string{netHTTP, zap, backoff}},
		"consumer":          {may: []string{"fault", "query", "decide", "crashpoint", "mutant"}, never: []string{netHTTP, backoff}},
		"upstream":          {may: []string{"fault", "query", "card", "strict", "crashpoint", "trace"}, never: []string{nats, zap}},
		"upstream/unionpay": provider,
		"upstream/easypay":  provider,
		"upstream/sandbox":  {never: []string{nats, zap, backoff}},
		"answers":           {may: []string{"fault", "query", "card", "strict"}, never: []string{netHTTP, zap, backoff}},
		"quota":             {may: []string{"fault", "query", "strict"}, never: []string{netHTTP, backoff}},
		"publish":           {may: []string{"fault", "query", "card", "decide", "strict", "crashpoint", "mutant"}, never: []string{netHTTP}},
		"broker":            {may: []string{"fault"}, never: []string{netHTTP}},
		"broker/brokertest": {may: []string{"broker"}},
		"freeport":          {never: []string{nats, netHTTP, zap, backoff}},
		"sweeper":           {may: []string{"fault", "query", "decide"}, never: []string{netHTTP, backoff}},
		"deadletter":        {may: []string{"fault", "query", "card", "publish", "broker", "strict"}, never: []string{netHTTP, backoff}},
		"gauge":             {may: []string{"fault", "broker"}, never: []string{netHTTP, zap, backoff}},
		"tail":              {may: []string{"fault", "query", "broker"}, never: []string{netHTTP, zap, backoff, "os"}},
		"top":               {may: []string{"fault", "query", "ask", "gauge", "tail"}, never: []string{nats, netHTTP, zap, backoff, "os"}},
		"keywatch":          {never: []string{nats, netHTTP, zap, backoff}},
		"telemetry":         {may: []string{"fault", "query", "decide", "trace"}, never: []string{nats, backoff}},
		"client":            {may: []string{"fault", "query", "card", "broker", "strict"}, never: []string{netHTTP, backoff}},
		"check":             {may: []string{"app", "config", "broker", "card", "fault", "upstream"}, never: []string{backoff}},
		"app":               {mayAllBut: []string{"cmd/worker", "demo", "client", "check"}, never: []string{backoff}},
		"demo": {
			may:   []string{"app", "client", "config", "broker", "card", "query", "upstream/sandbox", "fault"},
			never: []string{backoff},
		},
		"cmd/worker": {
			may:   []string{"app", "config", "demo", "client", "check", "card", "query", "schemas", "fault", "strict", "mutant", "nodump", "upstream/sandbox", "deadletter", "tail", "top"},
			never: []string{nats, netHTTP, backoff},
		},
		"archtest":     {onlyStandard: true},
		"deploy/nats":  {onlyStandard: true},
		"leak":         {onlyStandard: true},
		"deploy":       {onlyStandard: true},
		"faults":       {onlyStandard: true},
		"faults/proxy": {onlyStandard: true},
	}
}

// testRooms holds the rooms that exist for tests: no rule lets a room of the product import them.
func testRooms() map[string]bool {
	return map[string]bool{"broker/brokertest": true, "faults": true, "faults/proxy": true, "freeport": true, "leak": true}
}

// homes says which rooms alone may import a package of others; an empty list means tests only.
func homes() map[string][]string {
	return map[string][]string{
		"github.com/nats-io/nats-server":      {"broker", "broker/brokertest"},
		"github.com/go-jose/go-jose":          {"card", "upstream/unionpay"},
		"github.com/lestrrat-go/jwx":          {"upstream/sandbox"},
		"github.com/knadh/koanf":              {"config"},
		"github.com/alecthomas/kong":          {"cmd/worker"},
		"github.com/charmbracelet":            {"cmd/worker"},
		"github.com/sony/gobreaker":           {"upstream"},
		"github.com/prometheus/client_golang": {"telemetry", "app"},
		"go.opentelemetry.io/otel":            {"trace", "telemetry"},
		backoff:                               {"upstream", "publish"},
		"github.com/fsnotify/fsnotify":        {"keywatch"},
		"github.com/stretchr/testify":         {"broker/brokertest", "freeport"},
		"go.uber.org/goleak":                  {"broker/brokertest"},
		"pgregory.net/rapid":                  {"broker/brokertest"},
		"testing":                             {"broker/brokertest", "freeport"},
		"net/http/httptest":                   {"broker/brokertest"},
		"golang.org/x/sys":                    {"nodump"},
		"github.com/stretchr/testify/assert":  nil,
		"github.com/stretchr/testify/suite":   nil,
	}
}

// within tells whether an import path is the package given or lies below it.
func within(importPath, pkg string) bool {
	return importPath == pkg || strings.HasPrefix(importPath, pkg+"/")
}

// standard tells whether an import path belongs to the standard library: its first element has no dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// strayImports finds imports that break the rule of their room, and rooms without a rule.
func strayImports(t *tree) []string {
	var findings []string
	rules := rooms()
	for room, files := range t.rooms() {
		r, known := rules[room]
		if !known {
			findings = append(findings, fmt.Sprintf("%s: this room has no rule; add it to the table in internal/archtest", files[0].path))
			continue
		}
		for _, f := range files {
			if strings.HasSuffix(f.path, "_test.go") {
				continue
			}
			for _, imported := range f.imports() {
				if why := r.refuses(room, imported); why != "" {
					findings = append(findings, fmt.Sprintf("%s: imports %s: %s", f.path, imported, why))
				}
			}
		}
	}
	sort.Strings(findings)
	return findings
}

// refuses says why the rule's room must not import a package, or nothing.
func (r rule) refuses(room, imported string) string {
	if own, ok := roomOf(imported); ok {
		if !r.allows(own) {
			return room + " must not know " + own
		}
		return ""
	}
	if r.onlyStandard && !standard(imported) {
		return room + " uses the standard library only"
	}
	for _, pkg := range r.never {
		if within(imported, pkg) {
			return room + " must never know it"
		}
	}
	for pkg, allowed := range homes() {
		if within(imported, pkg) && !slices.Contains(allowed, room) {
			return fmt.Sprintf("it belongs to %v", allowed)
		}
	}
	return ""
}

// deepestChain returns the longest chain of rooms that import each other outside tests.
func deepestChain(t *tree) []string {
	edges := make(map[string][]string)
	for _, f := range t.product() {
		for _, imported := range f.imports() {
			if own, ok := roomOf(imported); ok {
				edges[f.room] = append(edges[f.room], own)
			}
		}
	}
	longest := make(map[string][]string)
	var below func(room string) []string
	below = func(room string) []string {
		if chain, done := longest[room]; done {
			return chain
		}
		longest[room] = []string{room} // ends a cycle, which the compiler refuses anyway
		var best []string
		for _, next := range edges[room] {
			if chain := below(next); len(chain) > len(best) {
				best = chain
			}
		}
		longest[room] = append([]string{room}, best...)
		return longest[room]
	}
	var deepest []string
	for room := range edges {
		if chain := below(room); len(chain) > len(deepest) {
			deepest = chain
		}
	}
	return deepest
}

// tooDeep finds a chain of imports beyond the limit.
func tooDeep(t *tree) []string {
	chain := deepestChain(t)
	if len(chain)-1 <= maxDepth {
		return nil
	}
	return []string{fmt.Sprintf("%d imports deep, at most %d: %s", len(chain)-1, maxDepth, strings.Join(chain, " > "))}
}

func TestRoomsImportOnlyWhatTheirRuleAllows(t *testing.T) {
	t.Parallel()
	none(t, strayImports(thisTree(t)))
}

func TestImportsAreNotTooDeep(t *testing.T) {
	t.Parallel()
	got := thisTree(t)
	t.Logf("deepest chain: %s", strings.Join(deepestChain(got), " > "))
	none(t, tooDeep(got))
}

// source returns a file of package p that imports the paths given.
func source(imports ...string) string {
	var b strings.Builder
	b.WriteString("package p\n")
	for _, imported := range imports {
		fmt.Fprintf(&b, "import _ %q\n", imported)
	}
	return b.String()
}

// own returns the import path of a room below internal.
func own(room string) string { return module + "/internal/" + room }

func TestStrayImportsAreFound(t *testing.T) {
	t.Parallel()
	judge(t, strayImports, map[string]scenario{
		"an allowed own import":     {files: map[string]string{"internal/decide/a.go": source(own("query"), own("fault"), "time")}},
		"schemas stand at the root": {files: map[string]string{"internal/query/a.go": source(module + "/schemas")}},
		"an own room too many": {
			files: map[string]string{"internal/decide/a.go": source(own("upstream"))},
			want:  []string{"decide must not know upstream"},
		},
		"a leaf that grows": {
			files: map[string]string{"internal/fault/a.go": source(own("query")), "internal/config/a.go": source(own("fault"))},
			want:  []string{"config must not know fault", "fault must not know query"},
		},
		"a provider that knows the other": {
			files: map[string]string{"internal/upstream/unionpay/a.go": source(own("upstream/easypay"))},
			want:  []string{"upstream/unionpay must not know upstream/easypay"},
		},
		"a sandbox that shares code with the client": {
			files: map[string]string{"internal/upstream/sandbox/a.go": source(own("upstream/unionpay"), "github.com/go-jose/go-jose/v4")},
			want:  []string{"upstream/sandbox must not know upstream/unionpay", "it belongs to [card upstream/unionpay]"},
		},
		"a room without a rule": {
			files: map[string]string{"internal/utils/a.go": source()},
			want:  []string{"internal/utils/a.go: this room has no rule"},
		},
		"the root is no room": {files: map[string]string{"main.go": source()}, want: []string{"main.go: this room has no rule"}},
		"app may know nearly all": {
			files: map[string]string{"internal/app/a.go": source(own("tail"), own("publish"), own("demo"), own("broker/brokertest"))},
			want:  []string{"app must not know broker/brokertest", "app must not know demo"},
		},
		"a room for tests in a command": {
			files: map[string]string{"cmd/worker/a.go": source(own("broker/brokertest"))},
			want:  []string{"cmd/worker must not know broker/brokertest"},
		},
		"the product that knows how it is broken": {
			files: map[string]string{"internal/app/a.go": source(module + "/faults/proxy"), "internal/consumer/a.go": source(module + "/faults")},
			want:  []string{"app must not know faults/proxy", "consumer must not know faults"},
		},
		"a proxy that shares code with what it breaks": {
			files: map[string]string{"faults/proxy/a.go": source("net", own("broker"), nats+"/nats.go")},
			want:  []string{"faults/proxy must not know broker", "faults/proxy uses the standard library only"},
		},
		"tests import what they need": {
			files: map[string]string{"internal/decide/a_test.go": source(own("broker/brokertest"), nats+"/nats.go", "testing")},
		},
		"a fixture follows its rule too": {
			files: map[string]string{"internal/broker/brokertest/a.go": source(own("broker"), own("app"), "testing", "github.com/stretchr/testify/require")},
			want:  []string{"broker/brokertest must not know app"},
		},
	})
}

func TestForbiddenPackagesAreFound(t *testing.T) {
	t.Parallel()
	jetstream := nats + "/nats.go/jetstream"
	for room, forbidden := range map[string][]string{
		"internal/decide":            {"context", "net", "net/url", "os", zap, jetstream, "golang.org/x/time/rate", "math/rand/v2"},
		"internal/fault":             {"github.com/go-json-experiment/json"},
		"internal/worker":            {jetstream, netHTTP, zap, zap + "/zapcore"},
		"internal/consumer":          {netHTTP, backoff + "/v4"},
		"internal/upstream":          {jetstream, zap, nats + "/nats-server/v2/server"},
		"internal/upstream/unionpay": {jetstream, zap, backoff + "/v4", "github.com/lestrrat-go/jwx/v3/jws"},
		"internal/publish":           {netHTTP, nats + "/nats-server/v2/server"},
		"internal/query":             {jetstream, zap, "github.com/stretchr/testify/require", "testing"},
		"cmd/worker":                 {jetstream, nats + "/nats.go", netHTTP, backoff + "/v4", "github.com/knadh/koanf/v2"},
		"internal/app":               {"github.com/go-jose/go-jose/v4", "github.com/alecthomas/kong", nats + "/nats-server/v2/server"},
		"internal/quota":             {"github.com/sony/gobreaker/v2", "github.com/prometheus/client_golang/prometheus"},
	} {
		for _, pkg := range forbidden {
			t.Run(room+" "+pkg, func(t *testing.T) {
				t.Parallel()
				got := strayImports(treeOf(t, map[string]string{room + "/a.go": source("fmt", pkg)}))
				require.Len(t, got, 1)
				require.Contains(t, got[0], "imports "+pkg)
			})
		}
	}
}

func TestAllowedPackagesPass(t *testing.T) {
	t.Parallel()
	for room, allowed := range map[string][]string{
		"internal/decide":   {"time", "errors", "math", "network"},
		"internal/upstream": {netHTTP, backoff + "/v4", "github.com/sony/gobreaker/v2"},
		"internal/card":     {"github.com/go-jose/go-jose/v4", "github.com/go-jose/go-jose/v4/jwt"},
		"internal/broker":   {nats + "/nats-server/v2/server", nats + "/nats.go"},
		"cmd/worker":        {"github.com/alecthomas/kong", zap, "os"},
	} {
		none(t, strayImports(treeOf(t, map[string]string{room + "/a.go": source(allowed...)})))
	}
}

// chain returns a tree in which each of n rooms imports the next.
func chain(n int) map[string]string {
	files := make(map[string]string)
	for i := range n {
		files[fmt.Sprintf("internal/r%d/a.go", i)] = source(own(fmt.Sprintf("r%d", i+1)))
	}
	return files
}

func TestDeepImportsAreFound(t *testing.T) {
	t.Parallel()
	cycle := map[string]string{"internal/a/a.go": source(own("b")), "internal/b/b.go": source(own("a"))}
	deepTest := chain(maxDepth)
	deepTest["internal/r6/a_test.go"] = source(own("r7"))
	judge(t, tooDeep, map[string]scenario{
		"nothing":            {},
		"as deep as allowed": {files: chain(maxDepth)},
		"one too deep":       {files: chain(maxDepth + 1), want: []string{"7 imports deep, at most 6: r0 > r1 > r2 > r3 > r4 > r5 > r6 > r7"}},
		"a cycle ends":       {files: cycle},
		"tests do not count": {files: deepTest},
	})
}

func TestTheTableNamesOnlyRoomsThatCanExist(t *testing.T) {
	t.Parallel()
	rules := rooms()
	for room, r := range rules {
		for _, named := range slices.Concat(r.may, r.mayAllBut) {
			require.Contains(t, rules, named, "the rule of %s names a room without a rule", room)
			require.NotEqual(t, room, named)
		}
		require.False(t, r.may != nil && r.mayAllBut != nil, "%s: one or the other", room)
	}
	for pkg, allowed := range homes() {
		for _, room := range allowed {
			require.Contains(t, rules, room, "%s is at home in a room without a rule", pkg)
		}
	}
}
