package ask

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// stored finds one result of the client shop, as the results do: by key and client together.
func stored(_ context.Context, key, client string) ([]byte, bool, error) {
	if key == query.Key("shop", "urn:shop", "1") && client == "shop" {
		return []byte(`{"id":"1"}`), true, nil
	}
	return nil, false, nil
}

func TestLookup(t *testing.T) {
	t.Parallel()
	b := setup(t, echo, func(o *Options) { o.Results = finding(stored) })
	key := query.Key("shop", "urn:shop", "1")
	requireEvent(t, b.request("discount.lookup.shop", nil, `{"key":"`+key+`"}`), `{"id":"1"}`)
	requireEvent(t, b.request("discount.lookup.shop", nil, `{"source":"urn:shop","id":"1"}`), `{"id":"1"}`)
	for subject, data := range map[string]string{
		"discount.lookup.office": `{"key":"` + key + `"}`,
		"discount.lookup.Shop":   `{"key":"` + key + `"}`,
		"discount.lookup.shop":   `{"source":"urn:shop","id":"2"}`,
		"discount.lookup.branch": `{"source":"urn:shop","id":"1"}`,
	} {
		requireRefused(t, b.request(subject, nil, data), "404", NoResult, "")
	}
	b.served.requireCodes("lookup", map[Code]int{Answered: 2, NoResult: 4})
}

func TestLookupOfTheWrongFormIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, echo, func(o *Options) {
		o.Results = finding(func(context.Context, string, string) ([]byte, bool, error) {
			return nil, false, errors.New("nobody may come this far")
		})
	})
	for _, data := range []string{``, `{}`, `null`, `{"key":"*"}`, "\xff", `{"key":1}`} {
		requireRefused(t, b.request("discount.lookup.shop", nil, data), "400", Malformed, "")
	}
	requireRefused(t, b.request("discount.lookup."+strings.Repeat("a", 65), nil, `{"source":"a","id":"1"}`), "400", Malformed, "")
}

func TestLookupThatCanNotBeMade(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		results finding
		code    Code
	}{
		"an error": {func(context.Context, string, string) ([]byte, bool, error) {
			return nil, false, errors.New("4111111111111111")
		}, Unavailable},
		"an error beside a find": {func(context.Context, string, string) ([]byte, bool, error) {
			return []byte("{}"), true, errors.New("x")
		}, Unavailable},
		"an empty event": {func(context.Context, string, string) ([]byte, bool, error) { return nil, true, nil }, Unavailable},
		"no answer in time": {func(ctx context.Context, _, _ string) ([]byte, bool, error) {
			<-ctx.Done()
			return nil, false, ctx.Err()
		}, Unavailable},
		"a fault of the results'": {func(context.Context, string, string) ([]byte, bool, error) {
			return nil, false, fault.New("x", fault.Unavailable, fault.Timeout)
		}, Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, echo, func(o *Options) { o.Results, o.LookupTimeout = tc.results, 50*time.Millisecond })
			requireRefused(t, b.request("discount.lookup.shop", nil, `{"source":"a","id":"1"}`), "503", tc.code, "1")
		})
	}
}

func TestLookupsHaveSlotsOfTheirOwn(t *testing.T) {
	t.Parallel()
	entered, open := make(chan struct{}), make(chan struct{})
	b := setup(t, echo, func(o *Options) {
		o.LookupSlots = 1
		o.Results = finding(func(context.Context, string, string) ([]byte, bool, error) {
			entered <- struct{}{}
			<-open
			return nil, false, nil
		})
	})
	reply := b.later("discount.lookup.shop", `{"source":"a","id":"1"}`)
	wait(t, entered, "the lookup's slot is taken")
	requireRefused(t, b.request("discount.lookup.shop", nil, `{"source":"a","id":"1"}`), "503", Overloaded, "1")
	requireEvent(t, b.ask("1"), `{"asked":"{\"cardCd\":\"026\"}"}`)
	close(open)
	requireRefused(t, <-reply, "404", NoResult, "")
}

func TestReadLookup(t *testing.T) {
	t.Parallel()
	key, long := query.Key("shop", "urn:shop", "1"), strings.Repeat("é", 128)
	for data, want := range map[string]string{
		`{"key":"` + key + `"}`:                                      key,
		` { "key" : "` + key + `" } `:                                key,
		`{"source":"urn:shop","id":"1"}`:                             key,
		`{"id":"1","source":"urn:shop"}`:                             key,
		`{"id":"` + long + `","source":"\u00e9"}`:                    query.Key("shop", "é", long),
		`{"key":null,"source":"urn:shop","id":"1"}`:                  key,
		`{"key":"` + key + `","source":null}`:                        key,
		`{"key":""}`:                                                 "",
		`{"key":"` + key[1:] + `"}`:                                  "",
		`{"key":"` + key + `a"}`:                                     "",
		`{"key":"` + strings.ToUpper(key) + `"}`:                     "",
		`{"key":"` + key[:25] + `*"}`:                                "",
		`{"key":"` + key[:25] + `1"}`:                                "",
		`{"key":"` + key[:24] + `.>"}`:                               "",
		`{"key":"` + key + `","id":"1"}`:                             "",
		`{"key":"` + key + `","source":"urn:shop","id":"1"}`:         "",
		`{"source":"urn:shop"}`:                                      "",
		`{"id":"1"}`:                                                 "",
		`{"source":"","id":"1"}`:                                     "",
		`{"source":"urn:shop","id":""}`:                              "",
		`{"source":"urn:shop\n","id":"1"}`:                           "",
		`{"source":"urn:shop","id":"\u007f"}`:                        "",
		`{"source":"` + long + `a","id":"1"}`:                        "",
		`{"source":"urn:shop","id":1}`:                               "",
		`{"Source":"urn:shop","id":"1"}`:                             "",
		`{"source":"urn:shop","id":"1","client":"office"}`:           "",
		`{"source":"urn:shop","id":"1","id":"1"}`:                    "",
		`{"source":"urn:shop","id":"1"}{}`:                           "",
		`["` + key + `"]`:                                            "",
		`"` + key + `"`:                                              "",
		``:                                                           "",
		`null`:                                                       "",
		"{\"source\":\"\xff\",\"id\":\"1\"}":                         "",
		`{"source":"urn:shop","id":"1"}` + strings.Repeat(" ", 4096): "",
	} {
		got, err := readLookup([]byte(data), "shop")
		require.Equal(t, want, got, "%q", data)
		if want != "" {
			require.NoError(t, err)
			continue
		}
		require.Equal(t, fault.Malformed, fault.KindOf(err))
		require.EqualError(t, err, "read lookup: malformed (bad_json)", "nothing of the request is in it")
	}
}

func TestTheLongestIdentityCanBeLookedUp(t *testing.T) {
	t.Parallel()
	escaped := strings.Repeat(`\u0041`, maxAttribute)
	key, err := readLookup([]byte(`{"source":"`+escaped+`","id":"`+escaped+`"}`), "shop")
	require.NoError(t, err)
	require.Equal(t, query.Key("shop", strings.Repeat("A", maxAttribute), strings.Repeat("A", maxAttribute)), key)
}

func FuzzReadLookup(f *testing.F) {
	for _, seed := range []string{
		`{"key":"csbuu7xomafjihgdwkgzrrrmq4"}`, `{"source":"urn:shop","id":"1"}`, `{"key":"a.>"}`, `{"id":"\u000a","source":"*"}`, `{"key":null}`,
		`{"source":"a","id":"b","id":"c"}`, `[[[[[[[[[[[[[[[[[[`, `null`, ``, "{\"id\":\"\xff\"}", `{"Key":"csbuu7xomafjihgdwkgzrrrmq4"}`,
	} {
		f.Add(seed, "shop")
	}
	f.Fuzz(func(t *testing.T, data, client string) {
		key, err := readLookup([]byte(data), client)
		if err != nil {
			require.Empty(t, key)
			require.EqualError(t, err, "read lookup: malformed (bad_json)")
			return
		}
		require.Regexp(t, `^[a-z2-7]{26}$`, key)
		require.LessOrEqual(t, len(data), maxLookup)
	})
}
