package unionpay

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAlphabets(t *testing.T) {
	t.Parallel()
	const (
		digits  = "0123456789"
		letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		special = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
	)
	for name, c := range map[string]struct {
		alphabet alphabet
		allowed  string
	}{
		"n": {typeN, digits}, "an": {typeAN, digits + letters}, "ns": {typeNS, digits + special}, "ans": {typeANS, digits + letters + special},
		"no such type": {alphabet(9), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for b := range 256 {
				require.Equal(t, strings.IndexByte(c.allowed, byte(b)) >= 0, c.alphabet.allows(byte(b)), "byte %d", b)
			}
		})
	}
}

// TestRulesAreThoseOfThePage repeats the request table of the interface page, so that a slip of the hand is seen.
func TestRulesAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule    rule
		longest string
		tooLong string
		empty   bool
		refused string
	}{
		"procType":      {ruleProcType, "A1", "A12", false, "A-"},
		"signCertId":    {ruleSignCertID, "aZ9", "aZ90", false, "a 1"},
		"encCertId":     {ruleEncCertID, "000", "0000", false, "0.0"},
		"insCode":       {ruleInsCode, "1001-20156_", "1001-20156_x", false, "1\x7f"},
		"pid":           {rulePID, "0123456789", "01234567890", false, "1.5"},
		"scenId":        {ruleScenID, "a-_~", "a-_~1", true, "é"},
		"localTimeZone": {ruleLocalTimeZone, "GMT+08:00", "GMT+08:000", false, "GMT\t"},
		"resvFld":       {ruleResvFld, strings.Repeat("x", 500), strings.Repeat("x", 501), true, "\n"},
		"userToken":     {ruleUserToken, strings.Repeat("a1", 25), strings.Repeat("a1", 25) + "b", false, "a_1"},
		"cardNo":        {ruleCardNo, "1234567890123456789", "12345678901234567890", false, "6200 0000"},
		"mobile":        {ruleMobile, "+82 (10) 5550-0199 ext. 123456", "+82 (10) 5550-0199 ext. 1234567", true, "\u00a0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, name, c.rule.name)
			require.True(t, c.rule.allows(c.longest), "longest")
			require.False(t, c.rule.allows(c.tooLong), "too long")
			require.Equal(t, c.empty, c.rule.allows(""), "empty")
			require.False(t, c.rule.allows(c.refused), "refused character")
			require.True(t, c.rule.optional().allows(""), "optional")
		})
	}
}

func TestRuleNeverTakesMoreThanItSays(t *testing.T) {
	t.Parallel()
	rules := []rule{ruleProcType, ruleInsCode, rulePID, ruleScenID, ruleUserToken, ruleCardNo, ruleMobile}
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.SampledFrom(rules).Draw(t, "rule")
		value := rapid.String().Draw(t, "value")
		allowed := len(value) <= r.max && (value != "" || !r.mandatory)
		for i := range len(value) {
			allowed = allowed && r.alphabet.allows(value[i])
		}
		if r.allows(value) != allowed {
			t.Fatalf("%s: %q", r.name, value)
		}
	})
}

func TestRuleSaysWhatItAsksFor(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1 to 10 digits", rulePID.String())
	require.Equal(t, "0 to 10 digits", rulePID.optional().String())
	require.Equal(t, "1 to 2 letters and digits", ruleProcType.String())
	require.Equal(t, "0 to 4 printable ASCII characters", ruleScenID.String())
	require.Equal(t, "0 to 15 digits and special characters", rule{"dayAmt", typeNS, 15, false}.String())
}
