package proxy

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a proxy between a test, which plays the client, and a listener, at which it plays the server.
type bundle struct {
	*Proxy

	server net.Listener

	mu     sync.Mutex
	events []Event
}

func setup(t *testing.T) *bundle {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	b := &bundle{server: server}
	b.Proxy, err = Start(t.Context(), Options{Target: server.Addr().String(), Observe: b.observe})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

func (b *bundle) observe(event Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event)
}

// told returns what was observed, without the connections.
func (b *bundle) told() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var told []Event
	for _, event := range b.events {
		if event.Kind != Opened {
			told = append(told, event)
		}
	}
	return told
}

// connect returns both ends of a connection through the proxy.
func (b *bundle) connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	opened := b.Opened()
	client, err := net.Dial("tcp", b.Addr())
	require.NoError(t, err)
	server, err = b.server.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	for _, end := range []net.Conn{client, server} {
		require.NoError(t, end.SetDeadline(time.Now().Add(20*time.Second)))
	}
	require.Eventually(t, func() bool { return b.Opened() > opened }, 5*time.Second, time.Millisecond)
	return client, server
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := conn.Write([]byte(text))
	require.NoError(t, err)
}

func read(t *testing.T, conn net.Conn, length int) string {
	t.Helper()
	buffer := make([]byte, length)
	_, err := io.ReadFull(conn, buffer)
	require.NoError(t, err)
	return string(buffer)
}

// rest reads until the connection ends and returns what came and how it ended.
func rest(conn net.Conn) (string, error) {
	text, err := io.ReadAll(conn)
	return string(text), err
}

func TestEveryByteArrives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client, server := b.connect(t)
	wire := strings.Repeat(pub+hpub+"PING\r\n", 50) + "no protocol at all"
	write(t, client, wire+"\n")
	require.Equal(t, wire+"\n", read(t, server, len(wire)+1))
	write(t, server, msg+hmsg)
	require.Equal(t, msg+hmsg, read(t, client, len(msg+hmsg)))
	write(t, client, "the last words are not whole")
	require.NoError(t, client.Close())
	got, err := rest(server)
	require.NoError(t, err)
	require.Equal(t, "the last words are not whole", got)
}

func TestWhatPassesIsToldInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client, server := b.connect(t)
	write(t, client, "PUB result _INBOX.1 1\r\nx\r\n")
	read(t, server, len("PUB result _INBOX.1 1\r\nx\r\n"))
	told := "MSG _INBOX.1 1 2\r\nok\r\n" + msg + "MSG _INBOX.other 1 0\r\n\r\n"
	write(t, server, told)
	require.Equal(t, told, read(t, client, len(told)))
	write(t, client, "PUB $JS.ACK.S.c.2.7.3.99.0 4\r\n+WPI\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.c _INBOX.2 0\r\n\r\n")
	require.Eventually(t, func() bool { return len(b.told()) == 5 }, 5*time.Second, time.Millisecond)
	var got []string
	for _, event := range b.told() {
		require.Equal(t, 1, event.Link)
		require.False(t, event.Stopped)
		got = append(got, [...]string{"opened", "published", "delivered", "settled", "replied"}[event.Kind]+" "+event.Subject)
	}
	require.Equal(t, []string{
		"published result", "replied result", "delivered a.b", "settled $JS.ACK.S.c.2.7.3.99.0", "published $JS.API.CONSUMER.MSG.NEXT.S.c",
	}, got)
	require.Equal(t, Delivery{Stream: "S", Consumer: "c", Number: 2, Sequence: 7}, b.told()[2].Delivery)
	require.Equal(t, b.told()[2].Delivery, b.told()[3].Delivery)
	require.Equal(t, "ok", string(b.told()[1].Payload))
}

// requireRefused fails if a new connection lives. The reset can come before the client knows that it is connected.
func (b *bundle) requireRefused(t *testing.T) {
	t.Helper()
	client, err := net.Dial("tcp", b.Addr())
	if err == nil {
		_, err = rest(client)
		_ = client.Close()
	}
	require.Error(t, err)
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Refuse(true)
	b.requireRefused(t)
	b.Refuse(false)
	b.connect(t)
	require.Equal(t, 1, b.Opened())
}

func TestReset(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client, server := b.connect(t)
	b.Reset()
	for _, end := range []net.Conn{client, server} {
		_, err := end.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

func TestSwallow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client, server := b.connect(t)
	b.Swallow(ToServer)
	write(t, client, pub)
	write(t, server, msg)
	require.Equal(t, msg, read(t, client, len(msg)), "the other way is open")
	require.NoError(t, server.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := server.Read(make([]byte, 1))
	var late net.Error
	require.True(t, errors.As(err, &late) && late.Timeout(), "nothing arrives and nothing ends: %v", err)
	require.NoError(t, client.Close())
	require.NoError(t, server.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = server.Read(make([]byte, 1))
	require.True(t, errors.As(err, &late) && late.Timeout(), "not even the end of the other side: %v", err)
	again, other := b.connect(t)
	write(t, again, pub)
	require.Equal(t, pub, read(t, other, len(pub)), "a new connection is whole")
}

func TestSilence(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client, server := b.connect(t)
	b.Silence(true)
	again, other := b.connect(t)
	write(t, client, pub)
	write(t, again, pub)
	write(t, other, msg)
	for _, end := range []net.Conn{client, server, again, other} {
		require.NoError(t, end.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := end.Read(make([]byte, 1))
		var late net.Error
		require.True(t, errors.As(err, &late) && late.Timeout(), "nothing arrives and nothing ends: %v", err)
	}
	b.Silence(false)
	for _, end := range []net.Conn{client, server, again, other} {
		require.NoError(t, end.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err := rest(end)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	client, server = b.connect(t)
	write(t, client, pub)
	require.Equal(t, pub, read(t, server, len(pub)))
}

func TestOpaque(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.options.Opaque = true
	b.SetRules(Rule{Kind: Published})
	client, server := b.connect(t)
	write(t, client, pub+"half a line")
	require.Equal(t, pub+"half a line", read(t, server, len(pub+"half a line")), "no line is waited for")
	require.Empty(t, b.told())
}

func TestDelayKeepsTheOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client, server := b.connect(t)
	b.Delay(30*time.Millisecond, 20*time.Millisecond)
	began := time.Now()
	for _, text := range []string{"A\r\n", "B\r\n", "C\r\n", "D\r\n"} {
		write(t, client, text)
	}
	require.Equal(t, "A\r\nB\r\nC\r\nD\r\n", read(t, server, 12))
	require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
}

func TestTrickle(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client, server := b.connect(t)
	b.Trickle(100)
	began := time.Now()
	write(t, client, "PING\r\nPONG\r\n")
	require.Equal(t, "PING\r\nPONG\r\n", read(t, server, 12))
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
}

func TestCutAfterEveryByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for n := range len(hpub) + 1 {
		client, server := b.connect(t)
		b.CutAfter(ToServer, n)
		write(t, client, hpub+pub)
		got, err := rest(server)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Equal(t, hpub[:n], got)
		_, err = rest(client)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	const ask, answer = "PUB result.x _INBOX.1 1\r\nx\r\n", "MSG _INBOX.1 1 2\r\nok\r\n"
	const ack, beat = "PUB $JS.ACK.S.c.2.7.3.99.0 _INBOX.9 4\r\n+ACK\r\n", "PUB $JS.ACK.S.c.2.7.3.99.0 4\r\n+WPI\r\n"
	for name, test := range map[string]struct {
		rule    Rule
		sent    []string
		arrived string
		cut     bool
	}{
		"cut before":          {Rule{Kind: Published, Prefix: "result."}, []string{"PING\r\n", ask}, "PING\r\n", true},
		"cut inside":          {Rule{Kind: Published, Prefix: "result.", Offset: 7}, []string{ask}, ask[:7], true},
		"cut behind":          {Rule{Kind: Published, Prefix: "result.", Offset: 1 << 20}, []string{ask}, ask, true},
		"drop":                {Rule{Kind: Published, Prefix: "result.", Drop: true}, []string{ask, pub}, pub, false},
		"another subject":     {Rule{Kind: Published, Prefix: "dead."}, []string{ask}, ask, false},
		"the second only":     {Rule{Kind: Published, Prefix: "result.", Drop: true, Every: 2}, []string{ask, ask, ask, pub}, ask + ask + pub, false},
		"once":                {Rule{Kind: Published, Prefix: "result.", Drop: true, Limit: 1}, []string{ask, ask}, ask, false},
		"an ack":              {Rule{Kind: Settled, Drop: true}, []string{beat, ack, pub}, beat + pub, false},
		"not what is settled": {Rule{Kind: Published, Drop: true}, []string{ack, ask}, ack, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.SetRules(test.rule)
			client, server := b.connect(t)
			write(t, client, strings.Join(test.sent, ""))
			if test.cut {
				got, err := rest(server)
				require.ErrorIs(t, err, syscall.ECONNRESET)
				require.Equal(t, test.arrived, got)
				require.Equal(t, 1, b.Struck())
				return
			}
			require.Equal(t, test.arrived, read(t, server, len(test.arrived)))
		})
	}
	t.Run("the answer is lost", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.SetRules(Rule{Kind: Replied, Prefix: "result.", Limit: 1})
		client, server := b.connect(t)
		write(t, client, ask)
		require.Equal(t, ask, read(t, server, len(ask)), "the server has it")
		write(t, server, msg+answer)
		got, err := rest(client)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Equal(t, msg, got)
		told := b.told()
		require.Equal(t, Replied, told[len(told)-1].Kind)
		require.True(t, told[len(told)-1].Stopped, "an answer that did not arrive must not count as one")
	})
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client, server := b.connect(t)
	b.Delay(time.Hour, 0)
	write(t, client, pub)
	write(t, server, msg)
	b.Close()
	_, err := rest(client)
	require.Error(t, err)
	_, err = net.Dial("tcp", b.Addr())
	require.Error(t, err)
}

func TestTheServerIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.server.Close())
	b.requireRefused(t)
	require.Zero(t, b.Opened())
}

func TestSweepCutsEveryPlace(t *testing.T) {
	t.Parallel()
	const ask = "PUB result.x _INBOX.1 1\r\nx\r\n"
	b := setup(t)
	const from = 3
	b.SetRules(Rule{Kind: Published, Prefix: "result.", Offset: from, Sweep: true, Limit: len(ask)})
	for n := from; n < from+len(ask); n++ {
		client, server := b.connect(t)
		write(t, client, ask)
		got, err := rest(server)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Equal(t, ask[:min(n, len(ask))], got)
	}
	require.Equal(t, len(ask), b.Struck())
	require.Equal(t, len(ask), b.Longest())
	client, server := b.connect(t)
	write(t, client, ask)
	require.Equal(t, ask, read(t, server, len(ask)), "the sweep is over")
}
