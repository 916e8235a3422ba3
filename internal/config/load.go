package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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
	for _, one := range all {
		raw := merged.Get(one.key)
		if raw == nil {
			continue
		}
		if err := one.set(raw); err != nil {
			l.problems = append(l.problems, Problem{Key: one.key, Where: l.origins[one.key], Text: err.Error()})
		}
	}
	if len(l.problems) > 0 {
		return Config{}, l.problems
	}
	if file != "" {
		resolve(all, filepath.Dir(file))
	}
	return cfg, nil
}

// loader gathers where each key was set and what was wrong on the way.
type loader struct {
	known    schema
	file     string
	origins  map[string]string
	problems Problems
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
	case kind == single:
		l.origins[key] = name
		row := l.known.kinds[key] == unknown
		if isPath(key) || row && isPath(key[:strings.LastIndexByte(key, '.')]) {
			value = absolute(value)
		}
		return key, value
	case kind == group || kind == table:
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
	if kind := l.known.kinds[key]; kind != unknown {
		return key, kind
	}
	last := strings.LastIndex(name, envLevel)
	if last < 0 || last+len(envLevel) == len(name) || strings.Contains(name, ".") {
		return key, unknown
	}
	parent := key[:strings.LastIndexByte(key, '.')]
	if l.known.kinds[parent] != table {
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
