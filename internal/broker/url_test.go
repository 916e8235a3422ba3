package broker

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for raw, shown := range map[string]string{
		"nats://127.0.0.1:4222":                         "nats://127.0.0.1:4222",
		"127.0.0.1:4222":                                "127.0.0.1:4222",
		"localhost":                                     "localhost",
		"tls://user:secret@nats.example:4222":           "tls://***@nats.example:4222",
		"nats://token@nats.example":                     "nats://***@nats.example",
		"user:secret@nats.example:4222":                 "***@nats.example:4222",
		"ws://nats.example/path?token=secret":           "ws://nats.example",
		"nats://a:1, nats://u:secret@b:2":               "nats://a:1,nats://***@b:2",
		"nats://u:sec,ret@b:2":                          "(unreadable),***@b:2",
		"nats://u:1,2,3,secret@b:2":                     "(unreadable),(unreadable),(unreadable),***@b:2",
		"nats://u:12,secret@b:2":                        "(unreadable),***@b:2",
		"nats://us er:secret@b":                         "(unreadable)",
		"nats://u:se%zzcret@b":                          "(unreadable)",
		"":                                              "(unreadable)",
		"nats://user:sec/ret@b:2":                       "(unreadable)",
		"nats://[::1]:4222":                             "nats://[::1]:4222",
		"nats://user:secret@[::1]:4222":                 "nats://***@[::1]:4222",
		"nats://user:secret@host:4222#fragment":         "nats://***@host:4222",
		"nats://user:secret@first:1,other:secret@two:2": "(unreadable),***@two:2",
	} {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, shown, RedactURL(raw))
		})
	}
}

// FuzzRedactURL builds URLs around a password and looks for it in what is shown.
func FuzzRedactURL(f *testing.F) {
	f.Add("user", "p,w")
	f.Add("", "a@b")
	f.Add("u", "x/y?z#")
	f.Add("u", "12,://")
	f.Add("0", ":#")
	f.Add("u:1,2,3", "")
	f.Fuzz(func(t *testing.T, user, tail string) {
		const secret = "hunter2canary"
		escaped := url.UserPassword(user, secret+tail)
		require.NotContains(t, RedactURL("nats://"+escaped.String()+"@nats.example:4222"), secret)
		for _, raw := range []string{"nats://" + user + ":" + secret + tail + "@h:1", user + ":" + secret + tail + "@h:1"} {
			require.NotContains(t, RedactURL(raw), secret, raw)
		}
	})
}
