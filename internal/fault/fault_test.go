package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"pgregory.net/rapid"
)

// cardNumber is a published test number, never anybody's card.
const cardNumber = "6200000000000005"

// spoken is an error whose whole value is its text, so that every verb of fmt could print it.
type spoken string

func (s spoken) Error() string { return string(s) }

// causes returns foreign errors of the kinds that repeat their input.
func causes(secret string) map[string]error {
	_, numErr := strconv.Atoi(secret + "x")
	_, timeErr := time.Parse(time.RFC3339, secret)
	var small int8
	typeErr := json.Unmarshal([]byte(secret), &small)
	return map[string]error{
		"a URL":         &url.Error{Op: "Get", URL: "https://upstream.test/?card=" + secret, Err: io.EOF},
		"a number":      numErr,
		"a time":        timeErr,
		"a JSON type":   typeErr,
		"a plain error": errors.New(secret),
		"a text":        spoken(secret),
		"wrapped":       fmt.Errorf("call: %w", spoken(secret)),
		"joined":        errors.Join(io.EOF, spoken(secret)),
	}
}

func TestEveryKindHasAName(t *testing.T) {
	t.Parallel()
	want := map[Kind]string{
		Unknown: "unknown", Malformed: "malformed", Rejected: "rejected", Throttled: "throttled", Unavailable: "unavailable",
		Unauthorized: "unauthorized", Expired: "expired", Interrupted: "interrupted", Duplicate: "duplicate",
	}
	require.Len(t, Kinds(), len(want))
	for i, kind := range Kinds() {
		require.Equal(t, Kind(i), kind)
		require.NotEmpty(t, kind.String())
		require.Equal(t, want[kind], kind.String())
	}
	require.Equal(t, "unknown", Kind(len(want)).String(), "a kind beyond the list")
	require.Equal(t, "unknown", Kind(255).String())
	var forgotten Kind
	require.Equal(t, Unknown, forgotten)
}

func TestKindsAreACopy(t *testing.T) {
	t.Parallel()
	Kinds()[0] = Duplicate
	require.Equal(t, Unknown, Kinds()[0])
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]*Error{
		"easypay: read response: unavailable (bad_response)": New("easypay: read response", Unavailable, BadResponse),
		"decode: malformed":                        New("decode", Malformed, ""),
		"seal: unknown (signing_failed)":           Because("seal", Unknown, SigningFailed, io.EOF),
		"call: throttled (rate_limited)":           {Op: "call", Kind: Throttled, Code: RateLimited, Upstream: "R102", Status: 429, After: time.Second, Sent: true},
		": unknown":                                {},
		"x: duplicate (already_answered)":          From("y", New("x", Duplicate, AlreadyAnswered)),
		"foreign: unknown (unclassified)":          From("foreign", errors.New(cardNumber)),
		"foreign: interrupted (unclassified)":      From("foreign", context.Canceled),
		"foreign: unavailable (unclassified)":      From("foreign", context.DeadlineExceeded),
		"ask: malformed (unsupported_type)":        From("y", fmt.Errorf("outer: %w", New("ask", Malformed, UnsupportedType))),
		"wait for pace: expired (deadline_passed)": Because("wait for pace", Expired, DeadlinePassed, context.Canceled),
	} {
		require.Equal(t, want, err.Error())
	}
}

// A cause stays reachable for errors.Is and errors.As, and unreachable for whatever prints or marshals.
func TestCauseIsNeverPrinted(t *testing.T) {
	t.Parallel()
	for name, cause := range causes(cardNumber) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, cause.Error(), cardNumber, "the cause must be one that leaks")
			err := Because("call", Unavailable, Connect, cause)
			require.ErrorIs(t, err, cause)
			for _, shown := range shown(t, err) {
				require.NotContains(t, shown, cardNumber)
			}
			require.NotContains(t, From("read", fmt.Errorf("call: %w", err)).Error(), cardNumber)
			require.NotContains(t, From("read", cause).Error(), cardNumber)
		})
	}
}

// shown returns err in every way in which a program shows things.
func shown(t *testing.T, err *Error) []string {
	t.Helper()
	type holder struct {
		Fault *Error
		Err   error
		inner *Error
	}
	var all []string
	for _, verb := range []string{"%s", "%q", "%x", "%X", "%d", "%t", "%p"} {
		all = append(all, fmt.Sprintf(verb, err))
	}
	for _, v := range []any{err, error(err), fmt.Errorf("outer: %w", err), holder{err, err, err}, &holder{err, err, err}, []error{err}, map[string]any{"e": err}} {
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			all = append(all, fmt.Sprintf(verb, v))
		}
		one, e := json.Marshal(v)
		require.NoError(t, e)
		two, refused := jsonv2.Marshal(v) // It refuses errors of the standard library, in words that are read too.
		line, e := zapcore.NewJSONEncoder(zapcore.EncoderConfig{}).EncodeEntry(zapcore.Entry{}, []zapcore.Field{
			zap.Error(err), zap.Any("any", v), zap.Reflect("reflect", v),
		})
		require.NoError(t, e)
		all = append(all, string(one), string(two), fmt.Sprint(refused), line.String())
	}
	return all
}

func TestTextIsMadeOfClosedWordsOnly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[0-9]{13,19}`).Draw(t, "secret")
		kind := rapid.SampledFrom(Kinds()).Draw(t, "kind")
		err := Because("call", kind, BadEcho, fmt.Errorf("upstream said %s: %w", secret, spoken(secret)))
		require.Equal(t, "call: "+kind.String()+" (bad_echo)", err.Error())
		require.Equal(t, err.Error(), fmt.Sprintf("%#v", err))
	})
}

func TestIsAndAs(t *testing.T) {
	t.Parallel()
	cause := &url.Error{Op: "Get", URL: "https://upstream.test", Err: context.DeadlineExceeded}
	err := fmt.Errorf("round: %w", Because("call", Unavailable, Timeout, cause))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
	var asURL *url.Error
	require.ErrorAs(t, err, &asURL)
	require.Same(t, cause, asURL)
	var asFault *Error
	require.ErrorAs(t, err, &asFault)
	require.Equal(t, Timeout, asFault.Code)
	require.NoError(t, New("call", Unavailable, Timeout).Unwrap())
}

func TestKindCodeAndFrom(t *testing.T) {
	t.Parallel()
	inner := New("inner", Rejected, BadCard)
	nested := Because("outer", Throttled, "", inner)
	for name, c := range map[string]struct {
		err  error
		kind Kind
		code Code
		same *Error
	}{
		"nothing":                   {nil, Unknown, Unclassified, nil},
		"a fault":                   {inner, Rejected, BadCard, inner},
		"a wrapped fault":           {fmt.Errorf("a: %w", inner), Rejected, BadCard, inner},
		"a joined fault":            {errors.Join(io.EOF, inner), Rejected, BadCard, inner},
		"the outer of two":          {nested, Throttled, Unclassified, nested},
		"a fault without code":      {New("a", Expired, ""), Expired, Unclassified, nil},
		"a fault over cancellation": {Because("a", Malformed, BadJSON, context.Canceled), Malformed, BadJSON, nil},
		"cancellation":              {context.Canceled, Interrupted, Unclassified, nil},
		"wrapped cancellation":      {fmt.Errorf("a: %w", context.Canceled), Interrupted, Unclassified, nil},
		"a deadline":                {context.DeadlineExceeded, Unavailable, Unclassified, nil},
		"wrapped deadline":          {&url.Error{Op: "Get", URL: "x", Err: context.DeadlineExceeded}, Unavailable, Unclassified, nil},
		"something foreign":         {io.EOF, Unknown, Unclassified, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.kind, KindOf(c.err))
			require.Equal(t, c.code, CodeOf(c.err))
			got := From("op", c.err)
			require.Equal(t, c.kind, got.Kind)
			if c.same != nil {
				require.Same(t, c.same, got)
			}
			if c.err != nil {
				require.True(t, errors.Is(got, c.err) || errors.Is(c.err, got), "the chain is kept")
			}
		})
	}
	require.Equal(t, "op", From("op", io.EOF).Op)
	require.Equal(t, Unclassified, From("op", io.EOF).Code)
}

// Codes stand in subjects, labels and events: one lower-case word each, and no two alike.
func TestCodesAreWords(t *testing.T) {
	t.Parallel()
	seen := map[Code]bool{}
	for _, code := range []Code{
		Unclassified, BadSubject, BadEnvelope, BadJSON, BadSchema, BadField, TooLarge, UnsupportedType, BadSeal, UnknownKey, SealMismatch,
		PlainCard, BadCard, ForbiddenCardData, DeadlinePassed, Horizon, CrashLoop, Panicked, Connect, DNS, TLS, Timeout, ConnectionLost,
		HTTPStatus, Redirect, BadResponse, BadSignature, BadEcho, GatewayRefused, UpstreamBusy, UpstreamBroken, UpstreamConfig, RateLimited,
		BreakerOpen, SigningFailed, Stopped, NotStored, AlreadyAnswered, BrokerUnreachable, BrokerRefused,
	} {
		require.Regexp(t, `^[a-z][a-z_]{1,38}[a-z]$`, string(code))
		require.False(t, strings.Contains(string(code), "__") || seen[code], code)
		seen[code] = true
	}
}

func TestParseKind(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		require.Equal(t, kind, ParseKind(kind.String()))
	}
	require.Equal(t, Unknown, ParseKind(""))
	require.Equal(t, Unknown, ParseKind("Rejected"))
}
