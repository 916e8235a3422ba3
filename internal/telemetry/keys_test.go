package telemetry

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
)

func TestKeyMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1", both())
	keys := NewKeyMetrics(m.Registry(), "cards", "tls")
	keys.Expect("a", "b")
	got := values(t, m)
	for _, name := range []string{
		"sealed_opened_total{kid=a}", "sealed_opened_total{kid=b}", "sealed_opened_total{kid=unknown}",
		"key_reloads_total{outcome=replaced,source=cards}", "key_reloads_total{outcome=refused,source=cards}",
		"key_reloads_total{outcome=replaced,source=tls}", "key_reloads_total{outcome=refused,source=tls}",
	} {
		require.Contains(t, got, name, "it exists at zero")
		require.Zero(t, got[name])
	}
	keys.Opened("a")
	keys.Opened("a")
	keys.Opened("unknown")
	keys.Reloaded("cards", true)
	keys.Reloaded("tls", false)
	keys.Expect("a")
	got = values(t, m)
	require.InDelta(t, 2, got["sealed_opened_total{kid=a}"], 0, "expecting it again changes nothing")
	require.InDelta(t, 1, got["sealed_opened_total{kid=unknown}"], 0)
	require.InDelta(t, 1, got["key_reloads_total{outcome=replaced,source=cards}"], 0)
	require.InDelta(t, 1, got["key_reloads_total{outcome=refused,source=tls}"], 0)
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}
