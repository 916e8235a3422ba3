package easypay

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// The same two coupons in each dialect. Older has no types, so its second coupon can only be a fixed one.
const (
	dialectA = `{"resCd":"0000","resMsg":"정상","couponList":[
		{"couponJoinCd":"008","couponJoinNm":"하나카드","couponGid":"CP12345678","calcAuthLimitRate":12.03,"standardAmount":10000,
		 "discountType":"02","couponAmount":1000},
		{"couponJoinCd":"026","couponJoinNm":"비씨카드","couponGid":"CP87654321","calcAuthLimitRate":60.55,"standardAmount":20000,
		 "discountType":"01","maxDiscountAmount":10000,"couponRate":5.5,"couponAmount":2805}]}`
	dialectB = `{"res_cd":"0000","res_msg":"정상","coupon_datas":[
		{"card_cd":"008","card_nm":"하나카드","coupon_id":"CP12345678","calc_auth_limit_rate":12.03,"coupon_type":"1",
		 "standard_amt":10000,"discount_amt":1000},
		{"card_cd":"026","card_nm":"비씨카드","coupon_id":"CP87654321","calc_auth_limit_rate":60.55,"standard_amt":20000,"discount_amt":2805}]}`
	dialectC = `{"res_cd":"0000","res_msg":"정상","coupon_datas":[
		{"card_cd":"008","card_nm":"하나카드","coupon_id":"CP12345678","calc_auth_limit_rate":12.03,"standard_amt":10000,
		 "discount_amt":1000,"discount_type":"02","max_discount_amt":null},
		{"card_cd":"026","card_nm":"비씨카드","coupon_id":"CP87654321","calc_auth_limit_rate":60.55,"standard_amt":20000,
		 "discount_amt":2805,"discount_type":"01","max_discount_amt":10000}]}`
)

func TestDialectsAgree(t *testing.T) {
	t.Parallel()
	mixed := strings.NewReplacer("res_cd", "resCd", "card_nm", "couponJoinNm", "standard_amt", "standardAmount").Replace(dialectC)
	for name, tt := range map[string]struct{ body, dialect string }{
		"A": {dialectA, "A"}, "B": {dialectB, "B"}, "C": {dialectC, "C"}, "mixed": {mixed, "C"},
		"A in an older envelope": {strings.NewReplacer("resCd", "res_cd", "couponList", "coupon_datas").Replace(dialectA), "C"},
		"B in a newer envelope":  {strings.NewReplacer("res_cd", "resCd", "coupon_datas", "couponList").Replace(dialectB), "C"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := answer(t, setup(t), ask(51004), tt.body)
			require.NoError(t, err)
			require.Equal(t, query.OutcomeOK, got.Outcome)
			require.Equal(t, at, got.AsOf)
			require.Equal(t, query.Response{Code: "0000", Message: "정상", Status: 200, Dialect: tt.dialect}, got.Upstream)
			require.Len(t, got.Offers, 2)
			first, second := got.Offers[0], got.Offers[1]
			require.Equal(t, "CP87654321", first.ID)
			require.Equal(t, query.CardCompany{Code: "026", Name: "비씨카드"}, first.Card)
			require.Equal(t, "60.55", first.Exhaustion)
			require.Equal(t, query.Won(20000), *first.Minimum)
			require.Equal(t, query.Won(2805), *first.Discount)
			require.Equal(t, query.Won(48199), *first.Payable)
			require.Equal(t, query.Applicable, first.Verdict)
			require.Equal(t, "CP12345678", second.ID)
			require.Equal(t, query.Fixed, second.Type)
			require.Nil(t, second.Cap)
			require.Equal(t, query.Won(50004), *second.Payable)
			require.Same(t, &got.Offers[0], got.Best())
		})
	}
}

func TestDialectByItsNames(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"resCd":"0000","couponList":[{"couponJoinCd":"026","couponGid":"CP1"}]}`:                                        "A",
		`{"resCd":"0000","couponList":[{"couponJoinCd":"026","couponGid":"CP1","strange_name":1}]}`:                       "A",
		`{"res_cd":"0000","coupon_datas":[{"card_cd":"026","coupon_id":"CP1"}]}`:                                          "B",
		`{"res_cd":"0000","coupon_datas":[{"card_cd":"026","coupon_id":"CP1","coupon_type":"1","strangeName":1}],"x":[]}`: "B",
		`{"res_cd":"0000","coupon_datas":[{"card_cd":"026","coupon_id":"CP1","discount_type":"02"}]}`:                     "C",
		`{"res_cd":"0000","coupon_datas":[{"card_cd":"026","coupon_id":"CP1","max_discount_amt":null}]}`:                  "C",
		`{"res_cd":"0000","coupon_datas":[{"card_cd":"026","coupon_id":"CP1","couponRate":null}]}`:                        "C",
		`{"resCd":"0000","couponList":[{"couponJoinCd":"026","couponGid":"CP1","discount_type":"02"}]}`:                   "C",
	} {
		got, err := answer(t, setup(t), ask(0), body)
		require.NoError(t, err, body)
		require.Equal(t, want, got.Upstream.Dialect, body)
	}
}

func TestOfferAsItStandsInAResult(t *testing.T) {
	t.Parallel()
	got, err := answer(t, setup(t), ask(51004), dialectA)
	require.NoError(t, err)
	require.JSONEq(t, `[
		{"id":"CP87654321","card":{"code":"026","name":"비씨카드"},"type":"percentage","minimum":{"minor":20000,"currency":"KRW"},
		 "exhaustion":"60.55","rate":"5.5","cap":{"minor":10000,"currency":"KRW"},"verdict":"applicable",
		 "discount":{"minor":2805,"currency":"KRW"},"payable":{"minor":48199,"currency":"KRW"},"upstreamDiscount":{"minor":2805,"currency":"KRW"}},
		{"id":"CP12345678","card":{"code":"008","name":"하나카드"},"type":"fixed","minimum":{"minor":10000,"currency":"KRW"},
		 "exhaustion":"12.03","verdict":"applicable",
		 "discount":{"minor":1000,"currency":"KRW"},"payable":{"minor":50004,"currency":"KRW"},"upstreamDiscount":{"minor":1000,"currency":"KRW"}}]`,
		asJSON(t, got.Offers))
}

func TestPageExample(t *testing.T) {
	t.Parallel()
	got, err := answer(t, setup(t), ask(51004), string(pageExample(t)))
	require.NoError(t, err)
	require.Equal(t, query.Response{Code: "0000", Message: "Success", Status: 200, Dialect: "C"}, got.Upstream)
	require.JSONEq(t, `[
		{"id":"CP12345678","card":{"code":"008","name":"하나카드"},"type":"fixed","minimum":{"minor":100000,"currency":"KRW"},
		 "exhaustion":"12.03","verdict":"below_minimum","upstreamDiscount":{"minor":1000,"currency":"KRW"}},
		{"id":"CP87654321","card":{"code":"026","name":"비씨카드"},"type":"percentage","minimum":{"minor":200000,"currency":"KRW"},
		 "exhaustion":"60.55","cap":{"minor":10000,"currency":"KRW"},"verdict":"below_minimum","upstreamDiscount":{"minor":2000,"currency":"KRW"}}]`,
		asJSON(t, got.Offers))
	require.Nil(t, got.Best())
}

func TestPageExampleWithEnoughMoney(t *testing.T) {
	t.Parallel()
	got, err := answer(t, setup(t), ask(250000), string(pageExample(t)))
	require.NoError(t, err)
	require.Equal(t, "CP87654321", got.Best().ID)
	require.Equal(t, query.Won(2000), *got.Best().Discount)
	require.Equal(t, query.Won(248000), *got.Best().Payable)
}

func TestNothingIsAnAnswer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ body, dialect string }{
		"empty list":         {`{"resCd":"0000","resMsg":"ok","couponList":[]}`, "A"},
		"null list":          {`{"resCd":"0000","resMsg":"ok","couponList":null}`, "A"},
		"empty text as list": {`{"resCd":"0000","resMsg":"ok","couponList":""}`, "A"},
		"no list":            {`{"resCd":"0000","resMsg":"ok"}`, "A"},
		"no message":         {`{"resCd":"0000"}`, "A"},
		"older, empty list":  {`{"res_cd":"0000","res_msg":"ok","coupon_datas":[]}`, "B"},
		"older, null list":   {`{"res_cd":"0000","res_msg":"ok","coupon_datas":null}`, "B"},
		"older, no list":     {`{"res_cd":"0000","res_msg":"ok"}`, "B"},
		"both lists, empty":  {`{"resCd":"0000","couponList":[],"coupon_datas":null}`, "C"},
		"unknown members":    {`{"resCd":"0000","page_no":1,"more":{"a":[1,{"b":null}]},"list":[[]]}`, "A"},
		"both codes, agreed": {`{"resCd":"0000","res_cd":"0000"}`, "C"},
		"one code is null":   {`{"resCd":null,"res_cd":"0000"}`, "C"},
		"one code is empty":  {`{"res_cd":"0000","resCd":""}`, "C"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := answer(t, setup(t), ask(51004), tt.body)
			require.NoError(t, err)
			require.Equal(t, query.OutcomeEmpty, got.Outcome)
			require.Empty(t, got.Offers)
			require.Equal(t, tt.dialect, got.Upstream.Dialect)
			require.Equal(t, "0000", got.Upstream.Code)
		})
	}
}

func TestLegacyAnswersForTheAskedCard(t *testing.T) {
	t.Parallel()
	p := setup(t, legacy)
	got, err := answer(t, p, ask(51004, cardCd("008")), dialectB)
	require.NoError(t, err)
	require.Len(t, got.Offers, 1)
	require.Equal(t, "CP12345678", got.Offers[0].ID)

	got, err = answer(t, p, ask(51004, cardCd("A16")), dialectB)
	require.NoError(t, err)
	require.Equal(t, query.OutcomeEmpty, got.Outcome)

	got, err = answer(t, p, ask(51004), dialectB)
	require.NoError(t, err)
	require.Len(t, got.Offers, 2)
}

// The older interface is never told the amount, so a percentage coupon's discount in its answer is not one for this purchase.
func TestLegacyComputesForItself(t *testing.T) {
	t.Parallel()
	got, err := answer(t, setup(t, legacy), ask(100000), dialectA)
	require.NoError(t, err)
	require.Equal(t, "CP87654321", got.Offers[0].ID)
	require.Equal(t, query.Won(5500), *got.Offers[0].Discount)
	require.Equal(t, query.Won(2805), *got.Offers[0].Upstream)
}

// The current interface filters for itself. Its idea of a card company may be wider than a code (Hana has two), so it is kept.
func TestCurrentKeepsWhatTheUpstreamChose(t *testing.T) {
	t.Parallel()
	got, err := answer(t, setup(t), ask(51004, cardCd("006")), dialectA)
	require.NoError(t, err)
	require.Len(t, got.Offers, 2)
}
