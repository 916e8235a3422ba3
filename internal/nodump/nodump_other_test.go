//go:build !linux

package nodump_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/nodump"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestForbidIsNoErrorElsewhere(t *testing.T) {
	t.Parallel()
	require.NoError(t, nodump.Forbid())
}
