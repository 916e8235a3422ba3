package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests of this file go through every key there is, so that a new key is tested from its first day.

// other returns a text that is valid for the setting's type and differs from its default.
func other(t *testing.T, one setting) string {
	t.Helper()
	switch value := one.value.Interface().(type) {
	case bool:
		return fmt.Sprint(!value)
	case int:
		return "77"
	case float64:
		return "1.25"
	case time.Duration:
		return "17s"
	case Size:
		return "77KiB"
	case Rate:
		return "77/h"
	case string:
		return "/x77"
	case URL:
		return "https://x77"
	case map[string]string:
		return "/row77"
	case []string:
		return "77,78"
	default:
		require.Fail(t, "no text for this type", one.key)
		return ""
	}
}

// asFile returns a file that sets one key.
func asFile(one setting, text string) string {
	var out strings.Builder
	names := strings.Split(one.key, ".")
	for depth, name := range names {
		fmt.Fprintf(&out, "%s%s:", strings.Repeat("  ", depth), name)
		if depth < len(names)-1 {
			out.WriteString("\n")
		}
	}
	if one.kind() == table {
		text = "{row: " + text + "}"
	}
	return out.String() + " " + text + "\n"
}

// asVariable returns a variable that sets one key.
func asVariable(one setting, text string) string {
	name := variableOf(one.key)
	if one.kind() == table {
		name += envLevel + "row"
	}
	return name + "=" + text
}

func TestEveryKeyIsReadAndOnlyThat(t *testing.T) {
	t.Parallel()
	reference := Default()
	all := settings(&reference)
	for at, one := range all {
		if one.kind() == accounts {
			continue // Their keys have tests of their own.
		}
		t.Run(one.key, func(t *testing.T) {
			t.Parallel()
			text := other(t, one)
			fromFile := mustLoad(t, asFile(one, text))
			fromEnvironment, err := Load("", []string{asVariable(one, text)})
			require.NoError(t, err)
			for _, cfg := range []Config{fromFile, fromEnvironment} {
				for i, got := range settings(&cfg) {
					switch {
					case i != at:
						require.Equal(t, all[i].printable(), got.printable(), got.key)
					case one.kind() == table:
						require.Equal(t, map[string]string{"row": text}, got.value.Interface())
					case one.value.Type() == reflect.TypeFor[[]string]():
						require.Equal(t, strings.Split(text, ","), got.value.Interface())
					default:
						require.Equal(t, text, printedText(t, got))
					}
				}
			}
		})
	}
}

func TestEveryKeyRefusesTheWrongType(t *testing.T) {
	t.Parallel()
	reference := Default()
	for _, one := range slices.Concat(settings(&reference), settings(withAccounts())) {
		if one.kind() == accounts {
			continue
		}
		t.Run(one.key, func(t *testing.T) {
			t.Parallel()
			wrong := []string{"[hunter2]"}
			switch one.value.Interface().(type) {
			case string, URL:
				wrong = append(wrong, "{hunter2: hunter2}")
			case map[string]string:
				wrong = []string{"{hunter2: hunter2}", "[hunter2]"}
			case []string:
				wrong = []string{"{hunter2: hunter2}", "[{hunter2: hunter2}]", "[[hunter2]]"}
			default:
				wrong = append(wrong, "{hunter2: hunter2}", "hunter2", `""`)
				_, err := Load("", []string{asVariable(one, "hunter2")})
				requireProblem(t, err, one.key, variableOf(one.key))
			}
			for _, text := range wrong {
				_, err := fromText(asFile(one, text))
				requireProblem(t, err, one.key, fmt.Sprintf("worker.yaml:%d", strings.Count(one.key, ".")+1))
			}
		})
	}
}

// requireProblem checks that err is one problem, of the given key and place, and shows no value.
func requireProblem(t *testing.T, err error, key, where string) {
	t.Helper()
	problems, ok := errors.AsType[Problems](err)
	require.True(t, ok, "got %v", err)
	require.Len(t, problems, 1)
	require.Equal(t, key, problems[0].Key)
	require.Equal(t, where, problems[0].Where)
	require.NotContains(t, err.Error(), "hunter2")
}

// A letter too few or too many is found: what is suggested is a known key one step away.
func TestEveryTypoIsUnderstood(t *testing.T) {
	t.Parallel()
	reference := Default()
	known := newSchema(settings(&reference))
	right, all := 0, 0
	for _, key := range known.order {
		for _, at := range []int{1, len(key) / 2, len(key) - 1} {
			for _, typo := range []string{key[:at] + key[at+1:], key[:at] + "x" + key[at:]} {
				if known.kinds[typo] != unknown {
					continue
				}
				got := known.nearest(typo)
				require.NotEqual(t, unknown, known.kinds[got], "%s: %q", typo, got)
				require.Equal(t, 1, distance(typo, got), "%s: %s", typo, got)
				all++
				if got == key {
					right++
				}
			}
		}
	}
	require.Greater(t, all, 600)
	require.GreaterOrEqual(t, float64(right)/float64(all), 0.99)
}

func TestNearestGivesUp(t *testing.T) {
	t.Parallel()
	reference := Default()
	known := newSchema(settings(&reference))
	for _, key := range []string{"", "z", "qqqqqqqqqqqq", "completely.other.words"} {
		require.Empty(t, known.nearest(key), key)
	}
}

func TestEveryNumberHasALowerLimit(t *testing.T) {
	t.Parallel()
	for at, one := range settings(withAccounts()) {
		switch one.value.Interface().(type) {
		case int, time.Duration, Size, float64, Rate:
		default:
			continue
		}
		t.Run(one.key, func(t *testing.T) {
			t.Parallel()
			changed := withAccounts()
			switch target := settings(changed)[at].value.Addr().Interface().(type) {
			case *int:
				*target = -1
			case *float64:
				*target = -1
			case *time.Duration:
				*target = -1
			case *Size:
				*target = -1
			case *Rate:
				*target = Rate{Calls: -1, Per: time.Second}
			}
			problems, ok := errors.AsType[Problems](changed.Validate())
			require.True(t, ok)
			var keys []string
			for _, problem := range problems {
				keys = append(keys, problem.Key)
			}
			require.Contains(t, keys, one.key)
		})
	}
}

func TestProblemText(t *testing.T) {
	t.Parallel()
	require.Equal(t, "must be so", Problem{Text: "must be so"}.String())
	require.Equal(t, "a.b: must be so", Problem{Key: "a.b", Text: "must be so"}.String())
	require.Equal(t, "w.yaml:3: must be so", Problem{Where: "w.yaml:3", Text: "must be so"}.String())
	require.Equal(t, "w.yaml:3: a.b: must be so", Problem{Key: "a.b", Where: "w.yaml:3", Text: "must be so"}.String())
	require.NoError(t, Problems(nil).orNil())
	err := fmt.Errorf("load: %w", Problems{{Key: "a", Text: "x"}, {Key: "b", Text: "y"}}.orNil())
	require.EqualError(t, err, "load: a: x\nb: y")
	problems, ok := errors.AsType[Problems](err)
	require.True(t, ok)
	require.Len(t, problems, 2)
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		cfg, err := Load(example, []string{"DISCOUNT_PREFIX=bench"})
		require.NoError(b, err)
		require.NoError(b, cfg.Validate())
	}
}
