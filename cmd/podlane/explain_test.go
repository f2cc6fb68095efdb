package main

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy"
)

// shop is a host with a redirect, an allow list, a canary, a loser and a mistake.
const shop = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  namespace: default
  creationTimestamp: "2020-01-01T00:00:00Z"
  annotations:
    nginx.ingress.kubernetes.io/whitelist-source-range: 192.0.2.0/24,127.0.0.1
    nginx.ingress.kubernetes.io/permanent-redirect-code: many
spec:
  tls: [{hosts: [shop.example], secretName: tls}]
  rules:
  - host: shop.example
    http:
      paths:
      - {path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: late, namespace: default, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  rules: [{host: shop.example, http: {paths: [{path: /cart/, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: next, namespace: default, annotations: {podlane.dev/canary: "true", podlane.dev/canary-weight: "10"}}
spec:
  rules: [{host: shop.example, http: {paths: [{path: /cart, pathType: Prefix, backend: {service: {name: next, port: {number: 80}}}}]}}]
---
`

// shopFiles are the manifests of the shop with one Pod for the cart and one for what is next.
func shopFiles(t *testing.T) map[string]string {
	t.Helper()
	secret, _ := secretOf(t, "tls", "shop.example")
	return map[string]string{
		"shop.yaml": shop + serviceOf("cart", pod(t, "cart")) + "---\n" + serviceOf("next", pod(t, "next")), "secret.yaml": secret,
	}
}

// shopFolder writes files.
func shopFolder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// explainCases are questions to the shop, and what must be in the text.
var explainCases = []struct {
	args []string
	want []string
}{
	{[]string{"http://shop.example/cart"}, []string{"=> 308 to https://shop.example/cart, by ssl-redirect\n", "steps     ssl-redirect answers 308 to https://shop.example/cart"}},
	{[]string{"https://shop.example/cart/1"}, []string{
		"=> 10 of 100: proxied to the Pod of default/next\n=> 90 of 100: proxied to the Pod of default/cart\n",
		"server name  shop.example\n", "certificate  Secret default/tls of Ingress default/shop, expires ",
		"host         shop.example: exact host\n", "route        Ingress default/shop, Prefix /cart\n", `Ingress default/shop, Prefix /: a longer path comes first: "/cart"`,
		"Ingress default/late, Prefix /cart/: Prefix /cart/ of host shop.example belongs to Ingress default/shop, which is older",
		`source-range allow only 127.0.0.1/32, 192.0.2.0/24 (annotation of default/shop nginx.ingress.kubernetes.io/whitelist-source-range: "192.0.2.0/24,127.0.0.1")`,
		"canary       Ingress default/next: weight 10 of 100\n", "permanent-redirect-code: \"many\" is not valid",
		"Service default/cart: HTTP/1.1, random-two, 1 of 1 endpoint in use\n", "ready  0 in flight", "the Pod gets GET /cart/1\n", "+ X-Forwarded-Proto: https\n",
	}},
	{[]string{"https://shop.example/cart", "--client-ip", "203.0.113.7"}, []string{"=> 403: by source-range (annotation of default/shop nginx."}},
	{[]string{"https://shop.example/x"}, []string{"=> 503: the backend does not exist", "(ServiceMissing)"}},
	{[]string{"http://nobody.example/"}, []string{"=> 404: no route: no Ingress has the host\n"}},
	{[]string{"https://shop.example/shop.Carts/Get", "-H", "Content-Type: application/grpc"}, []string{
		"POST https://shop.example/shop.Carts/Get\n", "=> gRPC status 14 (UNAVAILABLE), counted and logged as 503: the backend does not exist", "port 443, HTTP/2.0\n",
	}},
	{[]string{"http://shop.example/shop.Carts/Get", "-H", "Content-Type: application/grpc"}, []string{
		"=> 308 to https://shop.example/shop.Carts/Get", "the client speaks HTTP/1.1: gRPC needs HTTP/2, which is not offered here",
	}},
	{[]string{"https://shop.example/cart", "--http-version", "2", "-H", "Connection: close"}, []string{"=> the stream is reset: the request breaks a rule of HTTP/2", "HTTP/2.0\n"}},
	{[]string{"https://shop.example/cart", "--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"}, []string{
		"handshake    TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n", "proxied to the Pod of default/cart",
	}},
	{[]string{"https://shop.example/cart", "--tls-max", "1.1"}, []string{"=> the handshake fails: ", "client offered only unsupported versions"}},
	{[]string{"https://shop.example/%zz"}, []string{"=> 400: the request breaks a rule of HTTP: malformed path\n"}},
	{[]string{"http://b\u00fccher.example:81/x"}, []string{"GET http://xn--bcher-kva.example:81/x\n", "=> 404"}},
	{[]string{"http://[::1]:81/x", "-o", "table"}, []string{"=> 404", "port 81"}},
	{[]string{"http://nobody.example", "-X", "get"}, []string{"get http://nobody.example\n", "the client means the method get, which is not GET"}},
	{[]string{"http://any.example/cart", "-H", "Host: shop.example"}, []string{"=> 308 to https://shop.example/cart,"}},
}

func TestExplainFolder(t *testing.T) {
	dir := shopFolder(t, shopFiles(t))
	for _, c := range explainCases {
		code, out, errs := podlane(t, append([]string{"explain", "--from", dir}, c.args...)...)
		if code != 0 {
			t.Fatalf("%q: exit %d: %s", c.args, code, errs)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q: no %q in\n%s", c.args, want, out)
			}
		}
	}
	_, out, _ := podlane(t, "explain", "--from", dir, "-o", "json", "https://shop.example/cart", "--sni", "other.example")
	var x explained
	if err := json.Unmarshal([]byte(out), &x); err != nil {
		t.Fatal(err)
	}
	if x.Question.ServerName != "other.example" || len(x.Certificates) != 1 || !x.Certificates[0].Default || len(x.Outcomes) != 2 || len(x.Summary) != 2 {
		t.Errorf("%+v", x)
	}
}

// TestExplainReplica asks a replica that runs, whose answer is that of the folder, and then the replica the same by sending the request.
func TestExplainReplica(t *testing.T) {
	s := serve(t, shopFiles(t))
	for _, c := range explainCases {
		code, out, errs := podlane(t, append([]string{"explain", "--admin", "http://" + s.admin}, c.args...)...)
		if code != 0 {
			t.Fatalf("%q: exit %d: %s", c.args, code, errs)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q: no %q in\n%s", c.args, want, out)
			}
		}
	}
	query := url.Values{"url": {"https://shop.example/cart"}, "header": {"X-A: 1", "X-B: 2"}, "method": {"POST"}, "client": {"127.0.0.1"}, "format": {"json"}}
	status, body := s.page(explainPath + "?" + query.Encode())
	var x struct{ Outcomes []proxy.Outcome }
	if err := json.Unmarshal([]byte(body), &x); err != nil || status != 200 || len(x.Outcomes) != 2 || x.Outcomes[0].Forward.Sent.Method != "POST" {
		t.Errorf("%d %v\n%s", status, err, body)
	}
	for _, query := range []string{"", "?url=shop.example", "?url=http://a.example/&client=nobody", "?url=http://a.example/&header=x"} {
		if status, body := s.page(explainPath + query); status != 400 || body == "" {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
}

// TestExplainWhatIfs: a certificate that the client shows, and what an authentication service may answer, of a folder and of a replica that runs.
func TestExplainWhatIfs(t *testing.T) {
	certificate, _ := secretOf(t, "tls", "secure.example")
	authority, alice := clientsOf(t, "clients")
	_, stranger := clientsOf(t, "others")
	files := map[string]string{
		"web.yaml": serviceOf("web", pod(t, "web")), "tls.yaml": certificate, "clients.yaml": authority,
		"ingress.yaml": strings.Replace(withTLS("web", "secure.example", "web", "tls"), "  namespace: default\n",
			"  namespace: default\n  annotations: {nginx.ingress.kubernetes.io/auth-tls-secret: default/clients,"+
				" nginx.ingress.kubernetes.io/auth-url: 'http://auth.example/', nginx.ingress.kubernetes.io/auth-signin: 'https://login.example/'}\n", 1),
	}
	dir := t.TempDir()
	shown := func(name string, c tls.Certificate) string {
		file := filepath.Join(dir, name+".pem")
		write(t, file, "a comment\n"+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})))
		return file
	}
	aliceFile, strangerFile := shown("alice", alice), shown("stranger", stranger)
	s := serve(t, files)
	for _, source := range [][]string{{"--from", shopFolder(t, files)}, {"--admin", s.admin}} {
		for _, c := range []struct{ args, want []string }{
			{nil, []string{"=> 400: by auth-tls", "none is shown (--client-cert)"}},
			{[]string{"--client-cert", strangerFile}, []string{"=> 400: by auth-tls", "CN=alice is shown: FAILED:"}},
			{[]string{"--client-cert", aliceFile}, []string{"=> proxied to the Pod of default/web", "CN=alice is shown: SUCCESS", "http://auth.example/ answers 2xx: it was not asked"}},
			{[]string{"--client-cert", aliceFile, "--auth-status", "401"}, []string{"=> 302 to https://login.example/", "answers 401: it was not asked"}},
			{[]string{"--client-cert", aliceFile, "--auth-status", "403"}, []string{"=> 403: by external-auth"}},
			{[]string{"--client-cert", aliceFile, "--auth-status", "503"}, []string{"=> 500: by external-auth"}},
		} {
			args := append(append([]string{"explain", "https://secure.example/"}, source...), c.args...)
			code, out, errs := podlane(t, args...)
			for _, want := range c.want {
				if code != 0 || !strings.Contains(out, want) {
					t.Errorf("%q: exit %d, no %q in\n%s%s", args, code, want, out, errs)
				}
			}
		}
	}
	for _, query := range []string{"&cert=%zz", "&cert=AAAA", "&cert=!", "&auth=yes", "&auth=99", "&http=3", "&tls=9", "&ciphers=x"} {
		if status, body := s.page(explainPath + "?url=https://secure.example/" + query); status != 400 && !strings.Contains(query, "%zz") || body == "" {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
}

// TestExplainAsksOldReplicas: one that knows nothing of a part of the question answers another, and that is said.
func TestExplainAsksOldReplicas(t *testing.T) {
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == explainPath {
			_, _ = io.WriteString(w, `{"client": {"address": "192.0.2.1", "scheme": "https", "port": 443}, "handshake": {}, "outcomes": [{"answer": {"status": 404}}]}`)
		}
	}))
	defer old.Close()
	code, _, errs := podlane(t, "explain", "https://a.example/", "--admin", old.URL)
	if code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
	for _, args := range [][]string{{"--http-version", "2"}, {"--auth-status", "401"}, {"--tls-max", "1.2"}, {"-H", "Content-Type: application/grpc"}} {
		code, out, errs := podlane(t, append([]string{"explain", "https://a.example/", "--admin", old.URL}, args...)...)
		if code != 1 || out != "" || !strings.Contains(errs, "is older than this command") {
			t.Errorf("%q: exit %d, %q", args, code, errs)
		}
	}
}

func TestExplainMistakes(t *testing.T) {
	dir := shopFolder(t, nil)
	for want, args := range map[string][]string{
		"explain takes one URL, and there are 0":                 {},
		`"shop.example" is not an absolute URL`:                  {"shop.example", "--from", dir},
		`--header: "x" is no header field`:                       {"http://a.example/", "-H", "x"},
		`--client-ip: "x" is not an IP address`:                  {"http://a.example/", "--client-ip", "x"},
		"--sni: http://a.example/ has no handshake":              {"http://a.example/", "--sni", "b.example"},
		`--http-version: "3" is not known: write 1.0, 1.1 or 2`:  {"http://a.example/", "--http-version", "3"},
		`--tls-max: "2" is not known: write 1.0`:                 {"https://a.example/", "--tls-max", "2"},
		`--ciphers: no cipher suite`:                             {"https://a.example/", "--ciphers", "x"},
		"--auth-status: 99 is not from 200 to 599":               {"https://a.example/", "--auth-status", "99"},
		"--client-cert: open " + dir + "/none":                   {"https://a.example/", "--client-cert", dir + "/none"},
		"there is no certificate in it":                          {"https://a.example/", "--client-cert", "/dev/null"},
		"HTTP/2 is not spoken in clear (--use-h2c is off)":       {"http://a.example/", "--from", dir, "--http-version", "2"},
		"there is a space in it":                                 {"http://a.example/a b", "--from", dir},
		"there is no folder " + dir + "/gone":                    {"http://a.example/", "--from", dir + "/gone"},
		"http://127.0.0.1:1 does not answer":                     {"http://a.example/", "--admin", "http://127.0.0.1:1"},
		"/none: write --kubeconfig FILE":                         {"http://a.example/", "--kubeconfig", ""},
		"a line break or NUL is in the question: no request can": {"http://a.example/", "--from", dir, "-H", "X: a\nY: b"},
	} {
		t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
		code, out, errs := podlane(t, append([]string{"explain"}, args...)...)
		if code != 1 || !strings.Contains(errs, want) || out != "" {
			t.Errorf("%q: exit %d, %q, want %q", args, code, errs, want)
		}
	}
}
