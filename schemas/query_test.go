package schemas_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/schemas"
)

// compactJWE has the form of a sealed text. Its parts mean nothing.
const compactJWE = "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyJ9.a2V5.aXY.Y2lwaGVydGV4dA.dGFn"

type queryCase struct{ data, want string }

func TestValidateEasyPayQuery(t *testing.T) {
	t.Parallel()
	runQueryCases(t, "easypay", map[string]queryCase{
		"the page's example":      {`{"mallId":"T0001234","cardBin":"12345678","amount":"51004"}`, ""},
		"nothing but defaults":    {`{}`, ""},
		"code with letters":       {`{"cardCd":"A16"}`, ""},
		"amount as number":        {`{"amount":51004}`, ""},
		"amount as whole double":  {`{"amount":51004.0}`, ""},
		"largest number":          {`{"amount":999999999999}`, ""},
		"largest text":            {`{"amount":"999999999999"}`, ""},
		"number too large":        {`{"amount":1000000000000}`, "at '/amount': maximum"},
		"number beyond int64":     {`{"amount":18446744073709551615}`, "at '/amount': maximum"},
		"number beyond uint64":    {`{"amount":28446744073709551615}`, "at '/amount': maximum"},
		"text too large":          {`{"amount":"1000000000000"}`, "at '/amount': pattern"},
		"zero":                    {`{"amount":0}`, "at '/amount': minimum"},
		"zero as text":            {`{"amount":"0"}`, "at '/amount': pattern"},
		"negative":                {`{"amount":-1}`, "at '/amount': minimum"},
		"fraction":                {`{"amount":51004.5}`, "at '/amount': type"},
		"fraction as text":        {`{"amount":"51004.5"}`, "at '/amount': pattern"},
		"leading zeros":           {`{"amount":"0051004"}`, "at '/amount': pattern"},
		"amount is null":          {`{"amount":null}`, "at '/amount': type"},
		"code and BIN":            {`{"cardCd":"026","cardBin":"12345678"}`, "at '': not"},
		"code as number":          {`{"cardCd":26}`, "at '/cardCd': type"},
		"code in lower case":      {`{"cardCd":"a16"}`, "at '/cardCd': pattern"},
		"BIN of six":              {`{"cardBin":"123456"}`, "at '/cardBin': pattern"},
		"whole card number":       {`{"cardBin":"4111111111111111"}`, "at '/cardBin': pattern"},
		"BIN in other digits":     {`{"cardBin":"１２３４５６７８"}`, "at '/cardBin': pattern"},
		"BIN with a line end":     {`{"cardBin":"12345678\n"}`, "at '/cardBin': pattern"},
		"short merchant":          {`{"mallId":"T000123"}`, "at '/mallId': pattern"},
		"empty merchant":          {`{"mallId":""}`, "at '/mallId': pattern"},
		"misspelt":                {`{"mallID":"T0001234"}`, "at '': additionalProperties"},
		"card number beside":      {`{"cardNo":"4111111111111111"}`, "at '': additionalProperties"},
		"card number as a name":   {`{"4111111111111111":1}`, "at '': additionalProperties"},
		"two faults, first place": {`{"cardCd":"x","amount":"x"}`, "at '/amount': pattern"},
		"list":                    {`[]`, "at '': type"},
		"null":                    {`null`, "at '': type"},
		"text":                    {`"x"`, "at '': type"},
	})
}

func TestValidateUnionPayQuery(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a", 8192-8) + ".b.c.d.e"
	runQueryCases(t, "unionpay", map[string]queryCase{
		"sealed":             {`{"pid":"1234567890","scenId":"0001","data":"` + compactJWE + `"}`, ""},
		"sealed alone":       {`{"data":"` + compactJWE + `"}`, ""},
		"no encrypted key":   {`{"data":"e30..aXY.Yw.dGFn"}`, ""},
		"longest":            {`{"data":"` + longest + `"}`, ""},
		"too long":           {`{"data":"a` + longest + `"}`, "at '/data': maxLength"},
		"four parts":         {`{"data":"a.b.c.d"}`, "at '/data': pattern"},
		"six parts":          {`{"data":"a.b.c.d.e.f"}`, "at '/data': pattern"},
		"white space":        {`{"data":"a.b.c.d.e "}`, "at '/data': pattern"},
		"other base64":       {`{"data":"a+.b.c.d.e="}`, "at '/data': pattern"},
		"empty":              {`{"data":""}`, "at '/data': pattern"},
		"plain":              {`{"data":{"userToken":"c0ffee","cardNo":"6200000000000005","mobile":"+852 5550 0100"}}`, ""},
		"plain, no mobile":   {`{"data":{"userToken":"c0ffee","cardNo":"6200000000000005"}}`, ""},
		"plain, no card":     {`{"data":{"userToken":"c0ffee"}}`, "at '/data': required"},
		"plain, odd card":    {`{"data":{"userToken":"c0ffee","cardNo":"6200 0000 0000 0005"}}`, "at '/data/cardNo': pattern"},
		"plain, long token":  {`{"data":{"userToken":"` + strings.Repeat("a", 51) + `","cardNo":"6200000000000005"}}`, "at '/data/userToken': pattern"},
		"plain, long mobile": {`{"data":{"userToken":"a","cardNo":"6200000000000005","mobile":"` + strings.Repeat("1", 31) + `"}}`, "at '/data/mobile': pattern"},
		"plain, more":        {`{"data":{"userToken":"a","cardNo":"6200000000000005","cvv2":"123"}}`, "at '/data': additionalProperties"},
		"number":             {`{"data":6200000000000005}`, "at '/data': type"},
		"no data":            {`{"pid":"1234567890"}`, "at '': required"},
		"long offer":         {`{"pid":"12345678901","data":"` + compactJWE + `"}`, "at '/pid': pattern"},
		"offer as number":    {`{"pid":1234567890,"data":"` + compactJWE + `"}`, "at '/pid': type"},
		"long scenario":      {`{"scenId":"00001","data":"` + compactJWE + `"}`, "at '/scenId': pattern"},
		"card beside":        {`{"cardNo":"6200000000000005","data":"` + compactJWE + `"}`, "at '': additionalProperties"},
	})
}

func runQueryCases(t *testing.T, provider string, cases map[string]queryCase) {
	t.Helper()
	b := setup(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := b.set.ValidateQuery(provider, []byte(c.data))
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.want)
			violation, ok := err.(*schemas.Violation) //nolint:errorlint // The documented type, not a wrapped one.
			require.True(t, ok)
			require.NotEmpty(t, violation.Keyword)
		})
	}
}

func TestValidateQueryRefusesWhatIsNotStrictJSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, data := range map[string]string{
		"nothing":             ``,
		"cut":                 `{"amount":`,
		"after the value":     `{} {}`,
		"duplicate name":      `{"amount":1,"amount":2}`,
		"escaped duplicate":   `{"amount":1,"\u0061mount":2}`,
		"invalid UTF-8":       "{\"mallId\":\"T000123\xff\"}",
		"lone surrogate":      `{"mallId":"T000123\ud800"}`,
		"deep list":           strings.Repeat("[", 100_000),
		"deep and closed":     strings.Repeat("[", 40) + strings.Repeat("]", 40),
		"deep object":         strings.Repeat(`{"data":`, 40) + `1` + strings.Repeat("}", 40),
		"huge exponent":       `{"amount":1e999999999}`,
		"large exponent":      `{"amount":1e999}`,
		"long number":         `{"amount":` + strings.Repeat("9", 65) + `}`,
		"number in other way": `{"amount":0x10}`,
		"not a number":        `{"amount":NaN}`,
		"comment":             `{} // x`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.EqualError(t, b.set.ValidateQuery("easypay", []byte(data)), "at '': json")
			require.EqualError(t, b.set.Validate("cloudevent.v1.json", []byte(data)), "at '': json")
		})
	}
}

// A tiny exponent is a double of zero, and costs nothing.
func TestTinyNumber(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.EqualError(t, b.set.ValidateQuery("easypay", []byte(`{"amount":1e-999999999}`)), "at '/amount': minimum")
}

func TestUnknownProvider(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, provider := range []string{"", "none", "EasyPay", "6200000000000005"} {
		err := b.set.ValidateQuery(provider, []byte(`{}`))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "6200000000000005")
	}
}

// One set serves all goroutines; the race detector watches, and no document may leak into another's verdict.
func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 500 {
				if i%2 == 0 {
					if err := b.set.ValidateQuery("easypay", []byte(`{"cardCd":"026","amount":51004}`)); err != nil {
						t.Error(err)
					}
				} else if err := b.set.ValidateQuery("unionpay", []byte(`{"data":"a.b.c.d"}`)); err == nil || err.Error() != "at '/data': pattern" {
					t.Error("unionpay", err)
				}
			}
		})
	}
	group.Wait()
}
