package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	koanfyaml "github.com/knadh/koanf/parsers/yaml"
	"go.yaml.in/yaml/v3"
)

// fileParser reads the YAML file for koanf. Values keep the text they were written with, because YAML's own types would turn an unquoted
// merchant id 05500001 into another number and a response code 00 into 0. The embedded parser is what koanf writes with.
type fileParser struct {
	*koanfyaml.YAML
	*loader
}

// Unmarshal returns the file's known keys as nested maps of texts. What is wrong with the file is noted with the loader, not returned.
func (p fileParser) Unmarshal(text []byte) (map[string]any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return map[string]any{}, nil
	}
	if err == nil && !errors.Is(decoder.Decode(&second), io.EOF) {
		p.add(&second, "", "must hold one YAML document only, and nothing behind it")
		return map[string]any{}, nil
	}
	if err != nil {
		text := "is not valid YAML; check the indentation (spaces, never tabs), colons and quotes"
		p.problems = append(p.problems, Problem{Where: p.where(yamlLine(err)), Text: text})
		return map[string]any{}, nil
	}
	root := document.Content[0]
	if isNull(root) {
		return map[string]any{}, nil
	}
	if root.Kind != yaml.MappingNode {
		p.add(root, "", "must be a mapping of keys and values")
		return map[string]any{}, nil
	}
	return p.group(root, ""), nil
}

// group reads a mapping of known keys.
func (p fileParser) group(mapping *yaml.Node, parent string) map[string]any {
	read := make(map[string]any)
	seen := make(map[string]bool)
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		name, value := mapping.Content[i], mapping.Content[i+1]
		key := name.Value
		if parent != "" {
			key = parent + "." + key
		}
		kind := p.known.kind(key)
		if kind == unknown || name.Kind != yaml.ScalarNode || strings.Contains(name.Value, ".") {
			p.unknown(key, p.where(name.Line))
			continue
		}
		if seen[name.Value] {
			p.add(name, key, "is given twice; keep one")
			continue
		}
		seen[name.Value] = true
		if result := p.value(value, key, kind); result != nil {
			read[name.Value] = result
		}
	}
	return read
}

// value reads the value of a known key. It returns nil for none and for one that was refused.
func (p fileParser) value(value *yaml.Node, key string, kind kind) any {
	p.origins[key] = p.where(value.Line)
	if isNull(value) {
		return nil
	}
	switch {
	case value.Kind == yaml.AliasNode:
		p.add(value, key, "is an alias, which is not read here; write the value out")
	case kind == single && value.Kind == yaml.ScalarNode:
		return p.scalar(value, key)
	case kind == single:
		p.add(value, key, "must be a single value")
	case kind == list:
		return p.list(value, key)
	case value.Kind != yaml.MappingNode:
		p.add(value, key, "must be a mapping: one name and value per line, indented below it")
	case kind == group:
		return p.group(value, key)
	case kind == accounts:
		return p.accounts(value, key)
	default:
		return p.table(value, key)
	}
	return nil
}

// list reads a sequence of texts, or one text with commas between them.
func (p fileParser) list(value *yaml.Node, key string) any {
	if value.Kind == yaml.ScalarNode {
		return p.scalar(value, key)
	}
	read := []string{}
	for _, one := range value.Content {
		text, ok := p.scalar(one, key).(string)
		if value.Kind != yaml.SequenceNode || one.Kind != yaml.ScalarNode || !ok || isNull(one) {
			p.add(one, key, "must be a list of single values, such as [a, b]")
			return nil
		}
		read = append(read, text)
	}
	return read
}

// accounts reads a mapping whose names are free and whose values are groups of known keys. An account may have none.
func (p fileParser) accounts(mapping *yaml.Node, parent string) any {
	read := make(map[string]any)
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		name, value := mapping.Content[i], mapping.Content[i+1]
		_, twice := read[name.Value]
		switch {
		case name.Kind != yaml.ScalarNode || !accountName.MatchString(name.Value):
			p.add(name, parent, badAccountName)
		case twice:
			p.add(name, parent, "gives one name twice; keep one")
		case isNull(value):
			read[name.Value] = map[string]any{}
		default:
			if account := p.value(value, parent+"."+name.Value, group); account != nil {
				read[name.Value] = account
			}
		}
	}
	return read
}

// table reads a mapping whose names are free.
func (p fileParser) table(mapping *yaml.Node, key string) any {
	read := make(map[string]any)
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		name, value := mapping.Content[i], mapping.Content[i+1]
		_, twice := read[name.Value]
		switch {
		case name.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode || isNull(value):
			p.add(name, key, "must be a table of names and single values")
		case twice:
			p.add(name, key, "gives one name twice; keep one")
		default:
			if text := p.scalar(value, key); text != nil {
				read[name.Value] = text
			}
		}
	}
	return read
}

// scalar returns a value as it was written.
func (p fileParser) scalar(value *yaml.Node, key string) any {
	if value.Style&yaml.TaggedStyle != 0 {
		p.add(value, key, "has a YAML tag, which is not read here; write the value alone")
		return nil
	}
	return value.Value
}

// add notes a problem at a place of the file.
func (p fileParser) add(at *yaml.Node, key, text string) {
	p.problems = append(p.problems, Problem{Key: key, Where: p.where(at.Line), Text: text})
}

// where returns a line of the file, or the file where the line is not known.
func (p fileParser) where(line int) string {
	if line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, line)
}

// isNull tells whether a key was left without a value.
func isNull(value *yaml.Node) bool {
	return value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null"
}

// lineOf finds the line in an error of the YAML library, which holds pieces of the file beside it.
var lineOf = regexp.MustCompile(`line ([0-9]{1,9})`)

// yamlLine returns the line of an error of the YAML library, 0 if it names none.
func yamlLine(err error) int {
	line := 0
	if found := lineOf.FindStringSubmatch(err.Error()); found != nil {
		_, _ = fmt.Sscan(found[1], &line)
	}
	return line
}
