package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	koanfyaml "github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
)

const (
	// envPrefix begins the name of every variable that is read.
	envPrefix = "DISCOUNT_"
	// envLevel separates the levels of a key in a variable's name.
	envLevel = "__"
)

// Load returns the defaults, overridden by the YAML file, overridden by the variables of environ (as os.Environ returns them)
// that begin with DISCOUNT_. An empty file name means no file. A key without a value in the file keeps its default.
//
// Relative paths are relative to the folder of the file, defaults included; those of variables and those without a file are relative
// to the working folder. Unknown keys and variables, and values of the wrong type, are refused all at once as Problems, which
// never hold a value. Load does not call Validate.
func Load(file string, environ []string) (Config, error) {
	if file == "" {
		return load("", nil, environ)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return load(file, text, environ)
}

// load is Load with the file's text at hand.
func load(file string, text []byte, environ []string) (Config, error) {
	cfg := Default()
	all := settings(&cfg)
	l := &loader{known: newSchema(all), file: file, origins: make(map[string]string)}
	merged := koanf.New(".")
	if err := merged.Load(rawbytes.Provider(text), fileParser{YAML: koanfyaml.Parser(), loader: l}); err != nil {
		return Config{}, fmt.Errorf("merge configuration file: %w", err)
	}
	variables := env.Provider(".", env.Opt{
		Prefix:        envPrefix,
		EnvironFunc:   func() []string { return environ },
		TransformFunc: l.variable,
	})
	if err := merged.Load(variables, nil); err != nil {
		return Config{}, fmt.Errorf("merge environment: %w", err)
	}
	values := make(map[string]reflect.Value, len(all))
	for _, one := range all {
		values[one.key] = one.value
		l.set(one, merged, values)
	}
	if len(l.problems) > 0 {
		return Config{}, l.problems
	}
	if file != "" {
		resolve(settings(&cfg), filepath.Dir(file))
	}
	return cfg, nil
}

// loader gathers where each key was set and what was wrong on the way.
type loader struct {
	known    *schema
	file     string
	origins  map[string]string
	problems Problems
}

// set reads what was given for a key. An account starts from the values of its provider, which stand before it.
func (l *loader) set(one setting, given *koanf.Koanf, values map[string]reflect.Value) {
	raw := given.Get(one.key)
	named, _ := raw.(map[string]any)
	switch {
	case raw == nil:
	case one.kind() == accounts:
		for _, name := range slices.Sorted(maps.Keys(named)) {
			for _, member := range one.account(name, values) {
				l.set(member, given, nil)
			}
		}
	default:
		if err := one.set(raw); err != nil {
			l.problems = append(l.problems, Problem{Key: one.key, Where: l.origins[one.key], Text: err.Error()})
		}
	}
}

// unknown notes a key that is not known, with the nearest one that is.
func (l *loader) unknown(key, where string) {
	if !plainName.MatchString(key) {
		l.problems = append(l.problems, Problem{Where: where, Text: "unknown key (not shown, because it does not look like one)"})
		return
	}
	text := "unknown key"
	switch nearest := l.known.nearest(key); nearest {
	case "":
	case key:
		text += "; write its levels as nested keys"
	default:
		text += "; did you mean " + nearest + "?"
	}
	l.problems = append(l.problems, Problem{Key: key, Where: where, Text: text})
}

// variable turns a variable into its key and value. It returns "" for one that is to be left out, having noted why.
func (l *loader) variable(name, value string) (string, any) {
	key, kind := l.keyOf(strings.TrimPrefix(name, envPrefix))
	switch {
	case kind == single || kind == list:
		l.origins[key] = name
		row := l.known.kind(key) == unknown
		if isPath(key) || row && isPath(key[:strings.LastIndexByte(key, '.')]) {
			value = absolute(value)
		}
		return key, value
	case kind == group || kind == table || kind == accounts:
		text := "names a group of keys, not one; add " + envLevel + " and the name of a key in it"
		l.problems = append(l.problems, Problem{Key: name, Text: text})
	case serviceLink.MatchString(name):
	case !plainName.MatchString(name):
		l.problems = append(l.problems, Problem{Text: "unknown variable " + envPrefix + "... (not shown, because it does not look like one)"})
	default:
		text := "unknown variable"
		if nearest := l.known.nearest(key); nearest != "" {
			text += "; did you mean " + variableOf(nearest) + "?"
		}
		l.problems = append(l.problems, Problem{Key: name, Text: text})
	}
	return "", nil
}

// keyOf returns the key that a variable's name, without its prefix, stands for. The name of a table's row keeps its case, because response
// codes and key ids differ by it.
func (l *loader) keyOf(name string) (string, kind) {
	key := strings.ToLower(strings.ReplaceAll(name, envLevel, "."))
	if kind := l.known.kind(key); kind != unknown {
		return key, kind
	}
	last := strings.LastIndex(name, envLevel)
	if last < 0 || last+len(envLevel) == len(name) || strings.Contains(name, ".") {
		return key, unknown
	}
	parent := key[:strings.LastIndexByte(key, '.')]
	if l.known.kind(parent) != table {
		return key, unknown
	}
	return parent + "." + name[last+len(envLevel):], single
}

// serviceLink is what Kubernetes sets for each service of a namespace. A service named discount or discount-something would otherwise
// look like a misspelt key.
var serviceLink = regexp.MustCompile(`^[A-Z0-9]+(_[A-Z0-9]+)*_` +
	`(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// variableOf returns the name of the variable that sets key.
func variableOf(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", envLevel))
}

// resolve makes the relative paths of the settings relative to dir.
func resolve(all []setting, dir string) {
	for _, one := range all {
		if !isPath(one.key) {
			continue
		}
		switch target := one.value.Addr().Interface().(type) {
		case *string:
			*target = under(dir, *target)
		case *map[string]string:
			for name, path := range *target {
				(*target)[name] = under(dir, path)
			}
		}
	}
}

// under returns path as seen from dir. An empty or absolute path stays as it is.
func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// absolute fixes a path of the environment to the working folder. If that can't be found the path stays relative.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if fixed, err := filepath.Abs(path); err == nil {
		return fixed
	}
	return path
}
