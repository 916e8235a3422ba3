package schemas

import (
	"errors"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// KeywordJSON is the Keyword of a document that is not strict JSON.
const KeywordJSON = "json"

// Violation says where a document breaks its schema. It holds nothing of the document but the names that the schemas themselves
// speak of, because values and unknown names may be card data.
type Violation struct {
	// Pointer is the JSON pointer (RFC 6901) of the place, "" for the whole document. A name that no schema speaks of reads "*".
	Pointer string
	// Keyword is the keyword of the schema that was broken, or KeywordJSON for a document that is not strict JSON.
	Keyword string
}

// Error returns the place and the keyword.
func (v *Violation) Error() string { return "at '" + v.Pointer + "': " + v.Keyword }

// violation reduces the validator's error to the first broken keyword in the order of places, so that the same document always
// gets the same answer.
func (s *Set) violation(err error) error {
	var report *jsonschema.ValidationError
	if !errors.As(err, &report) {
		return &Violation{Keyword: "schema"}
	}
	var first *Violation
	s.visit(report, func(v *Violation) {
		if first == nil || v.Pointer < first.Pointer || v.Pointer == first.Pointer && v.Keyword < first.Keyword {
			first = v
		}
	})
	return first
}

// visit calls found for each broken keyword. Alternatives are reported as one, because the errors of the branches that were not
// meant would mislead, and so are names, because below them stands the name and not a place.
func (s *Set) visit(report *jsonschema.ValidationError, found func(*Violation)) {
	switch report.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf, *kind.PropertyNames:
	default:
		for _, cause := range report.Causes {
			s.visit(cause, found)
		}
		if len(report.Causes) > 0 {
			return
		}
	}
	found(&Violation{Pointer: s.pointer(report.InstanceLocation), Keyword: keywordOf(report.ErrorKind)})
}

// keywordOf returns the keyword alone: what follows it in the validator's path can be a name of the document.
func keywordOf(broken jsonschema.ErrorKind) string {
	if path := broken.KeywordPath(); len(path) > 0 {
		return path[0]
	}
	if _, ok := broken.(*kind.Not); ok {
		return "not" // The validator gives this one no path.
	}
	return "schema"
}

// pointer writes a place, with every name that no schema speaks of replaced.
func (s *Set) pointer(location []string) string {
	var b strings.Builder
	for _, token := range location {
		if !s.names[token] && !isIndex(token) {
			token = "*"
		}
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	return b.String()
}

// isIndex tells whether a token can be an index of an array. Longer runs of digits could be a card number used as a name.
func isIndex(token string) bool {
	return token != "" && len(token) <= 5 && strings.Trim(token, "0123456789") == ""
}

// collectNames adds the names under every "properties" of a schema document.
func collectNames(document any, names map[string]bool) {
	switch node := document.(type) {
	case map[string]any:
		if properties, ok := node["properties"].(map[string]any); ok {
			for name := range properties {
				names[name] = true
			}
		}
		for _, child := range node {
			collectNames(child, names)
		}
	case []any:
		for _, child := range node {
			collectNames(child, names)
		}
	}
}
