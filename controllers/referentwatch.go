package controllers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// secretType is the field selector of a Secret's type; API servers index it.
const secretType = "type"

// caches makes the caches of referents. They have their own because a cache can select the objects of a kind in
// one way only, and because they must start later than the manager's.
type caches struct {
	config *rest.Config
	client *http.Client
	scheme *runtime.Scheme
	mapper meta.RESTMapper
	links  *links
}

// foreignTypes are Secrets that no Ingress can mean: credentials of the cluster itself, and Helm's archives, the bulk
// of all Secrets. Not even their names are watched; a reference to one is a reference to nothing.
func foreignTypes() []corev1.SecretType {
	return []corev1.SecretType{
		corev1.SecretTypeServiceAccountToken, corev1.SecretTypeDockercfg, corev1.SecretTypeDockerConfigJson,
		corev1.SecretTypeBootstrapToken, "helm.sh/release.v1",
	}
}

// open makes a cache for one kind of object.
func (c *caches) open(o client.Object, by cache.ByObject) (cache.Cache, error) {
	opened, err := cache.New(c.config, cache.Options{
		HTTPClient:  c.client,
		Scheme:      c.scheme,
		Mapper:      c.mapper,
		NewInformer: c.links.newInformer,
		ByObject:    map[client.Object]cache.ByObject{o: by},
	})
	if err != nil {
		return nil, fmt.Errorf("cache for %s: %w", o.GetObjectKind().GroupVersionKind().Kind, err)
	}
	return opened, nil
}

// operatorsSecrets returns what is watched in each namespace: all that selector selects in those that are listed, none being all, and elsewhere
// the operator's Secrets.
func operatorsSecrets(listed []string, operators []types.NamespacedName, selector fields.Selector, transform toolscache.TransformFunc) cache.ByObject {
	by := cache.ByObject{Field: selector, Transform: transform}
	if len(listed) == 0 {
		return by
	}
	by.Namespaces = namespaces(listed)
	for _, o := range operators {
		own := fields.AndSelectors(selector, fields.OneTermEqualSelector(metav1.ObjectNameField, o.Name))
		switch config, watched := by.Namespaces[o.Namespace]; {
		case !watched:
			by.Namespaces[o.Namespace] = cache.Config{FieldSelector: own}
		case config.FieldSelector != nil && config.FieldSelector.String() != own.String():
			// A selector can name one object; for two of a namespace all of it is watched.
			by.Namespaces[o.Namespace] = cache.Config{FieldSelector: selector}
		}
	}
	return by
}

// startSecrets starts both watches of Secrets and their fetchers, and adds channels that are closed when the watches have synced. The
// returned function ends all and waits for that.
func (m *mirror) startSecrets(ctx context.Context, synced map[string]<-chan struct{}) (stop func(), err error) {
	operators := optionSecrets(m.options.Ingress)
	ofTLS := fields.OneTermEqualSelector(secretType, string(corev1.SecretTypeTLS))
	full, err := m.caches.open(&corev1.Secret{}, operatorsSecrets(m.options.Namespaces, operators, ofTLS, m.secrets.arrive))
	if err != nil {
		return nil, err
	}
	ofOthers := []fields.Selector{fields.OneTermNotEqualSelector(secretType, string(corev1.SecretTypeTLS))}
	for _, t := range foreignTypes() {
		ofOthers = append(ofOthers, fields.OneTermNotEqualSelector(secretType, string(t)))
	}
	metadata := metadataOf("Secret")
	bare, err := m.caches.open(metadata, operatorsSecrets(m.options.Namespaces, operators, fields.AndSelectors(ofOthers...), trimMetadata))
	if err != nil {
		return nil, err
	}
	if synced["Secret"], err = observe(ctx, full, &corev1.Secret{}, m.secrets.fullChanged); err != nil {
		return nil, err
	}
	if synced["Secret of other types"], err = observe(ctx, bare, metadata, m.secrets.bareChanged); err != nil {
		return nil, err
	}
	return m.secrets.run(ctx, full, bare), nil
}

// startConfigMaps is startSecrets for the ConfigMaps that annotations and settings name. Where they may not be listed, they are not there.
func (m *mirror) startConfigMaps(ctx context.Context, synced map[string]<-chan struct{}) (stop func(), err error) {
	listed := m.options.Namespaces
	if len(listed) == 0 {
		listed = []string{metav1.NamespaceAll}
	} else if settings, ok := parseName(m.options.Ingress.Settings); ok && !slices.Contains(listed, settings.Namespace) {
		listed = append(slices.Clone(listed), settings.Namespace) // the settings name some beside themselves
	}
	var denied []string
	listed = slices.DeleteFunc(slices.Clone(listed), func(namespace string) bool {
		may := m.may(ctx, metadataList("ConfigMap"), client.InNamespace(namespace))
		if !may {
			denied = append(denied, namespace)
		}
		return !may
	})
	if len(denied) > 0 {
		m.log.Info("ConfigMaps may not be listed: those that annotations and settings name are not found",
			"namespaces", m.options.Namespaces, "denied", denied, "settings", m.options.Ingress.Settings)
	}
	if len(listed) == 0 {
		return func() {}, nil
	}
	by := cache.ByObject{Transform: trimMetadata}
	if listed[0] != metav1.NamespaceAll {
		by.Namespaces = namespaces(listed)
	}
	metadata := metadataOf("ConfigMap")
	bare, err := m.caches.open(metadata, by)
	if err != nil {
		return nil, err
	}
	if synced["ConfigMap"], err = observe(ctx, bare, metadata, m.configMaps.bareChanged); err != nil {
		return nil, err
	}
	return m.configMaps.run(ctx, bare), nil
}

// may asks whether objects may be listed until the API server says yes or no, or ctx ends.
func (m *mirror) may(ctx context.Context, list client.ObjectList, options ...client.ListOption) bool {
	for {
		err := m.reader.List(ctx, list, append(options, client.Limit(1))...)
		if err == nil || ctx.Err() != nil {
			return true
		}
		if apierrors.IsForbidden(err) {
			return false
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// run starts the caches and the fetchers. The returned function ends all and waits for that.
func (r *referents[T]) run(ctx context.Context, caches ...cache.Cache) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	r.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]())
	var running sync.WaitGroup
	for _, c := range caches {
		running.Go(func() {
			// Start fails only when called twice.
			if err := c.Start(ctx); err != nil {
				r.log.Error(err, "a watch ended", "kind", r.kind.name)
			}
		})
	}
	for range fetchers {
		running.Go(func() { r.fetchLoop(ctx) })
	}
	return func() {
		cancel()
		r.queue.ShutDown()
		running.Wait()
	}
}

// metadataOf is an object of a kind of the core of which only metadata is watched.
func metadataOf(kind string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	return o
}

func metadataList(kind string) *metav1.PartialObjectMetadataList {
	l := &metav1.PartialObjectMetadataList{}
	l.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind + "List"))
	return l
}

// trimMetadata keeps the identity of an object of which only metadata is watched.
func trimMetadata(o any) (any, error) {
	m, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil
	}
	return &metav1.PartialObjectMetadata{TypeMeta: m.TypeMeta, ObjectMeta: identity(m)}, nil
}
