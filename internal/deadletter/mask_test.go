package deadletter

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHide(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		in     string
		want   string
		hidden int
	}{
		"nothing to hide":      {`{"mallId":"T5102001","amount":51004}`, `{"mallId":"T5102001","amount":51004}`, 0},
		"a card number":        {`{"x":"6200000000000005"}`, `{"x":"[hidden 1]"}`, 1},
		"with blanks":          {`{"x":"6200 0000 0000 0005"}`, `{"x":"[hidden 1]"}`, 1},
		"with dashes":          {`["6200-0000-0000-0005"]`, `["[hidden 1]"]`, 1},
		"as a number":          {`{"x":6200000000000005}`, `{"x":"[hidden 1]"}`, 1},
		"within a text":        {`"card 6200000000000005!"`, `"[hidden 1]"`, 1},
		"within longer digits": {`"9996200000000000005"`, `"[hidden 1]"`, 1},
		"escaped":              {`"\u0036200000000000005"`, `"[hidden 1]"`, 1},
		"by their names":       {`{"cardNo":"1","user_token":"t","Mobile":3,"a":{"CVV":null}}`, `{"cardNo":"[hidden 1]","user_token":"[hidden 2]","Mobile":"[hidden 3]","a":{"CVV":"[hidden 4]"}}`, 4},
		"a whole object":       {`{"pan":{"a":["6200000000000005"]},"b":1}`, `{"pan":"[hidden 1]","b":1}`, 1},
		"a wrong check digit":  {`{"x":"6200000000000006"}`, `{"x":"[hidden 1]"}`, 1},
		"too short":            {`{"x":"620000000000"}`, `{"x":"620000000000"}`, 0},
		"a sealed text":        {`{"data":"eyJh.bc.de.fg.hi"}`, `{"data":"eyJh.bc.de.fg.hi"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := hide([]byte(test.in))
			require.NoError(t, err)
			require.JSONEq(t, test.want, string(m.text))
			require.Len(t, m.secrets, test.hidden)
			back, err := m.restore(m.text)
			require.NoError(t, err)
			require.JSONEq(t, test.in, string(back))
		})
	}
}

func TestHideRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"nothing": "", "half": `{"a":`, "two values": `{} {}`, "twice the same name": `{"a":1,"a":2}`, "not UTF-8": "\"\xff\"",
		"a card number as a name": `{"6200000000000005":1}`, "too deep": strings.Repeat("[", 500) + strings.Repeat("]", 500),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := hide([]byte(in))
			require.ErrorIs(t, err, errNotMaskable)
			require.NotContains(t, err.Error(), "6200")
		})
	}
}

func TestRestoreOfAnEditedText(t *testing.T) {
	t.Parallel()
	m, err := hide([]byte(`{"cardNo":"6200000000000005","pid":"1","userToken":"t"}`))
	require.NoError(t, err)
	back, err := m.restore([]byte(`{"pid":"2","b":"[hidden 2]","a":"[hidden 1]","c":"[hidden 3]"}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"pid":"2","b":"t","a":"6200000000000005","c":"[hidden 3]"}`, string(back))
	_, err = m.restore([]byte(`{`))
	require.ErrorIs(t, err, errNotMaskable)
}

func TestOutline(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"xxxxxx": "xxxxxxxxxxxxxxxx", "xxxxx": "x?x"`+"\n", outline([]byte(`{"cardNo": "6200000000000005", "token": "é`+"\x00"+`b"`+"\n")))
}

func FuzzHide(f *testing.F) {
	for _, seed := range []string{
		`{"cardNo":"6200000000000005","userToken":"abc","mobile":"+86"}`, `["6200 0000 0000 0005",6200000000000005]`, `"\u0036200000000000005"`, `{"a":{"pan":[1,{}]}}`, `1`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if holdsCard(outline(in)) {
			t.Fatal("a card number in an outline")
		}
		m, err := hide(in)
		if err != nil {
			return
		}
		require.True(t, json.Valid(m.text))
		require.NotContains(t, string(m.text), "6200000000000005")
		again, err := hide(m.text)
		require.NoError(t, err)
		for _, literal := range again.secrets {
			require.Contains(t, string(literal), "[hidden ", "what is masked holds nothing else to hide")
		}
		back, err := m.restore(m.text)
		require.NoError(t, err)
		second, err := hide(back)
		require.NoError(t, err)
		require.Equal(t, string(m.text), string(second.text), "nothing gets lost on the way and back")
	})
}
