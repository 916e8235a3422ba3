package main

import (
	"fmt"
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

// object is one object of the API server.
type object interface {
	runtime.Object
	metav1.Object
}

// rendered is what an overlay makes of itself: its objects, in the order in which they are applied.
type rendered struct{ objects []object }

// kustomizing keeps builds apart: kustomize holds the schemas it works with in variables of its own.
var kustomizing sync.Mutex

// render builds an overlay as `kubectl kustomize` does, with the same restrictions: no file from outside a kustomization's own folder, no
// plugins. Every object is read strictly, into the type that its operator or the API server has for it or by its schema.
func render(files filesys.FileSystem, dir string) (*rendered, error) {
	decoder, err := newDecoder()
	if err != nil {
		return nil, err
	}
	built, err := kustomize(files, dir)
	if err != nil {
		return nil, err
	}
	r := &rendered{}
	for _, one := range built.Resources() {
		text, err := one.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", one.CurId(), err)
		}
		read, err := decode(decoder, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.CurId(), err)
		}
		r.objects = append(r.objects, read)
	}
	return r, nil
}

// kustomize builds an overlay.
func kustomize(files filesys.FileSystem, dir string) (resmap.ResMap, error) {
	kustomizing.Lock()
	defer kustomizing.Unlock()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, dir)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", dir, err)
	}
	return built, nil
}

// build returns an overlay as text.
func build(files filesys.FileSystem, dir string) ([]byte, error) {
	built, err := kustomize(files, dir)
	if err != nil {
		return nil, err
	}
	return built.AsYaml()
}

// newDecoder returns a decoder that knows the kinds that may occur here, and refuses all others, unknown fields and fields given twice.
func newDecoder() (runtime.Decoder, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
		monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("learn the API's types: %w", err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(), nil
}

func decode(decoder runtime.Decoder, text []byte) (object, error) {
	var header metav1.TypeMeta
	if err := yaml.Unmarshal(text, &header); err != nil {
		return nil, err
	}
	if header.APIVersion == "keda.sh/v1alpha1" && header.Kind == "ScaledObject" {
		return readScaled(text)
	}
	read, kind, err := decoder.Decode(text, nil, nil)
	if err != nil {
		return nil, err
	}
	read.GetObjectKind().SetGroupVersionKind(*kind)
	known, ok := read.(object)
	if !ok {
		return nil, fmt.Errorf("%s is a list, and not an object", kind)
	}
	return known, nil
}

// name returns how an object is called here: Deployment/worker.
func name(o object) string { return o.GetObjectKind().GroupVersionKind().Kind + "/" + o.GetName() }

// all returns the objects of one type.
func all[T object](r *rendered) []T {
	var found []T
	for _, o := range r.objects {
		if one, ok := o.(T); ok {
			found = append(found, one)
		}
	}
	return found
}

// named returns the object of one type with a name.
func named[T object](r *rendered, name string) (T, bool) {
	found := all[T](r)
	i := slices.IndexFunc(found, func(one T) bool { return one.GetName() == name })
	if i < 0 {
		var none T
		return none, false
	}
	return found[i], true
}

// pod is the template of a pod, and what makes pods of it.
type pod struct {
	*corev1.PodTemplateSpec

	owner object
}

// String returns the name of what makes the pod.
func (p pod) String() string { return name(p.owner) }

// pods returns the templates of all pods.
func (r *rendered) pods() []pod {
	var found []pod
	for _, o := range r.objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			found = append(found, pod{PodTemplateSpec: &o.Spec.Template, owner: o})
		case *appsv1.StatefulSet:
			found = append(found, pod{PodTemplateSpec: &o.Spec.Template, owner: o})
		case *batchv1.Job:
			found = append(found, pod{PodTemplateSpec: &o.Spec.Template, owner: o})
		}
	}
	return found
}

// containers returns all containers of a pod, those that only start it included.
func (p pod) containers() []corev1.Container {
	return append(slices.Clone(p.Spec.InitContainers), p.Spec.Containers...)
}
