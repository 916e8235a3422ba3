package proxy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	pub  = "PUB a.b 5\r\nhello\r\n"
	pubR = "PUB a.b _INBOX.1 0\r\n\r\n"
	hpub = "HPUB a.b _INBOX.2 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"
	msg  = "MSG a.b 9 $JS.ACK.S.c.2.7.3.99.0 2\r\nok\r\n"
	hmsg = "HMSG a.b 9 12 14\r\nNATS/1.0\r\n\r\nok\r\n"
)

func TestFrames(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wire string
		want Frame
	}{
		"publish":                  {pub, Frame{Op: "PUB", Subject: "a.b", Payload: []byte("hello")}},
		"publish with reply":       {pubR, Frame{Op: "PUB", Subject: "a.b", Reply: "_INBOX.1", Payload: []byte{}}},
		"publish with header":      {hpub, Frame{Op: "HPUB", Subject: "a.b", Reply: "_INBOX.2", Header: []byte("NATS/1.0\r\n\r\n"), Payload: []byte("hello")}},
		"delivery":                 {msg, Frame{Op: "MSG", Subject: "a.b", Reply: "$JS.ACK.S.c.2.7.3.99.0", Payload: []byte("ok")}},
		"delivery with header":     {hmsg, Frame{Op: "HMSG", Subject: "a.b", Header: []byte("NATS/1.0\r\n\r\n"), Payload: []byte("ok")}},
		"lower case and tabs":      {"pub\ta.b  1\r\nx\r\n", Frame{Op: "PUB", Subject: "a.b", Payload: []byte("x")}},
		"a line":                   {"PING\r\n", Frame{Op: "PING"}},
		"a line with words":        {"INFO {\"a\":1}\r\n", Frame{Op: "INFO"}},
		"an empty line":            {"\r\n", Frame{}},
		"payload with line ends":   {"PUB a 4\r\n\r\n\r\n\r\n", Frame{Op: "PUB", Subject: "a", Payload: []byte("\r\n\r\n")}},
		"no number":                {"PUB a x\r\nPING\r\n", Frame{}},
		"too large":                {"PUB a 99999999999\r\nPING\r\n", Frame{}},
		"header larger than whole": {"HPUB a 9 5\r\nPING\r\n", Frame{}},
		"too few words":            {"MSG a 5\r\nhello\r\n", Frame{}},
		"too many words":           {"PUB a b c 5\r\nhello\r\n", Frame{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &Parser{}
			frames := p.Feed([]byte(test.wire))
			require.Len(t, frames, 1)
			test.want.Raw = []byte(test.wire)
			require.Equal(t, test.want, frames[0])
			require.Empty(t, p.Rest())
		})
	}
}

func TestWhatIsNoProtocolPassesForEver(t *testing.T) {
	t.Parallel()
	p := &Parser{}
	require.Len(t, p.Feed([]byte("PUB a nonsense\r\n")), 1)
	frames := p.Feed([]byte(pub))
	require.Len(t, frames, 1)
	require.Equal(t, pub, string(frames[0].Raw))
	require.Empty(t, frames[0].Op)
	endless := &Parser{}
	require.Empty(t, endless.Feed(bytes.Repeat([]byte("x"), maxLine)))
	require.Len(t, endless.Feed([]byte("xx")), 1)
}

func TestFramesAreCopies(t *testing.T) {
	t.Parallel()
	p := &Parser{}
	wire := []byte(pub)
	frame := p.Feed(wire)[0]
	copy(wire, "????")
	p.Feed([]byte(strings.Repeat("-", 100)))
	require.Equal(t, pub, string(frame.Raw))
	require.Equal(t, "hello", string(frame.Payload))
}

func TestReadDelivery(t *testing.T) {
	t.Parallel()
	want := Delivery{Stream: "S", Consumer: "c", Number: 2, Sequence: 7}
	for subject, good := range map[string]bool{
		"$JS.ACK.S.c.2.7.3.99.0": true, "$JS.ACK._.hash.S.c.2.7.3.99.0": true, "$JS.ACK.hub.hash.S.c.2.7.3.99.0.token": true,
		"$JS.ACK.S.c.2.7": false, "$JS.ACK.S.c.x.7.3.99.0": false, "$JS.ACK.S.c.2.x.3.99.0": false, "_INBOX.1": false,
	} {
		got, ok := readDelivery(subject)
		require.Equal(t, good, ok, subject)
		if good {
			require.Equal(t, want, got, subject)
		}
	}
}

// FuzzParser holds for any bytes, however they are cut: nothing is lost, added or changed, and the frames are the same.
func FuzzParser(f *testing.F) {
	for _, seed := range []string{
		pub + pubR + hpub, msg + hmsg + "PING\r\n", "INFO {}\r\n+OK\r\n-ERR 'x'\r\n", "PUB a 5\r\nhel", "HPUB a 99 5\r\n", "\r\n\n\r", "MSG", "PUB a -1\r\n",
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, wire []byte, step uint8) {
		whole, pieces := &Parser{}, &Parser{}
		at := whole.Feed(wire)
		var cut []Frame
		for rest := wire; len(rest) > 0; {
			n := min(len(rest), int(step%16)+1)
			cut = append(cut, pieces.Feed(rest[:n])...)
			rest = rest[n:]
		}
		require.Equal(t, string(wire), string(rawOf(at))+string(whole.Rest()))
		require.Equal(t, string(wire), string(rawOf(cut))+string(pieces.Rest()))
		for i := range min(len(at), len(cut)) {
			if at[i].Op == "" || cut[i].Op == "" {
				return // From here on it is no protocol, and pieces are as long as they come.
			}
			require.Equal(t, at[i], cut[i])
		}
	})
}

func rawOf(frames []Frame) []byte {
	var all []byte
	for _, frame := range frames {
		all = append(all, frame.Raw...)
	}
	return all
}

func BenchmarkParser(b *testing.B) {
	wire := []byte(strings.Repeat(hpub+"PING\r\n", 100))
	b.SetBytes(int64(len(wire)))
	p := &Parser{}
	for b.Loop() {
		p.Feed(wire)
	}
}
