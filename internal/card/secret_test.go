package card

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

// outside holds card data in every way a struct can, as a careless line of a log might.
type outside struct {
	Details  Details
	Pointer  *Details
	Any      any
	Number   Number
	Numbers  []Number
	Secrets  map[string]Secret
	Array    [2]Secret
	number   Number
	secret   Secret
	pointer  *Number
	details  Details
	anything any
	deeper   *struct{ n Number }
}

func everything(t testing.TB) []any {
	t.Helper()
	d := details(t)
	o := outside{
		d, &d, d, d.Number, []Number{d.Number}, map[string]Secret{"a": d.Mobile}, [2]Secret{d.UserToken, d.Mobile},
		d.Number, d.UserToken, &d.Number, d, d, &struct{ n Number }{d.Number},
	}
	ring := setup(t)
	return []any{
		d, &d, d.Number, &d.Number, d.UserToken, &d.Mobile, o, &o, []any{d, o}, map[string]any{"a": &o}, []Details{d}, map[string]*Details{"a": &d},
		fmt.Errorf("%v: %w", d, errors.New(d.Number.String())), d.Number.LastFour(),
		ring, *ring.keys.Load(), Unsealer{Ring: ring}, &Unsealer{Ring: ring}, ring.Sealer(), struct{ r *Ring }{ring}, struct{ K keys }{*ring.keys.Load()},
	}
}

func TestNothingIsPrinted(t *testing.T) {
	t.Parallel()
	for _, v := range everything(t) {
		for _, verb := range []string{
			"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%O", "%c", "%U", "%t", "%p", "%e", "%g", "%T", "%20s", "%y", "%!",
		} {
			requireNoSecrets(t, fmt.Sprintf(verb, v))
		}
		requireNoSecrets(t, fmt.Sprint(v, v)+fmt.Sprintln(v))
	}
}

func TestNothingIsMarshalled(t *testing.T) {
	t.Parallel()
	for _, v := range everything(t) {
		one, err := json.Marshal(v)
		require.NoError(t, err)
		requireNoSecrets(t, string(one))
		two, err := jsonv2.Marshal(v)
		requireNoSecrets(t, string(two)+fmt.Sprint(err))
		three, err := yaml.Marshal(v)
		require.NoError(t, err)
		requireNoSecrets(t, string(three))
		four, err := xml.Marshal(v)
		requireNoSecrets(t, string(four)+fmt.Sprint(err))
		var five bytes.Buffer
		err = gob.NewEncoder(&five).Encode(v)
		requireNoSecrets(t, five.String()+fmt.Sprint(err))
	}
}

func TestNothingIsLogged(t *testing.T) {
	t.Parallel()
	for _, v := range everything(t) {
		for _, encoder := range []zapcore.Encoder{zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.NewConsoleEncoder(zapcore.EncoderConfig{})} {
			line, err := encoder.EncodeEntry(zapcore.Entry{Message: fmt.Sprint(v)}, []zapcore.Field{zap.Any("a", v), zap.Reflect("b", v)})
			require.NoError(t, err)
			requireNoSecrets(t, line.String())
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("a", "v", v, slog.Any("w", v))
		slog.New(slog.NewJSONHandler(&log, nil)).Info("a", "v", v, slog.Any("w", v))
		requireNoSecrets(t, log.String())
	}
}

// requireNoSecrets checks that text shows no card data in any form in which fmt and the encoders write texts.
func requireNoSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{cardNumber, userToken, mobile} {
		decimals := fmt.Sprint([]byte(secret))
		for _, form := range []string{
			secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret), decimals[1 : len(decimals)-1], encode([]byte(secret)),
		} {
			require.NotContains(t, text, form)
		}
	}
	require.NotContains(t, text, cardNumber[:12])
	require.NotRegexp(t, `\[(\d{1,3} ){31}\d{1,3}\]`, text, "32 bytes of a key")
}

// Masks are what the log is meant to show, so they are looked at too.
func TestMasks(t *testing.T) {
	t.Parallel()
	d := details(t)
	require.Equal(t, "****0005", d.Number.String())
	require.Equal(t, "****0005 ****0005 ****0005", fmt.Sprintf("%v %d %#v", d.Number, d.Number, d.Number))
	require.Equal(t, "[secret] [secret]", fmt.Sprintf("%s %x", d.UserToken, &d.Mobile))
	require.Equal(t, "{[secret] ****0005 [secret]}", fmt.Sprint(d))
	require.Equal(t, "[secret]", NewSecret("").String(), "the mask does not tell whether there is something")
	text, err := json.Marshal(d)
	require.NoError(t, err)
	require.JSONEq(t, `{"UserToken":"[secret]","Number":"****0005","Mobile":"[secret]"}`, string(text))
	require.Equal(t, "****", Number{}.String())
}

func TestSecretsReveal(t *testing.T) {
	t.Parallel()
	d := details(t)
	require.Equal(t, cardNumber, d.Number.Reveal())
	require.Equal(t, userToken, d.UserToken.Reveal())
	require.Equal(t, "0005", d.Number.LastFour())
	require.False(t, d.Mobile.Empty())
	for _, empty := range []Secret{{}, NewSecret("")} {
		require.Empty(t, empty.Reveal())
		require.True(t, empty.Empty())
	}
	require.Empty(t, Number{}.Reveal())
	require.Empty(t, Number{}.LastFour())
}

func TestParseNumber(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		cardNumber, "6205500000000000004", "4111111111111111", "4222222222222", "378282246310005", "30569309025904", "0000000000000000",
	} {
		number, err := ParseNumber(text)
		require.NoError(t, err, text)
		require.Equal(t, text, number.Reveal())
		require.Equal(t, text[len(text)-4:], number.LastFour())
	}
	for name, text := range map[string]string{
		"nothing":              "",
		"a digit":              "0",
		"12 digits":            "000000000000",
		"20 digits":            "00000000000000000000",
		"a wrong check digit":  "6200000000000004",
		"two digits swapped":   "6020000000000005",
		"spaces":               "6200 0000 0000 0005",
		"a space before":       " 6200000000000005",
		"a line end":           "6200000000000005\n",
		"dashes":               "6200-0000-0000-0005",
		"a letter":             "620000000000000O",
		"below the digits":     "620000000000000/",
		"above the digits":     "620000000000000:",
		"a sign":               "+620000000000005",
		"a mask":               "620000******0005",
		"full-width digits":    "６２００００００００００００００５",
		"three full-width":     "6200000000０05",
		"Arabic digits":        "٦٢٠٠٠٠٠",
		"a zero byte":          "6200000000000005\x00",
		"bytes beyond 127":     "\xb0\xb0\xb0\xb0\xb0\xb0\xb0\xb0\xb0\xb0\xb0\xb0\xb0",
		"a number with a dot":  "620000000000000.5",
		"a very long text":     strings.Repeat("0", 1<<20),
		"hexadecimal":          "0x62000000000005",
		"a wrong 13th of 19":   "6205500000001000004",
		"a check digit in it":  "4111111111111117",
		"an underscored digit": "6_20000000000005",
	} {
		number, err := ParseNumber(text)
		require.Error(t, err, name)
		requireFault(t, err, fault.BadCard)
		require.Empty(t, number.Reveal())
	}
}

// checkDigit appends the digit of ISO/IEC 7812-1 to the digits given, by its table instead of by arithmetic.
func checkDigit(digits string) string {
	doubled := [10]int{0, 2, 4, 6, 8, 1, 3, 5, 7, 9}
	sum := 0
	for i, r := range digits {
		digit, _ := strconv.Atoi(string(r))
		if (len(digits)-i)%2 == 1 {
			digit = doubled[digit]
		}
		sum += digit
	}
	return digits + strconv.Itoa((10-sum%10)%10)
}

func TestOneCheckDigitInTenIsRight(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		right := checkDigit(rapid.StringMatching(`[0-9]{12,18}`).Draw(t, "digits"))
		number, err := ParseNumber(right)
		require.NoError(t, err)
		require.Equal(t, "****"+right[len(right)-4:], number.String())
		body, last := right[:len(right)-1], right[len(right)-1]
		for digit := byte('0'); digit <= '9'; digit++ {
			_, err := ParseNumber(body + string(digit))
			require.Equal(t, digit == last, err == nil)
		}
	})
}
