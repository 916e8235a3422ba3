package config

import (
	"encoding"
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one key of a Config and the place of its value.
type setting struct {
	key   string
	value reflect.Value
}

// settings returns every key of cfg in the order of its fields.
func settings(cfg *Config) []setting {
	return collect(nil, "", reflect.ValueOf(cfg).Elem())
}

// collect appends the keys of one struct, those of nested structs in their place.
func collect(all []setting, parent string, group reflect.Value) []setting {
	for field, value := range group.Fields() {
		key := field.Tag.Get("koanf")
		if parent != "" && key != "" {
			key = parent + "." + key
		}
		_, text := reflect.TypeAssert[encoding.TextUnmarshaler](value.Addr())
		switch {
		case field.Anonymous:
			all = collect(all, parent, value)
		case value.Kind() == reflect.Struct && !text:
			all = collect(all, key, value)
		case isAccounts(value.Type()) && value.Len() > 0:
			all = collectAccounts(all, key, value)
		default:
			all = append(all, setting{key: key, value: value})
		}
	}
	return all
}

// collectAccounts appends the keys of accounts that were given. Accounts without any are one key of their own.
func collectAccounts(all []setting, parent string, accounts reflect.Value) []setting {
	names := accounts.MapKeys()
	slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range names {
		all = collect(all, parent+"."+name.String(), accounts.MapIndex(name).Elem())
	}
	return all
}

// isAccounts tells whether a type is that of accounts: groups whose names are free.
func isAccounts(t reflect.Type) bool {
	return t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Pointer
}

// kind says what the setting's key stands for.
func (s setting) kind() kind {
	switch {
	case isAccounts(s.value.Type()):
		return accounts
	case s.value.Kind() == reflect.Map:
		return table
	case s.value.Kind() == reflect.Slice:
		return list
	default:
		return single
	}
}

// account returns the keys of a new account among the setting's accounts. They have the values of the provider's keys of the same name.
func (s setting) account(name string, provider map[string]reflect.Value) []setting {
	if s.value.IsNil() {
		s.value.Set(reflect.MakeMap(s.value.Type()))
	}
	created := reflect.New(s.value.Type().Elem().Elem())
	s.value.SetMapIndex(reflect.ValueOf(name), created)
	own := s.key + "." + name
	members := collect(nil, own, created.Elem())
	for _, member := range members {
		value, known := provider[strings.TrimSuffix(s.key, ".accounts")+strings.TrimPrefix(member.key, own)]
		if !known {
			continue
		}
		member.value.Set(value)
		if rows, ok := reflect.TypeAssert[map[string]string](value); ok {
			member.value.Set(reflect.ValueOf(maps.Clone(rows)))
		}
	}
	return members
}

// isPath tells whether the key's values are paths of the file system: its name says so.
func isPath(key string) bool {
	return strings.HasSuffix(key, "_file") || strings.HasSuffix(key, "_files") || strings.HasSuffix(key, "_dir")
}

// set reads raw, a text, a list or a table of texts, into the setting. Errors say what is expected and never quote raw.
func (s setting) set(raw any) error {
	switch raw := raw.(type) {
	case map[string]any:
		return s.setTable(raw)
	case []string:
		if target, ok := reflect.TypeAssert[*[]string](s.value.Addr()); ok {
			*target = raw
			return nil
		}
	case string:
		return s.setText(raw)
	}
	return errors.New("must be a single value")
}

// setText reads one text by the setting's type.
func (s setting) setText(text string) error {
	switch target := s.value.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text))
	case *string:
		*target = text
	case *URL:
		*target = URL(text)
	case *[]string:
		*target = nil
		for one := range strings.SplitSeq(text, ",") {
			if one = strings.TrimSpace(one); one != "" {
				*target = append(*target, one)
			}
		}
	case *bool:
		return parse(target, text, parseBool, "must be true or false")
	case *int:
		return parse(target, text, strconv.Atoi, "must be a whole number")
	case *float64:
		return parse(target, text, parseNumber, "must be a number")
	case *time.Duration:
		return parse(target, text, time.ParseDuration, "must be a duration with units, such as 200ms, 30s or 1h30m")
	default:
		return errors.New("must be a table of names and values")
	}
	return nil
}

// setTable reads a table of texts. An empty one stays nil.
func (s setting) setTable(table map[string]any) error {
	target, ok := reflect.TypeAssert[*map[string]string](s.value.Addr())
	if !ok {
		return errors.New("must be a single value")
	}
	if len(table) == 0 {
		return nil
	}
	*target = make(map[string]string, len(table))
	for name, raw := range table {
		text, ok := raw.(string)
		if !ok {
			return errors.New("must be a table of names and single values")
		}
		(*target)[name] = text
	}
	return nil
}

// parse reads text into target, with an error of our own: the parsers' quote what they read.
func parse[T any](target *T, text string, read func(string) (T, error), expected string) error {
	value, err := read(text)
	if err != nil {
		return errors.New(expected)
	}
	*target = value
	return nil
}

// parseBool takes true and false only. YAML 1.1's yes, on and y would be guesses.
func parseBool(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, strconv.ErrSyntax
	}
	return text == "true", nil
}

// parseNumber takes finite numbers only.
func parseNumber(text string) (float64, error) {
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(number) || math.IsInf(number, 0) {
		return 0, strconv.ErrSyntax
	}
	return number, nil
}
