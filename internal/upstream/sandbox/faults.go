package sandbox

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Fault is one way to misbehave, and when. ParseFaults reads the same from a line of text.
type Fault struct {
	// Provider says whose calls it strikes; Both arms it once for each.
	Provider Provider
	// Kind says what goes wrong.
	Kind Kind
	// Param refines the kind, in the spelling of FaultHelp; "" is the kind's default.
	Param string
	// Rate is the share of matching calls that it strikes, above 0 and at most 1; 0 means all.
	Rate float64
	// Count is how many times it strikes at most; 0 means for ever. Without Rate and Every it strikes the first Count matching calls.
	Count int
	// Every makes it strike only each Every-th matching call; 0 and 1 mean all.
	Every int
	// Match lists what a call must ask for; all of it must hold. Without it every call of the provider matches.
	Match []Condition
}

// Condition is one field that a call must carry with exactly this value.
type Condition struct {
	// Field is mall, cardCd, cardBin or amount for EasyPay, and pid, insCode or scenId for UnionPay.
	Field string
	// Value is what the field must hold.
	Value string
}

// conditionFields says which fields a condition can name, and whose they are. None of them can hold a card number.
var conditionFields = map[string]Provider{
	"mall": EasyPay, "cardCd": EasyPay, "cardBin": EasyPay, "amount": EasyPay,
	"pid": UnionPay, "insCode": UnionPay, "scenId": UnionPay,
}

// facts are the fields of one call that conditions can ask for.
type facts struct {
	mall, cardCd, cardBin, amount string
	pid, insCode, scenID          string
}

func (f *facts) get(field string) string {
	switch field {
	case "mall":
		return f.mall
	case "cardCd":
		return f.cardCd
	case "cardBin":
		return f.cardBin
	case "amount":
		return f.amount
	case "pid":
		return f.pid
	case "insCode":
		return f.insCode
	case "scenId":
		return f.scenID
	}
	return ""
}

// validate checks a fault and returns its kind's rule and its parameter, read.
func (f Fault) validate() (*kindRule, setting, error) {
	rule, err := f.rule()
	if err != nil {
		return nil, setting{}, err
	}
	set, err := rule.read(f.Param)
	if err != nil {
		return nil, setting{}, fmt.Errorf("%s: %w; write %s", f.Kind, err, rule.usage())
	}
	if f.Rate < 0 || f.Rate > 1 || f.Rate != f.Rate {
		return nil, setting{}, fmt.Errorf("%s: the rate must be above 0 and at most 1", f.Kind)
	}
	if f.Count < 0 || f.Every < 0 {
		return nil, setting{}, fmt.Errorf("%s: count and every can't be negative", f.Kind)
	}
	for _, c := range f.Match {
		if owner, known := conditionFields[c.Field]; !known || owner != f.Provider {
			return nil, setting{}, fmt.Errorf("%s: %s calls can't be matched by %q; known: %s",
				f.Kind, f.Provider, c.Field, knownConditions(f.Provider))
		}
		if c.Value == "" || strings.ContainsAny(c.Value, "]\r\n") || strings.TrimSpace(c.Value) != c.Value {
			return nil, setting{}, fmt.Errorf("%s: %s can't be matched with that value", f.Kind, c.Field)
		}
	}
	return rule, set, nil
}

// armed is a fault in force for one provider: what it was told, and how often it was met.
type armed struct {
	Fault
	role  role
	set   setting
	gate  *limiter
	seed  uint64
	seen  atomic.Uint64
	fired atomic.Int64
}

// strikes reports whether the fault hits this call; wait is how long a limit asks the caller to stay away.
func (a *armed) strikes(f *facts) (hit bool, wait time.Duration) {
	for _, c := range a.Match {
		if f.get(c.Field) != c.Value {
			return false, 0
		}
	}
	n := a.seen.Add(1)
	if a.Every > 1 && n%uint64(a.Every) != 0 {
		return false, 0
	}
	if a.Rate > 0 && a.Rate < 1 && draw(a.seed, n) >= a.Rate {
		return false, 0
	}
	if a.gate != nil {
		if wait = a.gate.take(); wait == 0 {
			return false, 0
		}
	}
	if a.Count > 0 && a.fired.Add(1) > int64(a.Count) {
		return false, 0
	}
	return true, wait
}

// plan is a set of faults in force. Only the counters inside change once it is made.
type plan struct {
	faults            []Fault
	easyPay, unionPay []*armed
}

func (p *plan) of(provider Provider) []*armed {
	if provider == EasyPay {
		return p.easyPay
	}
	return p.unionPay
}

// arm checks the faults and makes a plan of them. Outages come first in it and limits second, whatever the order given, since a
// call that never gets in meets nothing else.
func arm(faults []Fault, seed uint64) (*plan, error) {
	p := &plan{faults: cloneFaults(faults)}
	for i, f := range p.faults {
		rule, set, err := f.validate()
		if err != nil {
			return nil, fmt.Errorf("fault %d (%s): %w", i+1, f, err)
		}
		if f.Provider != UnionPay {
			p.easyPay = append(p.easyPay, newArmed(f, rule, set, seed))
		}
		if f.Provider != EasyPay {
			p.unionPay = append(p.unionPay, newArmed(f, rule, set, seed))
		}
	}
	byRole := func(a, b *armed) int { return int(min(a.role, roleShape)) - int(min(b.role, roleShape)) }
	slices.SortStableFunc(p.easyPay, byRole)
	slices.SortStableFunc(p.unionPay, byRole)
	return p, nil
}

// rearmed returns a plan of the same faults with fresh counters.
func (p *plan) rearmed(seed uint64) *plan {
	fresh, err := arm(p.faults, seed)
	if err != nil {
		return p // Can't happen: the same faults were accepted before.
	}
	return fresh
}

func newArmed(f Fault, rule *kindRule, set setting, seed uint64) *armed {
	h := fnv.New64a()
	_, _ = h.Write([]byte(f.String()))
	a := &armed{Fault: f, role: rule.role, set: set, seed: seed ^ h.Sum64()}
	if f.Kind == KindLimit {
		a.gate = newLimiter(set.rate, set.n)
	}
	return a
}

func cloneFaults(faults []Fault) []Fault {
	out := slices.Clone(faults)
	for i := range out {
		out[i].Match = slices.Clone(out[i].Match)
	}
	return out
}

// draw returns the n-th number of a seed's sequence, evenly spread over [0, 1). It is SplitMix64, which needs no shared state:
// concurrent calls draw without a lock and still the same set of numbers every time.
func draw(seed, n uint64) float64 {
	z := seed + n*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11) / (1 << 53)
}
