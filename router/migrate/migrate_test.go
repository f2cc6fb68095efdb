package migrate_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/migrate"
)

// anIngress returns an Ingress of class nginx with a path to Service web.
func anIngress(name string, annotations map[string]string) *networkingv1.Ingress {
	typ := networkingv1.PathTypePrefix
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "u", Annotations: map[string]string{}}}
	for key, value := range annotations {
		i.Annotations["nginx.ingress.kubernetes.io/"+key] = value
	}
	rule := networkingv1.IngressRule{Host: name + ".example"}
	rule.HTTP = &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &typ, Backend: networkingv1.IngressBackend{
		Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}},
	}}}}
	i.Spec.Rules = []networkingv1.IngressRule{rule}
	return i
}

// report builds s as podlane migrate does.
func report(s ingress.Snapshot, o migrate.Options) *migrate.Report {
	options := config.MigrateIngress()
	options.TakeEvery()
	s.Options = options.Options()
	s.Options.Settings = "ingress-nginx/controller"
	_, problems := ingress.Build(s, options.Families())
	return migrate.New(s, options.Families(), problems, o)
}

func web() *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		annotations map[string]string
		want        migrate.Verdict
		note        string
	}{
		{nil, migrate.Same, ""},
		{map[string]string{"ssl-redirect": "false"}, migrate.Same, ""},
		{map[string]string{"server-alias": "a.example"}, migrate.Differs, "differs metadata.annotations[nginx.ingress.kubernetes.io/server-alias]: server-alias: the name has a certificate"},
		{map[string]string{"use-regex": "maybe"}, migrate.Differs, "is not valid"},
		{map[string]string{"use-regex": "true"}, migrate.Same, "is matched as ingress-nginx does"},
		{map[string]string{"nonsense": "x"}, migrate.Refused, "does not know"},
		{map[string]string{"http2-push-preload": "true"}, migrate.Same, "browsers have removed"},
		{map[string]string{"server-snippet": "add_header X y;"}, migrate.Refused, "map[add-response-headers:X: y]"},
		{map[string]string{"force-ssl-redirect": "perhaps"}, migrate.Refused, "answer 503"},
	} {
		r := report(ingress.Snapshot{Ingresses: []*networkingv1.Ingress{anIngress("a", c.annotations)}, Services: []*corev1.Service{web()}}, migrate.Options{})
		item := r.Items[0]
		var notes strings.Builder
		for _, n := range item.Notes {
			fmt.Fprintln(&notes, n.Verdict, n.Field+":", n.Text, n.Instead, n.Left)
		}
		if item.Verdict != c.want || r.Worst() != c.want || !strings.Contains(notes.String(), c.note) || c.note == "" && len(item.Notes) > 0 {
			t.Errorf("%v: %s, want %s with %q:\n%s", c.annotations, item.Verdict, c.want, c.note, notes.String())
		}
		if item.Keys != len(c.annotations) || r.Keys.Same+r.Keys.Differs+r.Keys.Refused != len(c.annotations) {
			t.Errorf("%v: %d keys, counted as %+v", c.annotations, item.Keys, r.Keys)
		}
	}
}

// TestWhatIsNotAmongTheObjects: in a folder of Ingresses a Service is not missing because it is not there, in a cluster it is.
func TestWhatIsNotAmongTheObjects(t *testing.T) {
	s := ingress.Snapshot{Ingresses: []*networkingv1.Ingress{anIngress("a", nil)}}
	if r := report(s, migrate.Options{}); r.Worst() != migrate.Refused {
		t.Errorf("in a cluster: %s", r.Worst())
	}
	r := report(s, migrate.Options{Partial: true})
	if r.Worst() != migrate.Same || len(r.Items[0].Notes) != 1 {
		t.Errorf("in a folder: %s, %v", r.Worst(), r.Items[0].Notes)
	}
}

func TestSettings(t *testing.T) {
	c := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ingress-nginx", Name: "controller"},
		Data:       map[string]string{"worker-processes": "4", "http-snippet": "x", "strict-validate-path-type": "true", "no-such-key": "1", "allow-snippet-annotations": "true"},
	}
	other := c.DeepCopy()
	other.Name = "other"
	r := report(ingress.Snapshot{ConfigMaps: []*corev1.ConfigMap{other, c}}, migrate.Options{})
	if len(r.Items) != 1 || r.Items[0].Keys != 5 || r.Keys != (migrate.Totals{Same: 2, Differs: 1, Refused: 2}) {
		t.Errorf("%+v of %+v", r.Keys, r.Items)
	}
}

// manyIngresses returns n Ingresses with a realistic mix of annotations.
func manyIngresses(n int) ingress.Snapshot {
	mixes := []map[string]string{
		nil, {"ssl-redirect": "false"}, {"rewrite-target": "/$2", "use-regex": "true"}, {"proxy-body-size": "8m", "proxy-read-timeout": "600", "proxy-send-timeout": "600"},
		{"enable-cors": "true", "cors-allow-origin": "https://a.example"}, {"whitelist-source-range": "10.0.0.0/8,192.168.0.0/16"},
		{"backend-protocol": "HTTPS", "proxy-ssl-verify": "off"}, {"affinity": "cookie", "session-cookie-name": "route", "session-cookie-max-age": "3600"},
		{"configuration-snippet": "more_set_headers \"X-A: b\";"}, {"limit-rps": "10", "limit-connections": "20"},
	}
	s := ingress.Snapshot{Services: []*corev1.Service{web()}}
	for i := range n {
		s.Ingresses = append(s.Ingresses, anIngress(fmt.Sprintf("i%d", i), mixes[i%len(mixes)]))
	}
	return s
}

// BenchmarkMigrate reports on 2,000 Ingresses.
func BenchmarkMigrate(b *testing.B) {
	s := manyIngresses(2000)
	for b.Loop() {
		report(s, migrate.Options{})
	}
}

// BenchmarkBuild builds 2,000 Ingresses from nothing, and after one of them changed.
func BenchmarkBuild(b *testing.B) {
	options := config.MigrateIngress()
	options.TakeEvery()
	families := options.Families()
	s := manyIngresses(2000)
	s.Options = options.Options()
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			ingress.Build(s, families)
		}
	})
	b.Run("one changed", func(b *testing.B) {
		builder := ingress.NewBuilder(families)
		builder.Build(s)
		for n := 0; b.Loop(); n++ {
			s.Ingresses[1000] = anIngress("i1000", map[string]string{"ssl-redirect": fmt.Sprint(n%2 == 0)})
			builder.Build(s)
		}
	})
}
