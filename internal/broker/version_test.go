package broker

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

func TestVersionAtLeast(t *testing.T) {
	t.Parallel()
	for version, ok := range map[string]bool{
		"2.14.1":              true,
		"2.14.2":              true,
		"2.15.0":              true,
		"3.0.0":               true,
		"10.0.0":              true,
		"v2.14.1":             true,
		"2.14.1+build.5":      true,
		"2.14.10":             true,
		"2.15.0-RC.1":         true,
		"2.14.2-dev":          true,
		"2.14.0":              false,
		"2.14.1-RC.1":         false,
		"2.14.1-beta+x":       false,
		"2.12.15":             false,
		"2.9.99":              false,
		"1.99.99":             false,
		"":                    false,
		"2.15":                false,
		"2.15.x":              false,
		"two.fifteen.two":     false,
		"2.14.1.1":            false,
		"-2.14.1":             false,
		"2.99999999999999.1":  false,
		"2.14.1 or something": false,
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, ok, versionAtLeast(version, MinServerVersion))
		})
	}
}

func TestRecommendedIsWhatIsEmbedded(t *testing.T) {
	t.Parallel()
	require.True(t, Recommended(RecommendedServerVersion))
	require.True(t, Recommended(server.VERSION))
	require.False(t, Recommended(MinServerVersion))
}

func FuzzVersion(f *testing.F) {
	for _, seed := range []string{"2.15.2", "2.15.2-RC.1+5", "", "...", "v", "1.2.3-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, version string) {
		if versionAtLeast(version, RecommendedServerVersion) {
			require.True(t, versionAtLeast(version, MinServerVersion), "what is new enough for one is new enough for an older one")
		}
	})
}
