package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// outside holds an Opaque in every way a struct can, as a careless line of a log might.
type outside struct {
	Public  Opaque
	Pointer *Opaque
	Any     any
	List    []Opaque
	Map     map[string]Opaque
	inner   Opaque
	deeper  *struct{ o Opaque }
}

func TestOpaqueIsNeverPrinted(t *testing.T) {
	t.Parallel()
	o := Conceal([]byte(cardNumber))
	q := full()
	q.UnionPay = &UnionPayQuestion{PID: "1", Data: o}
	holder := outside{o, &o, o, []Opaque{o}, map[string]Opaque{"a": o}, o, &struct{ o Opaque }{o}}
	for _, v := range []any{o, &o, []Opaque{o}, holder, &holder, q, *q, q.UnionPay, *q.UnionPay, q.Asked(), fmt.Errorf("%v", o), errors.New(o.String())} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%c", "%U", "%t", "%p", "%e", "%y"} {
			requireConcealed(t, fmt.Sprintf(verb, v))
		}
		one, err := json.Marshal(v)
		require.NoError(t, err)
		requireConcealed(t, string(one))
		two, err := jsonv2.Marshal(v)
		requireConcealed(t, string(two)+fmt.Sprint(err))
		line, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{}).EncodeEntry(zapcore.Entry{}, []zapcore.Field{zap.Any("a", v), zap.Reflect("b", v)})
		require.NoError(t, err)
		requireConcealed(t, line.String())
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("a", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("a", "v", v)
		requireConcealed(t, log.String())
	}
	text, err := json.Marshal(o)
	require.NoError(t, err)
	require.Equal(t, `"[concealed]"`, string(text))
}

// requireConcealed checks that text shows the card number in no form in which fmt and the encoders write bytes.
func requireConcealed(t *testing.T, text string) {
	t.Helper()
	decimals := fmt.Sprint([]byte(cardNumber))
	for _, form := range []string{
		cardNumber, fmt.Sprintf("%x", cardNumber), fmt.Sprintf("%X", cardNumber), decimals[1 : len(decimals)-1], fmt.Sprintf("%b", []byte(cardNumber)),
		fmt.Sprintf("%o", []byte(cardNumber)), "NjIwMDAwMDAwMDAwMDAwNQ", "0x36, 0x32, 0x30",
	} {
		require.NotContains(t, text, form)
	}
}

func TestOpaqueReveals(t *testing.T) {
	t.Parallel()
	require.Equal(t, []byte(cardNumber), Conceal([]byte(cardNumber)).Reveal())
	require.Nil(t, Opaque{}.Reveal())
	require.Nil(t, Conceal(nil).Reveal())
	require.Equal(t, "[concealed]", Opaque{}.String())
}
