package query

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

// maxAgeIn returns a query with the maxage given in each mode. literal is how JSON writes it, text how a header does.
func maxAgeIn(t testing.TB, literal, text string) map[string]Delivery {
	t.Helper()
	headed := bare(EasyPay, "order-1", `{}`)
	headed.Header["ce-maxage"] = []string{text}
	return map[string]Delivery{
		"structured": structured(t, map[string]any{"maxage": jsontext.Value(literal)}),
		"binary":     binary(EasyPay, `{}`, map[string]string{"ce-maxage": text}),
		"bare":       headed,
	}
}

func TestMaxAge(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for text, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, "30": 30 * time.Second, "3600": time.Hour, "86400": MaxMaxAge,
	} {
		for _, literal := range []string{text, `"` + text + `"`, `"\u003` + text[:1] + text[1:] + `"`} {
			for mode, delivery := range maxAgeIn(t, literal, text) {
				got, err := d.Decode(delivery)
				require.NoError(t, err, "%s %s", mode, literal)
				require.NotNil(t, got.MaxAge, "%s %s: zero is not absent", mode, literal)
				require.Equal(t, want, *got.MaxAge)
				require.Equal(t, int64(want/time.Second), *got.Asked().MaxAge)
			}
		}
	}
}

func TestNoMaxAge(t *testing.T) {
	t.Parallel()
	for _, literal := range []string{"null", `""`} {
		for mode, delivery := range maxAgeIn(t, literal, "") {
			got, err := setup(t).Decode(delivery)
			require.NoError(t, err, mode)
			require.Nil(t, got.MaxAge, "%s %s", mode, literal)
			require.Nil(t, got.Asked().MaxAge)
		}
	}
}

// A publisher that means an age and writes something else is told so: a silent fresh call would cost what it wanted to save, and an old
// answer could cost more.
func TestBadMaxAge(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for text, literal := range map[string]string{
		"-1": "-1", "-0": "-0", "+1": `"+1"`, "86401": "86401", "4294967296": "4294967296", "99999999999999999999": "99999999999999999999",
		"030": `"030"`, "1.0": "1.0", "1.5": "1.5", "1e1": "1e1", "30s": `"30s"`, " 30": `" 30"`, "0x1e": `"0x1e"`, "1_0": `"1_0"`, "３０": `"３０"`,
		"true": "true", "{}": "{}", "[30]": "[30]", `"30"`: `"\"30\""`, cardNumber: cardNumber, "caf\xe9": `"caf"`,
	} {
		for mode, delivery := range maxAgeIn(t, literal, text) {
			got, err := d.Decode(delivery)
			requireFault(t, err, fault.BadEnvelope)
			require.NotContains(t, err.Error(), text)
			require.Equal(t, "order-1", got.ID, "%s %s: it is known whom to tell", mode, text)
			require.Nil(t, got.MaxAge)
			require.Nil(t, got.EasyPay)
		}
	}
}

// Exactly the numbers from 0 to 86400 are ages, each written in one way.
func TestMaxAgeIsItsNumber(t *testing.T) {
	t.Parallel()
	d, written := setup(t), string(event(t, nil))
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Int64Range(-10, 100_000).Draw(t, "seconds")
		zeros := rapid.SampledFrom([]string{"", "0", "00"}).Draw(t, "zeros")
		text := zeros + strconv.FormatInt(number, 10)
		age, ok := readMaxAge(text)
		published := strings.Replace(written, `"maxage":30`, `"maxage":"`+text+`"`, 1)
		require.NotEqual(t, written, published)
		require.Equal(t, ok, d.schemas.Validate("cloudevent.v1.json", []byte(published)) == nil, "the published schema says the same")
		require.Equal(t, zeros == "" && number >= 0 && number <= 86400, ok)
		if ok {
			require.Equal(t, time.Duration(number)*time.Second, *age)
		}
	})
}

func FuzzInteger(f *testing.F) {
	for _, seed := range []string{"30", `"30"`, "null", `""`, "-1", "1e3", "{}", `["30"]`, `"\u0033"`, "true", "\"\xff\"", `"30`, ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var e envelope
		if ReadStrict(append(append([]byte(`{"maxage":`), value...), '}'), &e) != nil {
			return
		}
		age, ok := readMaxAge(string(e.MaxAge))
		if ok && age != nil {
			require.Equal(t, strconv.FormatInt(int64(age.Seconds()), 10), string(e.MaxAge))
			require.LessOrEqual(t, *age, MaxMaxAge)
		}
	})
}
