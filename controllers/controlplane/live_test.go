package controlplane

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/router/ingress"
)

// TestChangesAreLive prints how long a change takes from the watch event, and from the answer of the API server to whoever
// made it, until the data plane has it.
func TestChangesAreLive(t *testing.T) {
	c := server(t)
	ns := c.Namespace(t).Name
	r := run(t, as(c, "podlane"), options(ns))
	create(t, c, ns, newService("web"), newSlice("web", 0, 1))
	var total []time.Duration
	for n := range 50 {
		host := fmt.Sprintf("h%d.example", n)
		start := time.Now()
		create(t, c, ns, newIngress(fmt.Sprint("i", n), host, "web"))
		for !r.plane.has(host) {
			if time.Since(start) > time.Minute {
				t.Fatal("not live")
			}
			time.Sleep(100 * time.Microsecond)
		}
		total = append(total, time.Since(start))
		time.Sleep(25 * time.Millisecond)
	}
	r.mu.Lock()
	t.Logf("Ingress: event to live %s; kubectl's request to live %s", percentiles(r.live), percentiles(total))
	r.mu.Unlock()

	slices := c.Client.DiscoveryV1().EndpointSlices(ns)
	total = nil
	for n := range 200 {
		s := newSlice("web", n+1, 1)
		start := time.Now()
		must(t)(slices.Update(t.Context(), s, metav1.UpdateOptions{}))
		want := s.Endpoints[0].Addresses[0] + ":8000"
		for got := r.plane.addresses(ns, "web"); len(got) != 1 || got[0] != want; got = r.plane.addresses(ns, "web") {
			if time.Since(start) > time.Minute {
				t.Fatal("not live")
			}
			time.Sleep(100 * time.Microsecond)
		}
		total = append(total, time.Since(start))
	}
	r.mu.Lock()
	t.Logf("EndpointSlice: event to set %s; request to live %s", percentiles(r.set), percentiles(total))
	r.mu.Unlock()
	if generation := r.Generation(); generation > 60 {
		t.Errorf("generation %d: endpoint changes rebuild the table", generation)
	}
	if r.plane.early != 0 {
		t.Errorf("%d tables went live before the addresses of their pools", r.plane.early)
	}
}

func TestCoreEndpointsWithoutSlices(t *testing.T) {
	c := server(t)
	ns := c.Namespace(t).Name
	r := run(t, as(c, "podlane"), options(ns))
	e := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "external"},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "10.9.0.1"}, {IP: "10.9.0.2"}},
			Ports:     []corev1.EndpointPort{{Name: "http", Port: 8000}},
		}},
	}
	create(t, c, ns, newService("external"), e, newIngress("i", "external.example", "external"))
	waitFor(t, "addresses", func() bool {
		return slices.Equal(r.plane.addresses(ns, "external"), []string{"10.9.0.1:8000", "10.9.0.2:8000"})
	})
	e.Subsets[0].Addresses = e.Subsets[0].Addresses[:1]
	must(t)(c.Client.CoreV1().Endpoints(ns).Update(t.Context(), e, metav1.UpdateOptions{}))
	waitFor(t, "an address less", func() bool { return len(r.plane.addresses(ns, "external")) == 1 })
	create(t, c, ns, newSlice("external", 7, 3))
	waitFor(t, "the slice", func() bool { return len(r.plane.addresses(ns, "external")) == 3 })
}

func TestSecrets(t *testing.T) {
	c := server(t)
	ns, other := c.Namespace(t).Name, c.Namespace(t).Name
	o := options(ns)
	o.Ingress.DefaultCertificate = other + "/default"
	create(t, c, other, newSecret(t, "default", corev1.SecretTypeTLS, "default.example"), newSecret(t, "foreign", corev1.SecretTypeTLS, "tls3.x.example"))
	create(t, c, ns, newService("web"), newSecret(t, "plain", corev1.SecretTypeTLS, "tls0.x.example"))
	r := run(t, as(c, "podlane"), o)
	if r.plane.table.Load().DefaultCertificate() == nil {
		t.Error("the default certificate, in another namespace, is missing from the first table")
	}
	create(t, c, ns,
		newIngress("i", "x.example", "web", "plain", "opaque", "late", "foreign"),
		newSecret(t, "opaque", corev1.SecretTypeOpaque, "tls1.x.example"))
	usable := func() (names []string) {
		for _, certificate := range r.plane.table.Load().Certificates() {
			if certificate.KeyPair != nil {
				names = append(names, certificate.Secret)
			}
		}
		slices.Sort(names)
		return names
	}
	waitFor(t, "both types", func() bool { return slices.Equal(usable(), []string{"opaque", "plain"}) })
	missing := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.problems[ingress.SecretMissing]
	}
	waitFor(t, "Problems for the missing and the foreign Secret", func() bool { return missing() == 2 })
	create(t, c, ns, newSecret(t, "late", corev1.SecretTypeTLS, "tls2.x.example"))
	waitFor(t, "the late Secret", func() bool { return slices.Equal(usable(), []string{"late", "opaque", "plain"}) && missing() == 1 })

	serial := func(secret string) string {
		for _, certificate := range r.plane.table.Load().Certificates() {
			if certificate.Secret == secret && certificate.KeyPair != nil {
				return certificate.KeyPair.Leaf.SerialNumber.String()
			}
		}
		return ""
	}
	for _, s := range []*corev1.Secret{newSecret(t, "opaque", corev1.SecretTypeOpaque, "tls1.x.example"), newSecret(t, "plain", corev1.SecretTypeTLS, "tls0.x.example")} {
		old := serial(s.Name)
		must(t)(c.Client.CoreV1().Secrets(ns).Update(t.Context(), s, metav1.UpdateOptions{}))
		waitFor(t, "the new version of "+s.Name, func() bool { return serial(s.Name) != old && serial(s.Name) != "" })
	}
}
