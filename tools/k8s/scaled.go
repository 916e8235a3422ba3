package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	_ "github.com/kedacore/keda/v2/version" // Its smallest package, for the sake of a file of the module: see kedaSchema.
	"github.com/santhosh-tekuri/jsonschema/v6"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// scaledObject is what is looked at of a ScaledObject of KEDA.
type scaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		ScaleTargetRef  struct{ Name, Kind string }
		MinReplicaCount int
		MaxReplicaCount int
		Fallback        struct {
			Replicas int
			Behavior string
		}
		Advanced struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior autoscalingv2.HorizontalPodAutoscalerBehavior
			}
		}
		Triggers []trigger
	} `json:"spec"`
}

// trigger is where a ScaledObject takes its figures from.
type trigger struct {
	Type, MetricType string
	Metadata         map[string]string
}

// DeepCopyObject makes it an object of the API. Nobody copies one here.
func (s *scaledObject) DeepCopyObject() runtime.Object {
	other := *s
	return &other
}

// readScaled reads a ScaledObject, having put it to the schema by which the API server judges it. KEDA's Go types are left alone: they take all
// of the API server's client with them, which costs more to build than everything else here, and know less than the schema does.
func readScaled(text []byte) (object, error) {
	schema, err := kedaSchema()
	if err != nil {
		return nil, err
	}
	var value any
	if err := yaml.UnmarshalStrict(text, &value); err != nil {
		return nil, err
	}
	if err := schema.Validate(value); err != nil {
		return nil, err
	}
	var meta struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`

		Spec any `json:"spec"`
	}
	if err := yaml.UnmarshalStrict(text, &meta); err != nil {
		return nil, err
	}
	read := &scaledObject{}
	return read, yaml.Unmarshal(text, read)
}

// kedaSchema returns the schema of a ScaledObject: that of the CustomResourceDefinition in KEDA's module, in the version of go.mod, with
// everything refused that it does not name.
var kedaSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/kedacore/keda/v2").Output()
	if err != nil {
		return nil, fmt.Errorf("find KEDA's module, run this in its own folder: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "bases", "keda.sh_scaledobjects.yaml"))
	if err != nil {
		return nil, err
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema map[string]any
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		return nil, err
	}
	if versions := definition.Spec.Versions; len(versions) != 1 || versions[0].Name != "v1alpha1" {
		return nil, fmt.Errorf("KEDA has other versions of the ScaledObject than v1alpha1")
	}
	compiler := jsonschema.NewCompiler()
	schema := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	closeSchema(schema)
	if err := compiler.AddResource("scaledobject.json", schema); err != nil {
		return nil, err
	}
	return compiler.Compile("scaledobject.json")
})

// closeSchema refuses what a schema does not name, as the API server does at --validate=strict.
func closeSchema(schema map[string]any) {
	if _, open := schema["additionalProperties"]; !open && schema["properties"] != nil && schema["x-kubernetes-preserve-unknown-fields"] == nil {
		schema["additionalProperties"] = false
	}
	for _, member := range schema {
		switch member := member.(type) {
		case map[string]any:
			closeSchema(member)
		case []any:
			for _, one := range member {
				if below, ok := one.(map[string]any); ok {
					closeSchema(below)
				}
			}
		}
	}
}
