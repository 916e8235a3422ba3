package publish

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	auditor := &Auditor{JS: b.Server.JS, Subjects: query.NewSubjects("discount"), Stream: "DISCOUNT_AUDIT", Timeout: 5 * time.Second}
	record := query.AuditData{Action: query.AuditPacePause, Actor: "kim@ops-1", Target: "easypay/default", Reason: "key exchange", After: "paused"}
	require.NoError(t, auditor.Audit(within(t), "one", time.Now(), record))
	require.NoError(t, auditor.Audit(within(t), "one", time.Now(), record), "the same record again is the same record")
	require.EqualValues(t, 1, b.state("DISCOUNT_AUDIT").Msgs)
	message := b.last("DISCOUNT_AUDIT", "discount.audit.pace.pause")
	var event struct {
		ID      string          `json:"id"`
		Type    string          `json:"type"`
		Subject string          `json:"subject"`
		Data    query.AuditData `json:"data"`
	}
	require.NoError(t, json.Unmarshal(message.Data, &event))
	require.Equal(t, "one", event.ID)
	require.Equal(t, query.TypeAudit, event.Type)
	require.Equal(t, "easypay/default", event.Subject)
	require.Equal(t, record, event.Data)

	require.NoError(t, b.Server.JS.DeleteStream(t.Context(), "DISCOUNT_AUDIT"))
	err := auditor.Audit(within(t), "two", time.Now(), record)
	require.ErrorContains(t, err, "nothing was done")
	require.Equal(t, fault.NotStored, fault.CodeOf(err))
}
