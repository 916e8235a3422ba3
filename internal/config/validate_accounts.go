package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// easyPayAccounts checks the further accounts at KICC.
func (v *validator) easyPayAccounts(key string, p EasyPay) {
	claimed := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Accounts)) {
		account, own := key+".accounts."+name, &validator{}
		own.accountName(account, name)
		own.claims(account+".mall_ids", name, p.Accounts[name].MallIDs, mallID, "of 8 letters or digits", claimed)
		own.easyPay(account, p.Account(name))
		v.addNew(key, account, own.problems)
	}
}

// unionPayAccounts checks the further institutions at UnionPay.
func (v *validator) unionPayAccounts(key string, p UnionPay) {
	claimed := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Accounts)) {
		account, own := key+".accounts."+name, &validator{}
		own.accountName(account, name)
		own.claims(account+".pids", name, p.Accounts[name].PIDs, programme, "of at most 10 digits", claimed)
		own.unionPay(account, p.Account(name))
		v.addNew(key, account, own.problems)
	}
}

// accountName checks what an account is called.
func (v *validator) accountName(key, name string) {
	v.check(name != DefaultAccount, key, "is the name of the account that the provider's own settings make; choose another")
	v.check(accountName.MatchString(name), key, badAccountName)
}

// badAccountName says how accounts are called.
const badAccountName = "must have a name of lower-case letters, digits, - and _, at most 32 long and beginning with a letter"

// claims checks the ids that an account claims: one that two accounts claimed would be asked at the pace of either.
func (v *validator) claims(key, account string, ids []string, form *regexp.Regexp, what string, claimed map[string]string) {
	v.check(len(ids) > 0, key, "is empty, so that no query would be this account's; list at least one")
	for i, id := range ids {
		owner, twice := claimed[id]
		v.check(form.MatchString(id), key, fmt.Sprintf("must hold ids %s; number %d is none", what, i+1))
		v.check(!twice, key, fmt.Sprintf("holds an id that account %s has already; keep number %d in one place", owner, i+1))
		claimed[id] = account
	}
}

// addNew adds the problems of an account, but for those that it has taken from its provider and that are told there.
func (v *validator) addNew(provider, account string, problems Problems) {
	told := map[string]bool{}
	for _, problem := range v.problems {
		told[problem.Key] = true
	}
	for _, problem := range problems {
		if !told[provider+strings.TrimPrefix(problem.Key, account)] {
			v.problems = append(v.problems, problem)
		}
	}
}
