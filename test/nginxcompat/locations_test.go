package nginxcompat

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// rule is a path of an Ingress; to is the Service that it leads to.
type rule struct {
	path, to string
	typ      networkingv1.PathType
	// regex says that its Ingress has use-regex.
	regex bool
}

// site is a host and its rules, those of the older Ingress first.
type site struct {
	host  string
	rules []rule
}

// location is a location of nginx's.
type location struct {
	path, to string
	exact    bool
}

// locations is what ingress-nginx makes of the rules of one host. It takes ImplementationSpecific for Prefix where the Ingress is read
// (SetDefaultNGINXPathType), sorts, and writes each Prefix as two locations (updateServerLocations), so that none matches within an element.
func (s *site) locations() (list []location, pattern bool) {
	rules := slices.Clone(s.rules)
	for i := range rules {
		pattern = pattern || rules[i].regex
		if rules[i].typ == networkingv1.PathTypeImplementationSpecific {
			rules[i].typ = networkingv1.PathTypePrefix
		}
	}
	// Every server begins with the location of the default backend, of which a rule takes the place.
	root := rule{path: "/", typ: networkingv1.PathTypePrefix}
	if i := slices.IndexFunc(rules, func(r rule) bool { return r.path == root.path && r.typ == root.typ }); i >= 0 {
		root = rules[i]
		rules = slices.Delete(rules, i, i+1)
	}
	rules = slices.Insert(rules, 0, root)
	slices.SortStableFunc(rules, func(a, b rule) int {
		if len(a.path) != len(b.path) {
			return len(b.path) - len(a.path)
		}
		return strings.Compare(b.path, a.path)
	})
	taken := map[string]bool{}
	for _, r := range rules {
		taken[r.path] = taken[r.path] || r.typ == networkingv1.PathTypeExact
	}
	for _, r := range rules {
		exact := r.typ == networkingv1.PathTypeExact
		if r.path == "/" || exact || r.regex {
			list = append(list, location{path: r.path, to: r.to, exact: exact})
			continue
		}
		list = append(list, location{path: strings.TrimSuffix(r.path, "/") + "/", to: r.to})
		if !taken[r.path] {
			list = append(list, location{path: r.path, to: r.to, exact: true})
		}
	}
	return list, pattern
}

// server is the site as ingress-nginx writes it.
func (s *site) server() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server { listen unix:DIR/front; server_name %s;\n", s.host)
	list, pattern := s.locations()
	for _, l := range list {
		switch {
		case pattern:
			fmt.Fprintf(&b, `location ~* "^%s"`, l.path)
		case l.exact:
			fmt.Fprintf(&b, "location = %s", l.path)
		default:
			fmt.Fprintf(&b, "location %s", l.path)
		}
		if l.to == "" {
			b.WriteString(" { return 404; }\n")
			continue
		}
		fmt.Fprintf(&b, " { proxy_set_header X-Location %s; proxy_pass http://unix:DIR/pod; }\n", l.to)
	}
	return b.String() + "}\n"
}

// ingresses are the site's Ingresses, with and without use-regex.
func (s *site) ingresses() []*networkingv1.Ingress {
	var list []*networkingv1.Ingress
	for n, r := range s.rules {
		if n == 0 || r.regex != s.rules[n-1].regex {
			i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("i%d-%s", len(list), s.host)}}
			if r.regex {
				i.Annotations = map[string]string{"nginx.ingress.kubernetes.io/use-regex": "true"}
			}
			i.Spec.Rules = []networkingv1.IngressRule{{Host: s.host}}
			i.Spec.Rules[0].HTTP = &networkingv1.HTTPIngressRuleValue{}
			list = append(list, i)
		}
		http := list[len(list)-1].Spec.Rules[0].HTTP
		http.Paths = append(http.Paths, networkingv1.HTTPIngressPath{Path: r.path, PathType: &s.rules[n].typ, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: r.to, Port: networkingv1.ServiceBackendPort{Number: 80}},
		}})
	}
	return list
}

// drawSite draws rules over few elements, so that they meet often. Rules that make ingress-nginx write one location twice, which nginx
// does not load, are left out.
//
// The first regex rules are of an Ingress with use-regex.
func drawSite(rnd *rand.Rand, host string, regex int) site {
	s := site{host: host}
	elements := []string{"a", "ab", "A", "b", "a.b", "a-b"}
	patterns := []string{"/a(b|c)?", "/[ab]+", "/a/.*", "/a|/b", "/ab?$", "/(a)/(.*)"}
	types := []networkingv1.PathType{networkingv1.PathTypePrefix, networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific}
	taken := map[string]bool{}
	for n := range 1 + rnd.IntN(7) {
		r := rule{typ: types[rnd.IntN(len(types))], to: fmt.Sprintf("s%d", n), regex: n < regex}
		for range rnd.IntN(4) {
			r.path += "/" + elements[rnd.IntN(len(elements))]
		}
		if r.path == "" || rnd.IntN(4) == 0 {
			r.path += "/"
		}
		if r.regex && rnd.IntN(2) == 0 {
			r.path, r.typ = patterns[rnd.IntN(len(patterns))], networkingv1.PathTypeImplementationSpecific
		}
		key := r.path
		if r.typ != networkingv1.PathTypeExact {
			key = "prefix " + strings.TrimSuffix(r.path, "/")
		}
		if !taken[key] {
			taken[key] = true
			s.rules = append(s.rules, r)
		}
	}
	return s
}

// drawPath draws the path of a request: often that of a rule, spelled in another way or gone on with.
func drawPath(rnd *rand.Rand, s *site) string {
	elements := []string{"a", "ab", "A", "b", "a.b", "a-b", "abc", "%61", "%41b", ".", "x/..", "", "a%2Db"}
	path := ""
	if len(s.rules) > 0 && rnd.IntN(3) > 0 {
		r := s.rules[rnd.IntN(len(s.rules))]
		if path = r.path; strings.ContainsAny(path, "([|$") {
			path = "/ab"
		}
		switch rnd.IntN(6) {
		case 0:
			path += "x"
		case 1:
			path = strings.TrimSuffix(path, "/")
		case 2:
			path = strings.ToUpper(path)
		case 3:
			path += "/"
		}
	}
	for range rnd.IntN(3) {
		path += "/" + elements[rnd.IntN(len(elements))]
	}
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	return path
}

// TestLocations compares which rule answers, on tables that are drawn, with nginx's choice among the locations that ingress-nginx writes: paths
// of all three types, with and without patterns, of one or two Ingresses.
func TestLocations(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // cases, not secrets
	t.Logf("seed %d", seed)
	s := setup{http: "keepalive_requests 1000000; server_names_hash_bucket_size 128; server { listen unix:DIR/pod; location / { return 200 $http_x_location; } }\n"}
	var sites []site
	for n := range 150 {
		sites = append(sites, drawSite(rnd, fmt.Sprintf("h%d.test", n), max(0, n%6-2)))
		s.http += sites[n].server()
	}
	nginx, err := net.Dial("unix", startNginx(t, s, "127.0.0.1:9"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nginx.Close() })
	_ = nginx.SetDeadline(time.Now().Add(5 * time.Minute))
	in, table := bufio.NewReader(nginx), tableOf(sites)
	answers := map[string]int{}
	for i := range sites {
		for range 40 {
			path := drawPath(rnd, &sites[i])
			theirs, ours := nginxChoice(t, nginx, in, sites[i].host, path), choice(t, table, sites[i].host, path)
			if theirs != ours {
				t.Errorf("%s: nginx answers %q, Podlane %q\n%s%s", path, theirs, ours, sites[i].server(), hostOf(table, sites[i].host))
			}
			answers[ours[:1]]++
		}
	}
	for _, kind := range []string{"s", "n", "3"} {
		if answers[kind] < 5 {
			t.Errorf("few answers of a kind: %v", answers)
		}
	}
}

// tableOf is what Build makes of the sites, as ingress-nginx reads them.
func tableOf(sites []site) *router.Table {
	snapshot := ingress.Snapshot{Options: config.ServeIngress().Options()}
	snapshot.Options.Compat = ingress.CompatNginx
	for i := range sites {
		snapshot.Ingresses = append(snapshot.Ingresses, sites[i].ingresses()...)
	}
	for n := range 8 {
		snapshot.Services = append(snapshot.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("s%d", n)}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		})
	}
	table, _ := ingress.Build(snapshot, filters.Families(config.Policies()))
	return table
}

func hostOf(table *router.Table, name string) string {
	h, ok := table.Host(name)
	if !ok {
		return "no host"
	}
	return h.String()
}

// choice is the Service that requests go to, "none", or where they are sent.
func choice(t *testing.T, table *router.Table, host, path string) string {
	t.Helper()
	canonical, _, err := router.CanonicalPathString(path)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := table.Lookup(host, canonical)
	switch {
	case !ok:
		return "none"
	case r.AppendSlash:
		return "301 to " + canonical + "/"
	}
	return r.Backends[0].Service.Name
}

func nginxChoice(t *testing.T, c net.Conn, in *bufio.Reader, host, path string) string {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	switch res.StatusCode {
	case http.StatusNotFound:
		return "none"
	case http.StatusMovedPermanently:
		return "301 to " + strings.TrimPrefix(res.Header.Get("Location"), "http://"+host)
	case http.StatusOK:
		return string(body)
	}
	t.Fatalf("%s%s: %s", host, path, res.Status)
	return ""
}
