package sandbox

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []Fault
	}{
		"nothing": {"", nil},
		"blanks":  {" , \n ,", nil},
		"one":     {"easypay:down", []Fault{{Provider: EasyPay, Kind: KindDown}}},
		"the page": {"easypay:latency=200ms@0.1,unionpay:status=503@0.05,easypay:429=2s#5", []Fault{
			{Provider: EasyPay, Kind: KindLatency, Param: "200ms", Rate: 0.1},
			{Provider: UnionPay, Kind: KindStatus, Param: "503", Rate: 0.05},
			{Provider: EasyPay, Kind: Kind429, Param: "2s", Count: 5},
		}},
		"all suffixes": {"unionpay:wrongsig@0.5#3%2[pid=1234567890][scenId=A,1]", []Fault{{
			Provider: UnionPay, Kind: KindWrongSig, Rate: 0.5, Count: 3, Every: 2,
			Match: []Condition{{"pid", "1234567890"}, {"scenId", "A,1"}},
		}}},
		"both":        {"*:hang#1", []Fault{{Provider: Both, Kind: KindHang, Count: 1}}},
		"lines":       {"easypay:limit=100/20\nunionpay:limit=2.5/1\n", []Fault{{Provider: EasyPay, Kind: KindLimit, Param: "100/20"}, {Provider: UnionPay, Kind: KindLimit, Param: "2.5/1"}}},
		"spaces":      {" easypay : status = 503 @ 0.5 # 2 [ mall = T0000001 ] ", []Fault{{Provider: EasyPay, Kind: KindStatus, Param: "503", Rate: 0.5, Count: 2, Match: []Condition{{"mall", "T0000001"}}}}},
		"quoted":      {`easypay:redirect="http://x/?a=b,c#d"@1`, []Fault{{Provider: EasyPay, Kind: KindRedirect, Param: "http://x/?a=b,c#d", Rate: 1}}},
		"escaped":     {`easypay:redirect="http://x/\"y"`, []Fault{{Provider: EasyPay, Kind: KindRedirect, Param: `http://x/"y`}}},
		"retry date":  {"easypay:429=date:1970,easypay:status=503/date:-1h", []Fault{{Provider: EasyPay, Kind: Kind429, Param: "date:1970"}, {Provider: EasyPay, Kind: KindStatus, Param: "503/date:-1h"}}},
		"range":       {"*:latency=10ms-1.5s", []Fault{{Provider: Both, Kind: KindLatency, Param: "10ms-1.5s"}}},
		"code, shape": {"easypay:code=9999,easypay:dialect=rotate,easypay:numbers=null,easypay:list=missing", []Fault{{Provider: EasyPay, Kind: KindCode, Param: "9999"}, {Provider: EasyPay, Kind: KindDialect, Param: "rotate"}, {Provider: EasyPay, Kind: KindNumbers, Param: "null"}, {Provider: EasyPay, Kind: KindList, Param: "missing"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseFaults(test.text)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
			again, err := ParseFaults(FormatFaults(got))
			require.NoError(t, err)
			require.Equal(t, test.want, again)
			require.NoError(t, New(Options{}).SetFaults(got))
		})
	}
}

func TestParseFaultsErrorsSayWhatIsKnown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"status=503":                        "PROVIDER:KIND",
		"kicc:down":                         "known: easypay, unionpay, *",
		"easypay:explode":                   "known for easypay: down, limit, dialect",
		"easypay:wrongsig":                  "wrongsig strikes unionpay only",
		"*:dialect=A":                       "dialect strikes easypay only",
		"easypay:status":                    "write status=CODE[/RETRY]",
		"easypay:status=200":                "400 to 599",
		"easypay:status=503/later":          "Retry-After",
		"easypay:429=date:x":                "neither a year nor a duration",
		"easypay:status=":                   "the parameter after = is empty",
		`easypay:redirect="http`:            "no end",
		`easypay:redirect="x"y`:             "can't read",
		"easypay:down=1":                    "takes no parameter",
		"easypay:latency":                   "is no duration",
		"easypay:latency=-1s":               "is no duration",
		"easypay:latency=2s-1s":             "ends before it starts",
		"easypay:latency=48h":               "0s to 24h",
		"easypay:limit=5":                   "is no burst",
		"easypay:limit=0/5":                 "is no rate",
		"easypay:limit=NaN/5":               "is no rate",
		"easypay:limit=5/0":                 "is no burst",
		"easypay:dialect=D":                 "write dialect=A|B|C|rotate",
		"easypay:cp949=latin1":              "is not known",
		"easypay:code=12345":                "1 to 4 letters and digits",
		`easypay:code="a\"b"`:               "1 to 4 letters and digits",
		"easypay:huge=0":                    "whole number from 1",
		"easypay:deep=99999999":             "whole number from 1",
		"easypay:gzip=bigger":               "is not known",
		"easypay:down@0":                    "above 0 and at most 1",
		"easypay:down@1.5":                  "above 0 and at most 1",
		"easypay:down@NaN":                  "above 0 and at most 1",
		"easypay:down#0":                    "from 1",
		"easypay:down%x":                    "from 1",
		"easypay:down[mall]":                "[FIELD=VALUE]",
		"easypay:down[mall=T0000001":        "[FIELD=VALUE]",
		"easypay:down[pid=1]":               "known: amount, cardBin, cardCd, mall",
		"*:down[pid=1]":                     "a condition needs one provider",
		"easypay:down,unionpay:status=1000": `fault "unionpay:status=1000"`,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := ParseFaults(text)
			require.ErrorContains(t, err, want)
		})
	}
}

func TestSetFaultsChecksFaultsMadeInGo(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	good := []Fault{{Provider: EasyPay, Kind: KindDown, Match: []Condition{{"mall", "T0000001"}}}}
	require.NoError(t, s.SetFaults(good))
	good[0].Match[0].Value = "changed by the caller"
	require.Equal(t, "easypay:down[mall=T0000001]", FormatFaults(s.Faults()), "the sandbox has a copy")
	for name, bad := range map[string]Fault{
		"no provider":    {Kind: KindDown},
		"no kind":        {Provider: EasyPay},
		"rate":           {Provider: EasyPay, Kind: KindDown, Rate: 2},
		"negative count": {Provider: EasyPay, Kind: KindDown, Count: -1},
		"negative every": {Provider: EasyPay, Kind: KindDown, Every: -1},
		"param":          {Provider: EasyPay, Kind: KindStatus},
		"condition":      {Provider: EasyPay, Kind: KindDown, Match: []Condition{{"mall", "a]b"}}},
		"no value":       {Provider: EasyPay, Kind: KindDown, Match: []Condition{{"mall", ""}}},
		"line end":       {Provider: EasyPay, Kind: KindRedirect, Param: "a\r\nb"},
	} {
		require.Error(t, s.SetFaults([]Fault{good[0], bad}), name)
	}
	require.Equal(t, "easypay:down[mall=T0000001]", FormatFaults(s.Faults()), "an error changes nothing")
}

// Whatever is valid survives being written and read.
func TestFaultsRoundTrip(t *testing.T) {
	t.Parallel()
	params := map[Kind]string{
		KindLimit: "5/5", KindDialect: "B", KindNumbers: "mixed", KindList: "null", KindCP949: "utf8", KindLatency: "1ms-2ms",
		KindStatus: "503/5s", Kind429: "garbage", KindRedirect: `http://a/,"@#x[]%20`, KindEndless: "5ms", KindCode: "X1",
	}
	rapid.Check(t, func(t *rapid.T) {
		faults := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Fault {
			rule := rapid.SampledFrom(kindRules[:]).Draw(t, "rule")
			f := Fault{Provider: rule.on, Kind: rule.kind, Param: params[rule.kind]}
			if f.Provider == Both {
				f.Provider = rapid.SampledFrom([]Provider{EasyPay, UnionPay, Both}).Draw(t, "provider")
			}
			f.Rate = rapid.SampledFrom([]float64{0, 1, 0.5, 0.05, 1e-9, 1.0 / 3}).Draw(t, "rate")
			f.Count = rapid.IntRange(0, 1000).Draw(t, "count")
			f.Every = rapid.IntRange(0, 1000).Draw(t, "every")
			if f.Provider == EasyPay && rapid.Bool().Draw(t, "matched") {
				f.Match = []Condition{{"mall", rapid.StringMatching(`[A-Za-z0-9,"@#% [-]{0,9}x`).Draw(t, "mall")}}
				f.Match[0].Value = strings.TrimSpace(f.Match[0].Value)
			}
			return f
		}), 0, 6).Draw(t, "faults")
		again, err := ParseFaults(FormatFaults(faults))
		require.NoError(t, err, FormatFaults(faults))
		require.Equal(t, FormatFaults(faults), FormatFaults(again))
		require.Len(t, again, len(faults))
		for i := range faults {
			require.Equal(t, faults[i], again[i])
		}
	})
}

func TestFaultHelpNamesEveryKind(t *testing.T) {
	t.Parallel()
	help := FaultHelp()
	for _, rule := range kindRules {
		require.Contains(t, help, "\n  "+rule.usage())
	}
	example := help[strings.Index(help, "Example: ")+len("Example: "):]
	example, _, _ = strings.Cut(example, "\n")
	faults, err := ParseFaults(example)
	require.NoError(t, err)
	require.Len(t, faults, 4)
}

func FuzzParseFaults(f *testing.F) {
	f.Add("easypay:latency=200ms@0.1,unionpay:status=503@0.05,easypay:429=2s#5")
	f.Add(`easypay:redirect="a\"b"[mall=x]`)
	f.Add("*:limit=1/1%3,\n,unionpay:msgresponse=lower")
	f.Add(`easypay:redirect="`)
	f.Fuzz(func(t *testing.T, text string) {
		faults, err := ParseFaults(text)
		if err != nil {
			return
		}
		again, err := ParseFaults(FormatFaults(faults))
		require.NoError(t, err, "%s", FormatFaults(faults))
		require.Equal(t, FormatFaults(faults), FormatFaults(again))
	})
}
