package policies_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// tenPolicies are the manifests of a host without policies, and of one with ten.
func tenPolicies() []byte {
	var ranges []string
	for i := range 1000 {
		ranges = append(ranges, fmt.Sprintf("10.%d.%d.0/24", i/250, i%250))
	}
	ranges = append(ranges, "127.0.0.0/8")
	return fmt.Appendf(nil, `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: none}
spec:
  rules:
  - host: none.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: ten
  annotations:
    podlane.dev/whitelist-source-range: %q
    podlane.dev/limit-rps: "1000000"
    podlane.dev/limit-connections: "1000"
    podlane.dev/enable-cors: "true"
    podlane.dev/cors-allow-origin: "https://app.example"
    podlane.dev/custom-headers: headers
    podlane.dev/rewrite-target: /$2/$1
    podlane.dev/proxy-body-size: 8m
    podlane.dev/affinity: cookie
    podlane.dev/proxy-read-timeout: "30"
    podlane.dev/proxy-send-timeout: "30"
spec:
  rules:
  - host: ten.example
    http: {paths: [{path: "/([a-z]+)/(.*)", pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: canary, annotations: {podlane.dev/canary: "true", podlane.dev/canary-by-header: X-Canary, podlane.dev/canary-weight: "10"}}
spec:
  rules:
  - host: ten.example
    http: {paths: [{path: "/([a-z]+)/(.*)", pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: headers}
data: {X-Served-By: podlane}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {global-allowed-response-headers: X-Served-By}
`, strings.Join(ranges, ","))
}

// barePod answers every request on a connection with a few bytes: a Pod that costs next to nothing.
func barePod(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 8192)
				for n := 0; ; {
					k, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += k; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						if n = 0; send(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func send(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// cpu is the processor time that this process has taken.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTenPolicies prints the processor time of a request, client and Pod included, on a route without policies and on one with ten: `make
// bench-policies` takes the difference of the medians.
func BenchmarkTenPolicies(b *testing.B) {
	archive := &txtar.Archive{Files: []txtar.File{{Name: "in.yaml", Data: tenPolicies()}, {Name: "options.yaml", Data: []byte("settings: default/settings\n")}}}
	s := read(b, archive)
	table, problems := ingress.Build(s, filters.Families(config.Policies()))
	for _, p := range problems {
		b.Fatal(p)
	}
	e := proxy.New(proxy.Options{Policies: config.Policies(), MaxRequests: 1 << 30})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = e.Serve(&proxy.Listener{Listener: l}) }()
	b.Cleanup(func() { _ = e.Shutdown(b.Context()) })
	e.Prepare(table)
	for _, svc := range s.Services {
		addr := router.Address{AddrPort: netip.MustParseAddrPort(barePod(b)), UID: "u", Ready: true, Serving: true}
		e.SetAddresses(router.Service{Namespace: svc.Namespace, Name: svc.Name}, map[string][]router.Address{"": {addr}})
	}
	e.Publish(table)
	for _, host := range []string{"none", "ten"} {
		b.Run(host, func(b *testing.B) { benchHost(b, l.Addr().String(), host+".example") })
	}
}

// requestOf is the request that is measured.
func requestOf(host, cookie string) string {
	return "GET /shop/cart?item=1 HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\nOrigin: https://app.example\r\n" + cookie + "\r\n"
}

func benchHost(b *testing.B, addr, host string) {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	ask := func(cookie string) *http.Response {
		if err := send(c, requestOf(host, cookie)); err != nil {
			b.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusOK {
			b.Fatal(res, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			b.Fatal(err)
		}
		return res
	}
	cookie := "Cookie: theme=dark\r\n"
	if set := ask(cookie).Cookies(); slices.ContainsFunc(set, func(k *http.Cookie) bool { return k.Name == "INGRESSCOOKIE" }) {
		cookie = "Cookie: theme=dark; INGRESSCOOKIE=" + set[0].Value + "\r\n"
	}
	// From here on nobody parses: what is measured is not what a client makes of more fields.
	request, buf := []byte(requestOf(host, cookie)), make([]byte, 8192)
	before := cpu(b)
	n := 0
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		for got := 0; !bytes.HasSuffix(buf[:got], []byte("\r\n\r\nok")); {
			k, err := c.Read(buf[got:])
			if err != nil {
				b.Fatal(err)
			}
			got += k
		}
		n++
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(n), "cpu-us/req")
}
