package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// kind says what a key stands for.
type kind uint8

// The kinds of keys. The zero value is that of a key nobody knows.
const (
	unknown kind = iota
	group
	single
	list
	table
	// accounts are groups whose names are free. The schema writes their names as a star.
	accounts
)

// schema is every key there is.
type schema struct {
	kinds map[string]kind
	// order holds the keys of values and tables in the order of Config, so that suggestions do not depend on chance.
	order []string
	// accounts holds the keys of the accounts.
	accounts []string
}

// newSchema returns the keys of the given settings.
func newSchema(all []setting) *schema {
	s := &schema{kinds: make(map[string]kind)}
	for _, one := range all {
		s.add(one)
		if one.kind() != accounts {
			continue
		}
		for _, member := range collect(nil, one.key+".*", reflect.New(one.value.Type().Elem().Elem()).Elem()) {
			s.add(member)
		}
		s.kinds[one.key] = accounts
		s.accounts = append(s.accounts, one.key)
	}
	return s
}

// add notes a key and the groups it stands in.
func (s *schema) add(one setting) {
	s.kinds[one.key] = one.kind()
	s.order = append(s.order, one.key)
	for i, c := range one.key {
		if c == '.' {
			s.kinds[one.key[:i]] = group
		}
	}
}

// kind says what a key stands for.
func (s *schema) kind(key string) kind {
	if strings.Contains(key, "*") {
		return unknown
	}
	general, _ := s.general(key)
	return s.kinds[general]
}

// general returns a key as the schema has it: the name of an account in it, which is returned too, is a star there.
func (s *schema) general(key string) (general, account string) {
	for _, parent := range s.accounts {
		rest, below := strings.CutPrefix(key, parent+".")
		name, rest, deeper := strings.Cut(rest, ".")
		switch {
		case !below || !accountName.MatchString(name):
		case deeper:
			return parent + ".*." + rest, name
		default:
			return parent + ".*", name
		}
	}
	return key, ""
}

// nearest returns the known key that a writer of key most likely meant, or "" if none is near: first by spelling, then by
// the last word alone, which finds a key written on the wrong level.
func (s *schema) nearest(key string) string {
	general, account := s.general(key)
	nearest := s.nearestGeneral(general)
	if account != "" {
		nearest = strings.Replace(nearest, "*", account, 1)
	}
	return nearest
}

func (s *schema) nearestGeneral(key string) string {
	groups := make([]string, 0, len(s.kinds))
	for name, kind := range s.kinds {
		if kind == group {
			groups = append(groups, name)
		}
	}
	slices.Sort(groups)
	best, least := "", len(key)/4+2
	for _, name := range slices.Concat(s.order, groups) {
		if d := distance(key, name); d < least {
			best, least = name, d
		}
	}
	if best != "" {
		return best
	}
	last := "." + key[strings.LastIndexByte(key, '.')+1:]
	for _, name := range s.order {
		if strings.HasSuffix(name, last) {
			return name
		}
	}
	return ""
}

// plainName is what an unknown name must look like to be repeated in an error: a value pasted in the wrong place does not.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// distance returns the Levenshtein distance of two names: the fewest insertions, deletions and replacements of a byte.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
