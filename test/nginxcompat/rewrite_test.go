package nginxcompat

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/policy"
)

// rewriting is the path and the rewrite-target of an Ingress, whose host is hN.test.
type rewriting struct{ path, target string }

// server is what ingress-nginx writes for r.
func (r rewriting) server(n int) string {
	rewrite := fmt.Sprintf(`rewrite "(?i)%s" %s break;`, r.path, r.target)
	if r.target == "" || r.target == r.path {
		rewrite = ""
	}
	return fmt.Sprintf("server { listen unix:DIR/front; server_name h%d.test; location ~* \"^%s\" { %s proxy_set_header Host $http_host; proxy_pass http://POD; } }\n", n, r.path, rewrite)
}

// differs says whether the reference of rewrite-target names the difference: nginx has no path to send, or leaves what a group matched unescaped in a
// URL, or matches bytes.
func (r rewriting) differs(uri string) bool {
	switch {
	case strings.HasPrefix(r.target, "$"):
		return !strings.HasPrefix(strings.ToLower(uri), "/a/") && !strings.HasPrefix(uri, "/x/")
	case strings.HasPrefix(r.target, "http"):
		return strings.Contains(uri, "%3F") || strings.Contains(uri, "%3C")
	}
	return strings.Contains(r.path, "{") && strings.Contains(uri, "%C3")
}

// ingress is r as an Ingress.
func (r rewriting) ingress(n int) *networkingv1.Ingress {
	typ := networkingv1.PathTypeImplementationSpecific
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("i", n), Annotations: map[string]string{
		"nginx.ingress.kubernetes.io/rewrite-target": r.target, "nginx.ingress.kubernetes.io/use-regex": "true",
	}}}
	i.Spec.Rules = []networkingv1.IngressRule{{Host: fmt.Sprintf("h%d.test", n)}}
	i.Spec.Rules[0].HTTP = &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: r.path, PathType: &typ, Backend: networkingv1.IngressBackend{
		Service: &networkingv1.IngressServiceBackend{Name: "pod", Port: networkingv1.ServiceBackendPort{Number: 80}},
	}}}}
	return i
}

// servePolicies starts an engine for Ingresses as ingress-nginx reads them, whose only Service is the Pod.
func servePolicies(t *testing.T, ingresses []*networkingv1.Ingress, pod string) string {
	t.Helper()
	snapshot := ingress.Snapshot{Options: config.ServeIngress().Options(), Ingresses: ingresses, Services: []*corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pod"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}}}
	snapshot.Options.Compat = ingress.CompatNginx
	table, problems := ingress.Build(snapshot, filters.Families(config.Policies()))
	for _, p := range problems {
		if p.Effect != ingress.Notice {
			t.Fatal(p)
		}
	}
	e := proxy.New(proxy.Options{Policies: config.Policies()})
	e.Prepare(table)
	address := router.Address{AddrPort: netip.MustParseAddrPort(pod), UID: "u", Ready: true, Serving: true}
	e.SetAddresses(router.Service{Namespace: "default", Name: "pod"}, map[string][]router.Address{"": {address}})
	e.Publish(table)
	return serve(t, e)
}

// TestRewriteTarget compares what the Pod is asked, or where the client is sent, with what nginx makes of the rewrite that ingress-nginx writes.
func TestRewriteTarget(t *testing.T) {
	rewritings := []rewriting{
		{"/a", "/new"}, {"/a", "/"}, {"/a/(.*)", "/$1"}, {"/a(/|$)(.*)", "/$2"}, {"/(a)/(b)?/?(.*)", "/$3/$2/$1"}, {"/a/(.*)", "/x/$1/$2/$10"}, {"/a(/.*)?", "$1"},
		{"/(.*)", "/pre/$1"}, {"/(A/.*)", "/$1"}, {"/a|/b", "/z"}, {"/(a)|/(b)", "/$1-$2"}, {"/a/([^/]+)/?(.*)$", "/$2/$1"}, {"/a", "/a"}, {"/", "/all"},
		{"/a/(.*)", "http://other.test/$1"}, {"/a/(.*)", "https://other.test:8443/x/$1"}, {"/a/(.*)", "/a:b~c-d._/$1"}, {"/a/([a-z]*)(.*)", "/$1/-/$2"}, {"/a/(.{1,2})(.*)", "/$2$1"}, {"/[[:alpha:]]+/(\\w+)", "/$1/"},
	}
	s := setup{http: "server_names_hash_bucket_size 128;\n"}
	var ingresses []*networkingv1.Ingress
	for n, r := range rewritings {
		s.http += r.server(n)
		ingresses = append(ingresses, r.ingress(n))
	}
	p := &pair{pod: newPod(t, s)}
	p.nginx, p.podlane = startNginx(t, s, p.pod.addr), servePolicies(t, ingresses, p.pod.addr)
	asked := func(network, addr, request string) string {
		res := ask(t, network, addr, request)
		defer res.Body.Close()
		text := fmt.Sprint(res.StatusCode, " ", cmp.Or(res.Header.Get("Location"), "-"))
		if got := p.pod.take(t); got != nil {
			text += " " + got.RequestURI
		}
		return text
	}
	kinds := map[string]int{}
	for n, r := range rewritings {
		for _, uri := range []string{
			"/", "/a", "/A/", "/a?x=/y", "/a/?", "/a/b", "/A/B/c?x=1&y", "/a//b///c", "/a/./b/../c/", "/x/../a/b", "/b", "/abc", "/x/a/b", "/a/%61%62", "/a/new%20one", "/a/%C3%A9t%c3%a9",
			"/a/b%2Fc", "/a/b%2fc%2F", "/a/b%3Fc?d", "/a/b%25c", "/a/b%23c", "/a/%22%3C%3E%5C%5E%60%7B%7C%7D", "/a/b;c=d", "/a/b+c&d=e", "/a/~:@!$'()*,=", "/a/%7E%2D%2E%5F", "/a/%2E%2E/x", "/a/%FF",
		} {
			if r.differs(uri) {
				continue
			}
			request := strings.Replace(get(uri), "a.test", fmt.Sprintf("h%d.test", n), 1)
			theirs, ours := asked("unix", p.nginx, request), asked("tcp", p.podlane, request)
			if theirs != ours {
				t.Errorf("%s -> %q: %s\nnginx:   %s\nPodlane: %s", r.path, r.target, uri, theirs, ours)
			}
			kinds[ours[:3]]++
		}
	}
	for _, status := range []string{"200", "302", "404"} {
		if kinds[status] < 10 {
			t.Errorf("few answers of a kind: %v", kinds)
		}
	}
}

func TestProxyRedirect(t *testing.T) {
	for _, rule := range []struct{ from, to string }{
		{"http://app.internal:8080/two/", "/"},
		{"http://app.internal:8080/two/", "https://$host/x/"},
		{"http://app.internal:8080/two", "http://other.example"},
		{"http://$host/", "https://$host:8443/"},
		{"/two/", "/three/"},
		{"/", "https://other.example/"},
		{"~^http://([^/]+)/two/(.*)$", "/$1/$2"},
		{"~*^HTTP://APP", "https://app"},
		{"~^HTTP://APP", "https://app"},
		{"~two/(?<rest>.*)", "/named/$rest/$request_method"},
		{"~(a)|(b)", "/$1-$2"},
		{"default", "off"},
		{"off", "/"},
	} {
		text := "proxy_redirect '" + rule.from + "' '" + rule.to + "';"
		if rule.from == "default" || rule.from == "off" {
			text = "proxy_redirect " + rule.from + ";"
		}
		p := newPair(t, setup{
			values: policy.Values{"proxy-redirect-from": rule.from, "proxy-redirect-to": rule.to}, location: text,
			pod: "Location: ECHO\r\nRefresh: 5; URL=ECHO\r\nContent-Type: text/plain\r\n\r\nhello",
		})
		for _, location := range []string{
			"http://app.internal:8080/two/some/uri/?q=1", "http://app.internal:8080/two", "http://app.internal/two/", "http://a.test/x", "/two/three", "/", "//two/",
			"b", "", "HTTP://app.internal:8080/two/",
		} {
			p.same(t, get("/", "X-Echo: "+location))
		}
	}
}

func TestProxyCookie(t *testing.T) {
	cookies := []string{
		"a=1; Domain=app.internal; Path=/two/some; HttpOnly", "b=2;domain=.APP.internal;PATH=/two", "c=3; Domain=x.app.internal; Path=/two/", "d; Domain=app.internal",
		"e=5 ;  Path = /two/x ; ; Secure", "f=; Path=", "g=domain=app.internal; SameSite=None; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "domain=app.internal; path=/two/",
		"h=\"q;Domain=app.internal\"", "i=1; Domain", "j=1;", "k=1; Path=/two/;", "l=1;path=/two/x; ;", "=x; path=/two/",
	}
	for _, values := range []policy.Values{
		{"proxy-cookie-domain": "app.internal shop.example"},
		{"proxy-cookie-domain": ".app.internal .shop.example"},
		{"proxy-cookie-domain": "app.internal $host"},
		{"proxy-cookie-domain": `~\.?([a-z]+)\.internal$ $1.example`},
		{"proxy-cookie-path": "/two/ /"},
		{"proxy-cookie-path": "/two /$request_method"},
		{"proxy-cookie-path": "~^/TWO/(.*)$ /x/$1"},
		{"proxy-cookie-path": "~*^/TWO/?(.*)$ /x/$1"},
		{"proxy-cookie-path": "/two/ /three/", "proxy-cookie-domain": "app.internal shop.example"},
		{"proxy-cookie-path": "off", "proxy-cookie-domain": "off"},
	} {
		var directives strings.Builder
		for key, value := range values {
			from, to, two := strings.Cut(value, " ")
			directives.WriteString(strings.ReplaceAll(key, "-", "_") + " '" + from + "'")
			if two {
				directives.WriteString(" '" + to + "'")
			}
			directives.WriteString(";\n")
		}
		p := newPair(t, setup{
			values: values, location: directives.String(), pod: "Set-Cookie: " + strings.Join(cookies, "\r\nSet-Cookie: ") + "\r\nContent-Type: text/plain\r\n\r\nhello",
		})
		p.same(t, get("/"))
	}
}

// What becomes a path is made a URL of the host, unless paths are wanted.
func TestProxyRedirectToAPath(t *testing.T) {
	p := newPair(t, setup{
		values:   policy.Values{"proxy-redirect-from": "http://app.internal/", "proxy-redirect-to": "/", "relative-redirects": "true"},
		location: "absolute_redirect off; proxy_redirect http://app.internal/ /;",
		pod:      "Location: http://app.internal/x\r\n\r\nhello",
	})
	p.same(t, get("/"))
}
