package controllers

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	corev1 "k8s.io/api/core/v1"
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

// secretWatch is what the two watches of Secrets need. They have caches of their own because a cache can select the objects of a kind in
// one way only, and because they must start later than the others.
type secretWatch struct {
	config     *rest.Config
	client     *http.Client
	scheme     *runtime.Scheme
	mapper     meta.RESTMapper
	links      *links
	namespaces []string
	// operators are the Secrets of options, which may be outside the namespaces.
	operators []types.NamespacedName
}

// foreignTypes are Secrets that no Ingress can mean: credentials of the cluster itself, and Helm's archives, the bulk
// of all Secrets. Not even their names are watched; a reference to one is a reference to nothing.
func foreignTypes() []corev1.SecretType {
	return []corev1.SecretType{
		corev1.SecretTypeServiceAccountToken, corev1.SecretTypeDockercfg, corev1.SecretTypeDockerConfigJson,
		corev1.SecretTypeBootstrapToken, "helm.sh/release.v1",
	}
}

// open makes a cache for one kind of object and one selector.
func (w *secretWatch) open(o client.Object, selector fields.Selector, transform toolscache.TransformFunc) (cache.Cache, error) {
	by := cache.ByObject{Field: selector, Transform: transform}
	if len(w.namespaces) > 0 {
		by.Namespaces = w.selectors(selector)
	}
	c, err := cache.New(w.config, cache.Options{
		HTTPClient:  w.client,
		Scheme:      w.scheme,
		Mapper:      w.mapper,
		NewInformer: w.links.newInformer,
		ByObject:    map[client.Object]cache.ByObject{o: by},
	})
	if err != nil {
		return nil, fmt.Errorf("cache for Secrets: %w", err)
	}
	return c, nil
}

// selectors returns what is watched in each namespace: all that selector selects in those that the options list, and elsewhere the operator's Secrets.
func (w *secretWatch) selectors(selector fields.Selector) map[string]cache.Config {
	byNamespace := namespaces(w.namespaces)
	for _, o := range w.operators {
		own := fields.AndSelectors(selector, fields.OneTermEqualSelector(metav1.ObjectNameField, o.Name))
		switch config, watched := byNamespace[o.Namespace]; {
		case !watched:
			byNamespace[o.Namespace] = cache.Config{FieldSelector: own}
		case config.FieldSelector != nil && config.FieldSelector.String() != own.String():
			// A selector can name one object; for two of a namespace all of it is watched.
			byNamespace[o.Namespace] = cache.Config{FieldSelector: selector}
		}
	}
	return byNamespace
}

// start starts both watches and the fetchers, and adds channels that are closed when the watches have synced. The
// returned function waits for the end of all; ctx must have ended.
func (s *secrets) start(ctx context.Context, synced map[string]<-chan struct{}) (stopped func(), err error) {
	tls, err := s.watch.open(&corev1.Secret{}, fields.OneTermEqualSelector(secretType, string(corev1.SecretTypeTLS)), s.arrive)
	if err != nil {
		return nil, err
	}
	others := []fields.Selector{fields.OneTermNotEqualSelector(secretType, string(corev1.SecretTypeTLS))}
	for _, t := range foreignTypes() {
		others = append(others, fields.OneTermNotEqualSelector(secretType, string(t)))
	}
	metadata := &metav1.PartialObjectMetadata{}
	metadata.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	other, err := s.watch.open(metadata, fields.AndSelectors(others...), trimMetadata)
	if err != nil {
		return nil, err
	}
	if synced["Secret"], err = observe(ctx, tls, &corev1.Secret{}, s.tlsChanged); err != nil {
		return nil, err
	}
	if synced["Secret of other types"], err = observe(ctx, other, metadata, s.otherChanged); err != nil {
		return nil, err
	}
	s.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]())
	var running sync.WaitGroup
	for _, c := range []cache.Cache{tls, other} {
		running.Go(func() {
			// Start fails only when called twice.
			if err := c.Start(ctx); err != nil {
				s.log.Error(err, "the watch of Secrets ended")
			}
		})
	}
	for range secretFetchers {
		running.Go(func() { s.fetchLoop(ctx) })
	}
	return func() {
		s.queue.ShutDown()
		running.Wait()
	}, nil
}

// trimMetadata keeps the identity of an object of which only metadata is watched.
func trimMetadata(o any) (any, error) {
	m, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil
	}
	return &metav1.PartialObjectMetadata{TypeMeta: m.TypeMeta, ObjectMeta: identity(m)}, nil
}
