package strict

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestHoldsAuthenticationData(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]bool{
		`{"cvv":"123"}`:                    true,
		`{"CVV2":123}`:                     true,
		`{"Cvc":null}`:                     true,
		`{"securityCode":""}`:              true,
		`{"security_code":1}`:              true,
		`{"SECURITY-CODE":1}`:              true,
		`{"Card-Verification_Value":1}`:    true,
		`{" c v v ":1}`:                    true, //nolint:dupword // The name is spelled with spaces.
		`{"c\u0076v":1}`:                   true,
		`{"pin":1}`:                        true,
		`{"Pin Block":1}`:                  true,
		`{"track2-data":1}`:                true,
		`{"TRACK_2":1}`:                    true,
		`{"magStripe":{}}`:                 true,
		`{"cid":1}`:                        true,
		`{"a":{"b":[[{"c":{"cvn2":1}}]]}}`: true,
		`[{"a":1},[{"pin":1}]]`:            true,
		`{"a":["cvv",{"x":"pin"}],"b":{},"track1":1}`: true,
		`{"a":"x","b":"y","pin":"z"}`:                 true,
		`{"a":{"b":1},"pin":{"c":1}}`:                 true,
		`{"cvv":`:                                     true,
		`{}`:                                          false,
		`{"a":"cvv","b":"pin","c":["track2","cvc"]}`: false,
		`["cvv","pin"]`:                     false,
		`[{"a":"pin"},"pin",["pin","cvv"]]`: false,
		`"cvv"`:                             false,
		`{"spin":1,"pincode2":1,"pid":1,"tracks":1}`: false,
		`{"cvvs":1,"acvv":1,"soundtrack":1}`:         false,
		`{"traceparent":1,"trackingId":1}`:           false,
		`{"":1,"-":2,"_":3}`:                         false,
		`{"a":"{\"cvv\":1}"}`:                        false,
		`{"mallId":"T0001234","cardBin":"41111111"}`: false,
		``:    false,
		`{`:   false,
		`nul`: false,
	} {
		require.Equal(t, want, HoldsAuthenticationData([]byte(data)), data)
	}
}

func TestEveryListedNameIsFoundInEverySpelling(t *testing.T) {
	t.Parallel()
	for _, name := range authenticationData {
		require.Equal(t, plainName(name), name, "the list holds plain names")
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(authenticationData).Draw(t, "name")
		var spelling strings.Builder
		for _, r := range name {
			letter := string(r)
			if rapid.Bool().Draw(t, "upper") {
				letter = strings.ToUpper(letter)
			}
			spelling.WriteString(rapid.SampledFrom([]string{"", "", "-", "_", " "}).Draw(t, "before") + letter)
		}
		member, err := json.Marshal(map[string]any{spelling.String(): rapid.SampledFrom([]any{nil, "", 1, []int{1}}).Draw(t, "value")})
		require.NoError(t, err)
		data := string(member)
		for range rapid.IntRange(0, 6).Draw(t, "levels") {
			data = rapid.SampledFrom([]string{`[1,"a",` + data + `]`, `{"a":"b","c":` + data + `,"d":1}`, `{"a":[` + data + `]}`}).Draw(t, "around")
		}
		require.True(t, HoldsAuthenticationData([]byte(data)), data)
		require.False(t, HoldsAuthenticationData([]byte(`{"a":["`+spelling.String()+`"]}`)))
	})
}

func FuzzHoldsAuthenticationData(f *testing.F) {
	for _, seed := range []string{
		`{"cvv":"123"}`, `{"a":{"b":[{"Track-2":1}]}}`, `["pin"]`, `{"a":"pin"}`, `{"a":1,"a":2}`, "{\"c\xffv\":1}", nested(10_001), `{"pin`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		held := HoldsAuthenticationData(data)
		var v any
		if json.Unmarshal(data, &v) != nil {
			return
		}
		require.Equal(t, held, holds(v), "%q", data)
	})
}

// holds is the same question asked of a value that was read.
func holds(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, child := range v {
			for _, forbidden := range authenticationData {
				if strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(name)) == forbidden {
					return true
				}
			}
			if holds(child) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, holds)
	}
	return false
}
