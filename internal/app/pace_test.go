package app

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
)

// TestPaceTellsAGuessedLimit shows what is stored of an account as operators read it.
func TestPaceTellsAGuessedLimit(t *testing.T) {
	t.Parallel()
	account := quota.Account{Provider: query.EasyPay, Name: defaultAccount}
	for name, test := range map[string]struct {
		state      *quota.State
		line, json string
	}{
		"not called yet": {nil, "", ""},
		"never throttled": {
			&quota.State{Rate: 125}, "; now at 125/s", `, "rate": 125`,
		},
		"throttled": {
			&quota.State{Rate: 102.6, Knee: 108}, "; now at 102.6/s, throttled at 108/s", `, "rate": 102.6, "throttledAt": 108`,
		},
		"guessed": {
			&quota.State{Rate: 102.6, Knee: 108, Guessed: true}, "; now at 102.6/s, limit guessed at 108/s",
			`, "rate": 102.6, "throttledAt": 108, "guessed": true`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &Pace{accounts: map[quota.Account]quota.Settings{account: {Ceiling: 1000}}}
			status := p.status(quota.View{Account: account, State: test.state})
			require.Equal(t, "easypay/default          1000/s, as configured"+test.line, status.String())
			printed, err := json.Marshal(status)
			require.NoError(t, err)
			require.JSONEq(t, `{"account": "easypay/default", "configured": 1000, "paused": false`+test.json+`}`, string(printed))
		})
	}
}
