// Package schemas holds the published contract of the events: JSON Schemas, samples and the AsyncAPI document. It must never
// import another room of this module, load a schema from anywhere else, or repeat a checked value in an error.
package schemas

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// BaseURI is what the $id of every schema begins with; the file's name follows. Nothing is ever loaded from there.
const BaseURI = "https://discountquery.example/schemas/"

// querySchemas names the schema of each provider's query data.
var querySchemas = map[string]string{
	"easypay":  "query.requested.easypay.v1.json",
	"unionpay": "query.requested.unionpay.v1.json",
}

//go:embed *.json samples/*.json asyncapi.yaml README.md
var files embed.FS

// Files returns the published files: the schemas, asyncapi.yaml and README.md at the top, the samples in the folder samples.
func Files() fs.FS { return files }

// Set holds the compiled schemas. It may be used by many goroutines.
type Set struct {
	byName  map[string]*jsonschema.Schema
	byQuery map[string]*jsonschema.Schema
	// names holds every property name that a schema speaks of: the only names that an error may repeat.
	names    map[string]bool
	decoders sync.Pool
}

// Compile compiles every embedded schema, with formats asserted. It is meant to be called once at start; an error means that
// an embedded schema is wrong.
func Compile() (*Set, error) {
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	set := &Set{
		byName: map[string]*jsonschema.Schema{}, byQuery: map[string]*jsonschema.Schema{}, names: map[string]bool{},
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	compiler.UseLoader(embedded{})
	compiler.UseRegexpEngine(compilePattern)
	for _, name := range names {
		schema, err := compiler.Compile(BaseURI + name)
		if err != nil {
			return nil, fmt.Errorf("compile schema %s: %w", name, err)
		}
		set.byName[name] = schema
		document, err := (embedded{}).Load(BaseURI + name)
		if err != nil {
			return nil, err
		}
		collectNames(document, set.names)
	}
	for provider, name := range querySchemas {
		set.byQuery[provider] = set.byName[name]
	}
	return set, nil
}

// ValidateQuery checks the data of a query for the provider named, "easypay" or "unionpay". The error of data that breaks the
// schema is a *Violation; it never contains a value of the data. An unknown provider is an error too.
func (s *Set) ValidateQuery(provider string, data []byte) error {
	schema, ok := s.byQuery[provider]
	if !ok {
		return fmt.Errorf("validate query: no schema for this provider")
	}
	return s.validate(schema, data)
}

// Validate checks a document against the schema in the file named, for example "cloudevent.v1.json". Its errors are like those
// of ValidateQuery.
func (s *Set) Validate(name string, document []byte) error {
	schema, ok := s.byName[name]
	if !ok {
		return fmt.Errorf("validate: no schema of this name")
	}
	return s.validate(schema, document)
}

func (s *Set) validate(schema *jsonschema.Schema, document []byte) error {
	value, err := s.read(document)
	if err != nil {
		return err
	}
	if err := schema.Validate(value); err != nil {
		return s.violation(err)
	}
	return nil
}

// embedded loads schemas from the embedded files and from nowhere else.
type embedded struct{}

// Load returns the schema whose $id is uri.
func (embedded) Load(uri string) (any, error) {
	name, ok := strings.CutPrefix(uri, BaseURI)
	if !ok || path.Base(name) != name {
		return nil, fmt.Errorf("load schema %s: only the embedded schemas may be referred to", uri)
	}
	file, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("load schema %s: %w", uri, err)
	}
	defer func() { _ = file.Close() }()
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		return nil, fmt.Errorf("load schema %s: %w", uri, err)
	}
	return document, nil
}
