package kubelet

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// An environment is a container's variables in the order of their definition.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) add(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []string {
	out := make([]string, 0, len(e.names))
	for _, n := range e.names {
		out = append(out, n+"="+e.values[n])
	}
	return out
}

var reference = regexp.MustCompile(`\$\$|\$\([A-Za-z_][-._A-Za-z0-9]*\)`)

// expand replaces $(NAME) of a defined variable by its value, and $$ by $, as Kubernetes does.
func (e *environment) expand(s string) string {
	return reference.ReplaceAllStringFunc(s, func(found string) string {
		if found == "$$" {
			return "$"
		}
		if v, ok := e.values[found[2:len(found)-1]]; ok {
			return v
		}
		return found
	})
}

func (e *environment) expandAll(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, e.expand(s))
	}
	return out
}

func (c *container) environment(ctx context.Context) (*environment, error) {
	e := &environment{values: map[string]string{}}
	e.add("PATH", os.Getenv("PATH"))
	e.add("HOSTNAME", c.pod.name)
	e.add("HOME", "/var/tmp")
	for _, from := range c.spec.EnvFrom {
		values, err := c.source(ctx, from)
		if err != nil {
			return nil, err
		}
		for name, value := range values {
			if len(validation.IsEnvVarName(name)) == 0 {
				e.add(from.Prefix+name, value)
			}
		}
	}
	for _, v := range c.spec.Env {
		value := e.expand(v.Value)
		if v.ValueFrom != nil {
			var err error
			if value, err = c.valueFrom(ctx, v.ValueFrom); err != nil {
				return nil, fmt.Errorf("variable %s: %w", v.Name, err)
			}
		}
		e.add(v.Name, value)
	}
	return e, nil
}

func (c *container) source(ctx context.Context, from corev1.EnvFromSource) (map[string]string, error) {
	core := c.pod.kubelet.Client.CoreV1()
	switch {
	case from.ConfigMapRef != nil:
		cm, err := core.ConfigMaps(c.pod.namespace).Get(ctx, from.ConfigMapRef.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return cm.Data, nil
	case from.SecretRef != nil:
		return c.secret(ctx, from.SecretRef.Name)
	}
	return nil, nil
}

func (c *container) secret(ctx context.Context, name string) (map[string]string, error) {
	s, err := c.pod.kubelet.Client.CoreV1().Secrets(c.pod.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for k, v := range s.Data {
		out[k] = string(v)
	}
	return out, nil
}

func (c *container) valueFrom(ctx context.Context, from *corev1.EnvVarSource) (string, error) {
	switch {
	case from.FieldRef != nil:
		return c.pod.field(from.FieldRef.FieldPath)
	case from.ConfigMapKeyRef != nil:
		values, err := c.source(ctx, corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: from.ConfigMapKeyRef.LocalObjectReference}})
		return values[from.ConfigMapKeyRef.Key], err
	case from.SecretKeyRef != nil:
		values, err := c.secret(ctx, from.SecretKeyRef.Name)
		return values[from.SecretKeyRef.Key], err
	case from.ResourceFieldRef != nil:
		return "1", nil // there are no limits; every resource is one
	}
	return "", fmt.Errorf("source is not supported by the process kubelet")
}

// field is the value of a downward API field path.
func (p *pod) field(fieldPath string) (string, error) {
	o := p.current()
	if name, key, ok := strings.Cut(strings.TrimSuffix(fieldPath, "']"), "['"); ok {
		switch name {
		case "metadata.labels":
			return o.Labels[key], nil
		case "metadata.annotations":
			return o.Annotations[key], nil
		}
	}
	switch fieldPath {
	case "metadata.name":
		return p.name, nil
	case "metadata.namespace":
		return p.namespace, nil
	case "metadata.uid":
		return string(p.uid), nil
	case "spec.nodeName":
		return o.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return o.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return p.kubelet.NodeIP.String(), nil
	case "status.podIP":
		return p.address().String(), nil
	case "status.podIPs":
		var all []string
		for _, a := range p.kubelet.net.addresses(p.address()) {
			all = append(all, a.String())
		}
		return strings.Join(all, ","), nil
	}
	return "", fmt.Errorf("field %s is not supported by the process kubelet", fieldPath)
}
