package easypay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

func TestNewRefusesOptions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Options)
		names  string
	}{
		"no address":           {func(o *Options) { o.BaseURL = "" }, "BaseURL"},
		"no scheme":            {func(o *Options) { o.BaseURL = "pgapi.easypay.co.kr" }, "BaseURL"},
		"another scheme":       {func(o *Options) { o.BaseURL = "ftp://pgapi.easypay.co.kr" }, "BaseURL"},
		"address with a user":  {func(o *Options) { o.BaseURL = "https://me:pw@pgapi.easypay.co.kr" }, "BaseURL"},
		"address with a query": {func(o *Options) { o.BaseURL = "https://pgapi.easypay.co.kr?a=b" }, "BaseURL"},
		"broken address":       {func(o *Options) { o.BaseURL = "https://[::1" }, "BaseURL"},
		"relative path":        {func(o *Options) { o.Path = "api" }, "Path"},
		"path with a query":    {func(o *Options) { o.Path = "/api?x=1" }, "Path"},
		"broken path":          {func(o *Options) { o.Path = "/%zz" }, "Path"},
		"variant":              {func(o *Options) { o.Variant = "newest" }, "Variant"},
		"amount form":          {func(o *Options) { o.AmountAs = "float" }, "AmountAs"},
		"charset":              {func(o *Options) { o.Charset = "latin1" }, "Charset"},
		"merchant":             {func(o *Options) { o.MallID = "short" }, "MallID"},
		"threshold":            {func(o *Options) { o.NearlyExhausted = "95%" }, "NearlyExhausted"},
		"negative threshold":   {func(o *Options) { o.NearlyExhausted = "-1" }, "NearlyExhausted"},
		"code too long":        {codes("123456789", query.ClassEmpty), "Codes"},
		"code with a space":    {codes("R 02", query.ClassEmpty), "Codes"},
		"success code":         {codes("0000", query.ClassBroken), "Codes"},
		"unknown class":        {codes("R102", "whatever"), "Codes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{BaseURL: "https://pgapi.easypay.co.kr"}
			tt.change(&o)
			_, err := New(o)
			require.ErrorContains(t, err, "easypay options: "+tt.names+" ")
			require.NotContains(t, err.Error(), "pw")
		})
	}
}

func codes(code string, class query.Class) func(*Options) {
	return func(o *Options) { o.Codes = map[string]query.Class{code: class} }
}

func TestNewAddress(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		options Options
		address string
	}{
		"current":          {Options{BaseURL: "https://a.example"}, "https://a.example/api/etc/inquiryCoupon"},
		"spelled out":      {Options{BaseURL: "https://a.example/", Variant: VariantCurrent}, "https://a.example/api/etc/inquiryCoupon"},
		"legacy":           {Options{BaseURL: "https://a.example", Variant: VariantLegacy}, "https://a.example/webpay/common/InquiryCouponAction.do"},
		"own path":         {Options{BaseURL: "http://127.0.0.1:8080", Path: "/x"}, "http://127.0.0.1:8080/x"},
		"own legacy path":  {Options{BaseURL: "https://a.example", Variant: VariantLegacy, Path: "/x.do"}, "https://a.example/x.do"},
		"below a gateway":  {Options{BaseURL: "https://a.example/kicc/"}, "https://a.example/kicc/api/etc/inquiryCoupon"},
		"IPv6 for a stub ": {Options{BaseURL: "http://[::1]:9"}, "http://[::1]:9/api/etc/inquiryCoupon"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := New(tt.options)
			require.NoError(t, err)
			require.Equal(t, tt.address, p.endpoint)
		})
	}
}

func TestNewKeepsItsOwnCodes(t *testing.T) {
	t.Parallel()
	mine := map[string]query.Class{"R102": query.ClassEmpty}
	p := setup(t, func(o *Options) { o.Codes = mine })
	mine["R102"] = query.ClassBroken
	got, err := answer(t, p, ask(0), `{"resCd":"R102"}`)
	require.NoError(t, err)
	require.Equal(t, query.OutcomeEmpty, got.Outcome)
}

func TestCardTable(t *testing.T) {
	t.Parallel()
	cards, err := LoadCards()
	require.NoError(t, err)
	require.Len(t, cards.byCode, 42)
	for code, card := range cards.byCode {
		require.Equal(t, code, card.Code)
		require.True(t, isCardCode(code), code)
		require.NotEmpty(t, card.Name, code)
		require.True(t, all(card.English, func(c byte) bool { return c >= ' ' && c < 0x7f }), code)
		require.NotEmpty(t, card.English, code)
	}
}

func TestCardName(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for code, want := range map[string]Card{
		"008": {Code: "008", Name: "하나(외환)", English: "Hana (former KEB)"},
		"026": {Code: "026", Name: "BC카드", English: "BC Card"},
		"081": {Code: "081", Name: "은련카드", English: "UnionPay"},
		"I26": {Code: "I26", Name: "토스카드", English: "Toss Card"},
	} {
		card, ok := p.CardName(code)
		require.True(t, ok, code)
		require.Equal(t, want, card)
	}
	for _, code := range []string{"", "26", "34", "034", "a16"} {
		_, ok := p.CardName(code)
		require.False(t, ok, code)
	}
}
