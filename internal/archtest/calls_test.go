package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// duty is a set of methods that only some rooms may call.
type duty struct {
	name  string
	calls []string
	rooms []string
	// natsOnly limits the duty to files that import nats.go, for method names that are common elsewhere.
	natsOnly bool
}

// duties holds what is done in one place only: a second place that acks, or that changes a stream, is how messages get lost.
func duties() []duty {
	return []duty{
		{
			name: "settles messages", rooms: []string{"consumer"},
			calls: []string{"Ack", "AckSync", "DoubleAck", "Nak", "NakWithDelay", "Term", "TermWithReason"},
		},
		{
			// ask sends replies, to inboxes and nowhere else, and asks the replicas for their state.
			name: "publishes", rooms: []string{"publish", "client", "broker", "ask"},
			calls: []string{"PublishMsg", "PublishMsgAsync", "PublishAsync"},
		},
		{
			// check publishes what every stream refuses, to see whether it may.
			name: "publishes", rooms: []string{"publish", "client", "broker", "check"}, natsOnly: true,
			calls: []string{"Publish", "PublishRequest"},
		},
		{
			name: "changes streams, consumers and buckets", rooms: []string{"broker"},
			calls: []string{
				"CreateStream", "UpdateStream", "CreateOrUpdateStream", "DeleteStream",
				"CreateConsumer", "UpdateConsumer", "CreateOrUpdateConsumer", "DeleteConsumer",
				"CreateKeyValue", "UpdateKeyValue", "CreateOrUpdateKeyValue", "DeleteKeyValue",
			},
		},
	}
}

// clockless holds the rooms that get the time as an argument.
func clockless() []string { return []string{"decide", "fault", "query", "schemas"} }

// strayCalls finds calls of a duty's methods outside its rooms. Tests may call anything.
func strayCalls(t *tree) []string {
	var findings []string
	for _, f := range t.product() {
		packages := importNames(f)
		usesNATS := slices.ContainsFunc(f.imports(), func(p string) bool { return within(p, nats) })
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			method, ok := methodCalled(node, packages)
			if !ok || ofOwnType(node, packages) {
				return true
			}
			for _, d := range duties() {
				if !slices.Contains(d.calls, method) || slices.Contains(d.rooms, f.room) || d.natsOnly && !usesNATS {
					continue
				}
				findings = append(findings, fmt.Sprintf("%s: calls %s: only %v %s", t.at(node), method, d.rooms, d.name))
			}
			return true
		})
	}
	return findings
}

// methodCalled returns the name of the method that a node calls. A call of a package's function is none.
func methodCalled(node ast.Node, packages map[string]string) (string, bool) {
	call, ok := node.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	if x, isName := selector.X.(*ast.Ident); isName && x.Obj == nil && packages[x.Name] != "" {
		return "", false
	}
	return selector.Sel.Name, true
}

// ofOwnType tells whether a call's receiver is a parameter whose type another own room exports: what that room does is its own duty.
func ofOwnType(node ast.Node, packages map[string]string) bool {
	call, _ := node.(*ast.CallExpr)
	selector, _ := call.Fun.(*ast.SelectorExpr)
	pkg, ok := parameterPackage(selector.X)
	if !ok {
		return false
	}
	_, own := roomOf(packages[pkg])
	return own
}

// parameterPackage returns the name of the package that an expression's type comes from, if the expression is a parameter.
func parameterPackage(x ast.Expr) (string, bool) {
	name, ok := x.(*ast.Ident)
	if !ok || name.Obj == nil {
		return "", false
	}
	field, ok := name.Obj.Decl.(*ast.Field)
	if !ok {
		return "", false
	}
	kind := field.Type
	if pointer, isPointer := kind.(*ast.StarExpr); isPointer {
		kind = pointer.X
	}
	selector, ok := kind.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	pkg, ok := selector.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return pkg.Name, true
}

// majorVersion is the last element of the import path of a module's later versions.
var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// importNames returns the import paths of a file by the names it uses them under.
func importNames(f *file) map[string]string {
	names := make(map[string]string)
	for _, spec := range f.syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(imported)
		if majorVersion.MatchString(name) {
			name = path.Base(path.Dir(imported))
		}
		name = strings.TrimSuffix(name, ".go")
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	return names
}

// clockReads finds uses of the clock in rooms that must be told the time.
func clockReads(t *tree) []string {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}
	var findings []string
	for _, f := range t.product() {
		if !slices.Contains(clockless(), f.room) {
			continue
		}
		packages := importNames(f)
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := selector.X.(*ast.Ident)
			if ok && x.Obj == nil && packages[x.Name] == "time" && slices.Contains(clock, selector.Sel.Name) {
				findings = append(findings, fmt.Sprintf("%s: uses time.%s: %s is told the time", t.at(node), selector.Sel.Name, f.room))
			}
			return true
		})
	}
	return findings
}

func TestOnePlaceDoesEachDuty(t *testing.T) {
	t.Parallel()
	none(t, strayCalls(thisTree(t)))
}

func TestPureRoomsReadNoClock(t *testing.T) {
	t.Parallel()
	none(t, clockReads(thisTree(t)))
}

func TestStrayCallsAreFound(t *testing.T) {
	t.Parallel()
	acks := "package p\nfunc f(m interface{ Ack() error }) { _ = m.Ack() }"
	chained := "package p\nfunc f(w worker) { w.delivery().TermWithReason(`why`) }"
	publishes := "package p\nimport \"" + nats + "/nats.go/jetstream\"\nfunc f(js jetstream.JetStream) { js.Publish(nil, `s`, nil) }"
	renamed := "package p\nimport bus \"" + nats + "/nats.go\"\nfunc f(c *bus.Conn) { c.Publish(`s`, nil) }"
	another := "package p\nimport (\"" + nats + "/nats.go\"; \"" + own("client") + "\")\nvar _ nats.Msg\nfunc f(c *client.Client) { c.Publish(nil, 1) }"
	ownInterface := "package p\nfunc f(p publisher) { p.Publish(nil, 1) }"
	judge(t, strayCalls, map[string]scenario{
		"the consumer settles": {files: map[string]string{"internal/consumer/a.go": acks, "internal/consumer/b.go": chained}},
		"tests settle":         {files: map[string]string{"internal/app/a_test.go": acks, "internal/broker/brokertest/a.go": acks}},
		"another room acks": {
			files: map[string]string{"internal/worker/a.go": acks},
			want:  []string{"internal/worker/a.go:2: calls Ack: only [consumer] settles messages"},
		},
		"another room terminates": {
			files: map[string]string{"internal/deadletter/a.go": chained},
			want:  []string{"calls TermWithReason: only [consumer]"},
		},
		"a function of a package of that name": {
			files: map[string]string{"internal/app/a.go": "package p\nimport \"x.org/window/v2\"\nfunc f() { window.Term() }"},
		},
		"a variable that hides a package": {
			files: map[string]string{"internal/app/a.go": "package p\nimport \"x.org/msg\"\nvar _ = msg.X\nfunc f(msg m) { msg.Nak() }"},
			want:  []string{"calls Nak"},
		},
		"publish publishes": {files: map[string]string{"internal/publish/a.go": publishes, "internal/client/a.go": publishes}},
		"another room publishes": {
			files: map[string]string{"internal/app/a.go": publishes, "internal/quota/a.go": renamed},
			want:  []string{"internal/app/a.go:3: calls Publish", "internal/quota/a.go:3: calls Publish"},
		},
		"another room's method":               {files: map[string]string{"internal/demo/a.go": another}},
		"an own interface with a common name": {files: map[string]string{"internal/worker/a.go": ownInterface}},
		"a message published through an interface": {
			files: map[string]string{"internal/worker/a.go": "package p\nfunc f(p publisher) { p.PublishMsg(nil, nil) }"},
			want:  []string{"calls PublishMsg: only [publish client broker ask]"},
		},
		"another room creates a stream": {
			files: map[string]string{"internal/consumer/a.go": "package p\nfunc f(js x) { js.CreateOrUpdateConsumer() }"},
			want:  []string{"calls CreateOrUpdateConsumer: only [broker] changes streams"},
		},
	})
}

func TestClockReadsAreFound(t *testing.T) {
	t.Parallel()
	judge(t, clockReads, map[string]scenario{
		"arithmetic":     {files: map[string]string{"internal/decide/a.go": "package p\nimport \"time\"\nfunc f(t time.Time) { t.After(t); t.Add(time.Second) }"}},
		"other rooms":    {files: map[string]string{"internal/quota/a.go": "package p\nimport \"time\"\nvar n = time.Now()"}},
		"a call":         {files: map[string]string{"internal/decide/a.go": "package p\nimport \"time\"\nfunc f() { time.Now() }"}, want: []string{"a.go:3: uses time.Now"}},
		"a value":        {files: map[string]string{"internal/query/a.go": "package p\nimport \"time\"\nvar now = time.Now"}, want: []string{"query is told the time"}},
		"a renamed time": {files: map[string]string{"internal/decide/a.go": "package p\nimport c \"time\"\nvar now = c.Since"}, want: []string{"uses time.Since"}},
		"a test":         {files: map[string]string{"internal/decide/a_test.go": "package p\nimport \"time\"\nvar now = time.Now()"}},
	})
}
