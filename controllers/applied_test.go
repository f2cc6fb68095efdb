package controllers

import (
	"fmt"
	"testing"
	"testing/synctest"

	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// summary is an answer as text: the versions seen and live, and whether the object is used.
func summary(t *testing.T, c *Controllers, kind, name string) string {
	t.Helper()
	a, err := c.Applied(kind, named("ns", name))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("seen %s live %s used %t problems %d slices %v", a.Seen.ResourceVersion, a.Live.ResourceVersion, a.Used, len(a.Problems), a.Slices)
}

func TestAppliedIsWhatIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		route := &router.Route{ID: router.RouteID{Host: "a.example", Path: "/", Type: router.Prefix}, Backends: []router.Backend{{Service: router.ServicePort{Namespace: "ns", Name: "web"}}}}
		f := newFixture(t, func(s ingress.Snapshot) (*router.Table, []ingress.Problem) {
			if len(s.Ingresses) == 0 {
				return new(router.Table), nil
			}
			return router.NewTable([]*router.Route{route}, nil), []ingress.Problem{{Object: ingress.Object{Kind: "Ingress", Namespace: "ns", Name: "i"}}, {Object: ingress.Object{Kind: "Ingress", Namespace: "ns", Name: "j"}}}
		})
		c := &Controllers{options: f.mirror.options, mirror: f.mirror, addresses: f.addresses, publisher: f.publisher}
		want := func(when, kind, name, want string) {
			t.Helper()
			if got := summary(t, c, kind, name); got != want {
				t.Errorf("%s: %s %s is %q, want %q", when, kind, name, got, want)
			}
		}
		version := func(i *networkingv1.Ingress, v, path string) *networkingv1.Ingress {
			i = i.DeepCopy()
			i.ResourceVersion, i.Annotations = v, map[string]string{"path": path}
			return i
		}
		publish := func() {
			f.wake()
			f.reconcile(t)
		}
		if _, err := c.Applied("Ingress", named("ns", "i")); err == nil {
			t.Error("an answer before there is a table")
		}
		first := version(newIngress("i"), "9", "a")
		service := newService("web")
		service.ResourceVersion = "5"
		slice := newSlice("web-1", "web", 1)
		slice.ResourceVersion = "7"
		f.mirror.ingressChanged(nil, first)
		f.mirror.serviceChanged(nil, service)
		f.mirror.sliceChanged(nil, slice)
		f.plane.pools = []router.Service{{Namespace: "ns", Name: "web"}}
		publish()
		f.plane.pools = nil // a pool is new once
		want("published", "Ingress", "i", "seen 9 live 9 used true problems 1 slices map[]")
		want("published", "Service", "web", "seen 5 live 5 used true problems 0 slices map[web-1:7]")
		want("unknown", "Ingress", "none", "seen  live  used false problems 0 slices map[]")

		status := version(first, "10", "a")
		f.mirror.ingressChanged(first, status)
		want("status was written", "Ingress", "i", "seen 10 live 10 used true problems 1 slices map[]")

		second := version(first, "11", "b")
		f.mirror.ingressChanged(status, second)
		want("an annotation was seen, and nothing built", "Ingress", "i", "seen 11 live 9 used true problems 1 slices map[]")
		publish()
		want("built", "Ingress", "i", "seen 11 live 11 used true problems 1 slices map[]")

		changed := service.DeepCopy()
		changed.ResourceVersion, changed.Spec.ClusterIP = "12", "10.0.0.9"
		f.mirror.serviceChanged(service, changed)
		publish()
		want("in the table, its addresses not told", "Service", "web", "seen 12 live 5 used true problems 0 slices map[web-1:7]")
		newer := slice.DeepCopy()
		newer.ResourceVersion = "13"
		f.mirror.sliceChanged(slice, newer)
		want("a slice was seen, and not told", "Service", "web", "seen 12 live 5 used true problems 0 slices map[web-1:7]")
		f.addresses.refresh(router.Service{Namespace: "ns", Name: "web"})
		want("told", "Service", "web", "seen 12 live 12 used true problems 0 slices map[web-1:13]")

		f.mirror.ingressChanged(second, nil)
		want("gone, and still served", "Ingress", "i", "seen  live 11 used true problems 1 slices map[]")
		publish()
		want("gone", "Ingress", "i", "seen  live  used false problems 0 slices map[]")
		want("used no more", "Service", "web", "seen 12 live 12 used false problems 0 slices map[]")
		if _, err := c.Applied("Pod", named("ns", "i")); err == nil {
			t.Error("an answer about a kind that is not read")
		}
	})
}
