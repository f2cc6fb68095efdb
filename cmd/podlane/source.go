package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/ingress"
)

// readSource returns the objects of a folder or, without one, of a cluster.
func readSource(ctx context.Context, s *config.Source, o ingress.Options) (contents, error) {
	if s.From != "" {
		return newManifests(s.From, o).read()
	}
	r, err := newClusterReader(s, o)
	if err != nil {
		return contents{}, err
	}
	if err := r.read(ctx); err != nil {
		return contents{}, fmt.Errorf("cluster: %w", err)
	}
	return contents{snapshot: r.out, locate: func(p ingress.Problem) ingress.Problem { return p }}, nil
}

// clusterReader reads the objects of a cluster once. It only reads, and of Secrets and ConfigMaps only those that are named.
type clusterReader struct {
	client client.Reader
	out    ingress.Snapshot
}

func newClusterReader(s *config.Source, o ingress.Options) (*clusterReader, error) {
	at, err := findContext(s.Kubeconfig, s.Context)
	if err != nil {
		return nil, err
	}
	c, err := client.New(at.config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &clusterReader{c, ingress.Snapshot{Options: o, Taken: time.Now()}}, nil
}

// read fills out.
func (r *clusterReader) read(ctx context.Context) error {
	var ingresses networkingv1.IngressList
	var classes networkingv1.IngressClassList
	var services corev1.ServiceList
	for _, list := range []client.ObjectList{&ingresses, &classes, &services} {
		if err := r.client.List(ctx, list); err != nil {
			return err
		}
	}
	r.out.Ingresses, r.out.Classes, r.out.Services = pointers(ingresses.Items), pointers(classes.Items), pointers(services.Items)
	return r.readNamed(ctx)
}

// readNamed adds the Secrets and ConfigMaps that out names and does not have.
func (r *clusterReader) readNamed(ctx context.Context) error {
	// What the operator's ConfigMap names is known once it is there.
	for range 2 {
		for _, name := range ingress.ConfigMapRefs(r.out) {
			if err := get(ctx, r.client, name, &r.out.ConfigMaps); err != nil {
				return err
			}
		}
	}
	for _, name := range ingress.SecretRefs(r.out) {
		if err := get(ctx, r.client, name, &r.out.Secrets); err != nil {
			return err
		}
	}
	return nil
}

// get appends one object, unless it is there already or does not exist: Build says so.
func get[T any, P interface {
	*T
	client.Object
}](ctx context.Context, c client.Reader, name types.NamespacedName, into *[]*T) error {
	for _, have := range *into {
		if client.ObjectKeyFromObject(P(have)) == name {
			return nil
		}
	}
	object := P(new(T))
	switch err := c.Get(ctx, name, object); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return errors.Join(fmt.Errorf("%s", name), err)
	}
	*into = append(*into, (*T)(object))
	return nil
}

func pointers[T any](list []T) []*T {
	all := make([]*T, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return all
}
