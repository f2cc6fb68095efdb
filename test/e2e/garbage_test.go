package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
)

// garbage are values that got into the configuration of other controllers, and values that are too much of something.
func garbage() []string {
	return []string{
		"/foo;}load_module /tmp/evil.so;{", "http://a/#;\n}\nlocation /x { return 200; }", "${env:PATH} $(id) {{ .Env }}", "a\x00b", "\r\nSet-Cookie: a=b",
		strings.Repeat("(", 2000), "(a+)+$", "https://[::1]%2f@evil.example/", "99999999999999999999999999", "-1", "\u202egnp.exe\u0000", strings.Repeat("a,", 20_000),
	}
}

// A documented is a row of ANNOTATIONS.md: what users are told that they may write.
type documented struct {
	name, kind          string
	annotation, setting bool
}

func documentation(t *testing.T) []documented {
	t.Helper()
	content, err := os.ReadFile(root + "/ANNOTATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (annotation|both|setting)[^|]*\\| ([^|]+) \\|")
	var all []documented
	for _, m := range row.FindAllStringSubmatch(string(content), -1) {
		all = append(all, documented{name: m[1], kind: strings.TrimSpace(m[3]), annotation: m[2] != "setting", setting: m[2] != "annotation"})
	}
	if len(all) < 250 {
		t.Fatalf("only %d rows of ANNOTATIONS.md are understood", len(all))
	}
	return all
}

// A dump is the namespace that garbage goes into.
type dump struct {
	t       *testing.T
	cluster *cluster.Cluster
	ns      string
	classes [2]string // ours, and one of ingress-nginx's, which is read as ingress-nginx reads it
}

// put writes an Ingress with annotations, of a host of its own.
func (d *dump) put(ctx context.Context, name, class string, annotations map[string]string) error {
	i := ingressObject(class, name, name+".garbage.test", "web-svc")
	i.Annotations = annotations
	_, err := d.cluster.Client.NetworkingV1().Ingresses(d.ns).Create(ctx, i, metav1.CreateOptions{})
	return err
}

// fill writes each value into each annotation, one Ingress for each, and returns the names of those whose values cannot be of their kind.
func (d *dump) fill(rows []documented) (wrong []string) {
	d.t.Helper()
	values := garbage()
	prefixes := [2]string{"podlane.dev/", "nginx.ingress.kubernetes.io/"}
	each(d.t, len(rows)*len(values), func(ctx context.Context, n int) error {
		row, value := rows[n/len(values)], values[n%len(values)]
		which := n % 2
		return d.put(ctx, garbageName(n), d.classes[which], map[string]string{prefixes[which] + row.name: value})
	})
	for n := range len(rows) * len(values) {
		switch value := values[n%len(values)]; rows[n/len(values)].kind {
		case "bool", "duration", "size", "on/off", "url":
			if value != "-1" && !strings.HasPrefix(value, "999") { // whether these are numbers is the annotation's to say
				wrong = append(wrong, garbageName(n))
			}
		case "int":
			if value != "-1" {
				wrong = append(wrong, garbageName(n))
			}
		}
	}
	return wrong
}

func garbageName(n int) string { return fmt.Sprintf("g%04d", n) }

// fillToTheBrim writes as much as the API server takes: 256 KiB of annotations in one value and in many names, and a megabyte in what annotations name.
func (d *dump) fillToTheBrim(rows []documented) (number int) {
	d.t.Helper()
	const most = 256 << 10
	each(d.t, len(rows)/6, func(ctx context.Context, n int) error {
		name := "podlane.dev/" + rows[6*n].name
		return d.put(ctx, fmt.Sprintf("large%02d", n), d.classes[0], map[string]string{name: strings.Repeat("x ", (most-len(name))/2)})
	})
	many := map[string]string{}
	for n := range most / 20 {
		many[fmt.Sprintf("podlane.dev/no%05d", n)] = "x"
	}
	if err := d.put(d.t.Context(), "many", d.classes[0], many); err != nil {
		d.t.Fatal(err)
	}
	if err := d.put(d.t.Context(), "beyond", d.classes[0], map[string]string{"a": strings.Repeat("x", most+1)}); !apierrors.IsInvalid(err) {
		d.t.Errorf("the API server takes more than 256 KiB of annotations now: %v", err)
	}
	million := bytes.Repeat([]byte("a:b\xff\n"), (1<<20-100)/5)
	objects := metav1.ObjectMeta{Name: "million", Annotations: map[string]string{"x": strings.Repeat("x", most-100)}}
	secret := &corev1.Secret{ObjectMeta: objects, Data: map[string][]byte{"auth": million}}
	if _, err := d.cluster.Client.CoreV1().Secrets(d.ns).Create(d.t.Context(), secret, metav1.CreateOptions{}); err != nil {
		d.t.Fatal(err)
	}
	settings := &corev1.ConfigMap{ObjectMeta: objects, BinaryData: map[string][]byte{"auth": million}}
	if _, err := d.cluster.Client.CoreV1().ConfigMaps(d.ns).Create(d.t.Context(), settings, metav1.CreateOptions{}); err != nil {
		d.t.Fatal(err)
	}
	for _, row := range rows {
		if row.kind != "secret" && row.kind != "configmap" {
			continue
		}
		number++
		annotations := map[string]string{"podlane.dev/" + row.name: "million", "podlane.dev/auth-type": "basic"}
		if err := d.put(d.t.Context(), fmt.Sprintf("names%02d", number), d.classes[0], annotations); err != nil {
			d.t.Fatal(err)
		}
	}
	return number
}

// spoil writes each value into each setting of the operator's ConfigMap, one value after the other.
func (d *dump) spoil(rows []documented, l *lane) {
	d.t.Helper()
	for n, value := range garbage() {
		data := map[string]string{}
		for _, row := range rows {
			if row.setting {
				data[row.name] = value[:min(len(value), 2000)]
			}
		}
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: data}
		if _, err := d.cluster.Client.CoreV1().ConfigMaps(d.ns).Update(d.t.Context(), object, metav1.UpdateOptions{}); err != nil {
			d.t.Fatal(err)
		}
		// What comes later is built from the new ConfigMap, too.
		name := fmt.Sprintf("later%02d", n)
		if err := d.put(d.t.Context(), name, d.classes[0], nil); err != nil {
			d.t.Fatal(err)
		}
		waitProblem(d.t, l, problem{Kind: "ConfigMap", Name: "settings"})
		d.hostIsKnown(l, name)
	}
}

// hostIsKnown waits until a host has a route, whatever becomes of its requests.
func (d *dump) hostIsKnown(l *lane, name string) {
	d.t.Helper()
	cluster.Until(d.t, "a route of "+name, func(ctx context.Context) error {
		status, _, err := fetchHost(ctx, l, name+".garbage.test")
		if err == nil && status == http.StatusNotFound {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

// F25 and C8: garbage in every annotation and setting that there is, as real objects, as large as the API server lets them be. The neighbour's
// requests go on, whoever wrote nonsense is told so in a few words, and neither memory nor Events are unbounded.
func TestF25Garbage(t *testing.T) {
	c := cluster.New(t, cluster.Options{APIServerOnly: true})
	i := install(t, c)
	ns := namespace(t, c)
	nginx := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "k8s.io/ingress-nginx"}}
	if _, err := c.Client.NetworkingV1().IngressClasses().Create(t.Context(), nginx, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ns.Apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {}\n---\n" +
		"apiVersion: v1\nkind: Service\nmetadata: {name: web-svc}\nspec: {clusterIP: None, ports: [{port: 80}]}\n")
	s := newShelf(t, i, ns, 6)
	// As in a container of 640 MiB: what a Build leaves behind is collected in time, and what it keeps must fit.
	t.Setenv("GOMEMLIMIT", "512MiB")
	l := i.start(t, "--claim-ingress-nginx", "--configmap="+ns.Name+"/settings", "--publish-status-address=192.0.2.1")
	l.waitStatus(t, "http://"+s.host(0)+"/", http.StatusOK)
	loads := s.loads(l)
	d := &dump{t: t, cluster: c, ns: ns.Name, classes: [2]string{i.class, nginx.Name}}

	rows := documentation(t)
	var annotations []documented
	for _, row := range rows {
		if row.annotation {
			annotations = append(annotations, row)
		}
	}
	began := time.Now()
	wrong := d.fill(annotations)
	t.Logf("%d annotations, %d Ingresses written in %s", len(annotations), len(annotations)*len(garbage()), time.Since(began).Round(time.Millisecond))
	d.hostIsKnown(l, garbageName(len(annotations)*len(garbage())-1))
	cluster.Until(t, "a Problem of each Ingress whose value cannot be", func(ctx context.Context) error {
		all, err := l.problems(ctx)
		if err != nil {
			return err
		}
		told := map[string]bool{}
		for _, p := range all {
			told[p.Name] = true
		}
		var silent []string
		for _, name := range wrong {
			if !told[name] {
				silent = append(silent, name)
			}
		}
		if len(silent) > 0 {
			return fmt.Errorf("%d of %d have none: %v", len(silent), len(wrong), silent)
		}
		return nil
	})
	quiet, err := l.memory()
	if err != nil {
		t.Fatal(err)
	}
	named := d.fillToTheBrim(annotations)
	waitProblem(t, l, problem{Name: "many", Field: "metadata.annotations", Message: "more annotations that Podlane does not know"})
	for n := range named {
		waitProblem(t, l, problem{Name: fmt.Sprintf("names%02d", n+1)})
	}
	brim, err := l.memory()
	if err != nil {
		t.Fatal(err)
	}
	// A broken setting may close every route: nobody knows what it was to keep out.
	stopAll(t, loads)
	d.spoil(rows, l)
	full, err := l.memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("RSS %d MiB with the Ingresses, %d MiB with the largest, %d MiB after all settings were wrong", quiet>>20, brim>>20, full>>20)
	if full > 768<<20 {
		t.Error("that is out of bounds")
	}
	checkSizes(t, l, c, ns.Name)
	// Another tenant who comes now is told what is wrong at once, although thousands of Events are yet to be written.
	other := namespace(t, c)
	other.Apply(ingressOf(i.class, "polite", "polite.garbage.test", "nothing"))
	waitEvent(t, c, waitProblem(t, l, problem{Kind: "Ingress", Namespace: other.Name, Name: "polite", Reason: "ServiceMissing"}))
}

// checkSizes looks at what is told of each object, on the page and as Events.
func checkSizes(t *testing.T, l *lane, c *cluster.Cluster, namespace string) {
	t.Helper()
	all, err := l.problems(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	longest, perObject := 0, map[string]int{}
	for _, p := range all {
		longest = max(longest, len(p.Message))
		perObject[p.Kind+" "+p.Name]++
		if len(p.Message) > 1000 || strings.ContainsFunc(p.Message, func(r rune) bool { return r < ' ' }) {
			t.Errorf("%s %s: %s: a message of %d bytes: %.300q", p.Kind, p.Name, p.Field, len(p.Message), p.Message)
		}
	}
	most := 0
	for name, n := range perObject {
		most = max(most, n)
		if n > 100 && !strings.HasPrefix(name, "ConfigMap") {
			t.Errorf("%s has %d Problems", name, n)
		}
	}
	events, err := c.Client.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(events.Items) == 0 {
		t.Error("no Events")
	}
	t.Logf("%d Problems, %d of one object at most, the longest message %d bytes; %d Events so far", len(all), most, longest, len(events.Items))
}
