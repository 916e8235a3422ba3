package deadletter

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// withKey returns a letter's event as that of the same query of another client.
func withKey(t *testing.T, letter Letter, client string) []byte {
	t.Helper()
	var event map[string]any
	require.NoError(t, json.Unmarshal(letter.event, &event))
	asked := event["data"].(map[string]any)["query"].(map[string]any)
	asked["client"], asked["key"] = client, query.Key(client, letter.Query.Source, letter.Query.ID)
	changed, err := json.Marshal(event)
	require.NoError(t, err)
	return changed
}
