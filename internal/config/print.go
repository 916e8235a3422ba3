package config

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Print writes the settings as YAML that Load can read, in the order of Config and with the secrets of addresses masked.
func (c Config) Print(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	groups := map[string]*yaml.Node{"": root}
	for _, one := range settings(&c) {
		parent, name := "", one.key
		if dot := strings.LastIndexByte(one.key, '.'); dot >= 0 {
			parent, name = one.key[:dot], one.key[dot+1:]
		}
		value, err := valueNode(one.printable())
		if err != nil {
			return fmt.Errorf("print %s: %w", one.key, err)
		}
		mapping := groupNode(groups, parent)
		mapping.Content = append(mapping.Content, textNode(name), value)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return encoder.Close()
}

// printable returns the value as it stands in a file.
func (s setting) printable() any {
	switch value := s.value.Interface().(type) {
	case time.Duration:
		return duration(value)
	case fmt.Stringer:
		return value.String()
	case map[string]string:
		if value == nil {
			return map[string]string{}
		}
		return value
	default:
		if s.kind() == accounts {
			return map[string]string{} // Accounts that were given have keys of their own.
		}
		return value
	}
}

// duration returns 168h instead of the standard library's 168h0m0s.
func duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// groupNode returns the mapping of a group, which it hangs into its parent the first time.
func groupNode(groups map[string]*yaml.Node, key string) *yaml.Node {
	if node, ok := groups[key]; ok {
		return node
	}
	parent, name := "", key
	if dot := strings.LastIndexByte(key, '.'); dot >= 0 {
		parent, name = key[:dot], key[dot+1:]
	}
	node := &yaml.Node{Kind: yaml.MappingNode}
	above := groupNode(groups, parent)
	above.Content = append(above.Content, textNode(name), node)
	groups[key] = node
	return node
}

// valueNode returns what stands for a printable value.
func valueNode(value any) (*yaml.Node, error) {
	node := &yaml.Node{}
	switch value := value.(type) {
	case string:
		return textNode(value), nil
	case []string:
		node.Kind = yaml.SequenceNode
		for _, one := range value {
			node.Content = append(node.Content, textNode(one))
		}
		return node, nil
	case map[string]string:
		node.Kind = yaml.MappingNode
		for _, name := range slices.Sorted(maps.Keys(value)) {
			node.Content = append(node.Content, textNode(name), textNode(value[name]))
		}
		return node, nil
	default:
		err := node.Encode(value)
		return node, err
	}
}

// textNode returns a scalar that holds a text. One with tabs or line breaks is quoted: the library writes such a text as a block, and does not read
// every block of its own again (one that begins with a tab is an error).
func textNode(text string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if strings.ContainsAny(text, "\t\r\n\u0085\u2028\u2029") {
		node.Style = yaml.DoubleQuotedStyle
	}
	return node
}
