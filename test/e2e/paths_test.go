package e2e_test

import (
	"net/http"
	"strings"
	"testing"
)

// S2: several paths under one host, several hosts in one Ingress; the rest is 404.
func TestS2PathsAndHosts(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ns.Apply(workload{Name: "cart"}.yaml() + workload{Name: "search"}.yaml() + workload{Name: "home"}.yaml() + `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: podlane
  rules:
    - host: shop.goweb.com
      http:
        paths:
          - {path: /cart, pathType: Prefix, backend: {service: {name: cart-svc, port: {number: 80}}}}
          - {path: /search, pathType: ImplementationSpecific, backend: {service: {name: search-svc, port: {number: 80}}}}
          - {path: /search/help, pathType: Exact, backend: {service: {name: home-svc, port: {number: 80}}}}
    - host: search.goweb.com
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: search-svc, port: {number: 80}}}}
    - host: "*.shops.goweb.com"
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: home-svc, port: {number: 80}}}}
    - host: exact.shops.goweb.com
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: cart-svc, port: {number: 80}}}}
`)
	for _, name := range []string{"cart", "search", "home"} {
		ns.WaitRollout(name)
	}
	lane.waitPods(t, "http://exact.shops.goweb.com/", ns.Pods("app=cart")[0].Name)
	lane.waitPods(t, "http://search.goweb.com/", ns.Pods("app=search")[0].Name)
	lane.waitPods(t, "http://a.shops.goweb.com/", ns.Pods("app=home")[0].Name)
	for address, want := range map[string]string{
		"shop.goweb.com/cart":           "cart",
		"shop.goweb.com/cart/":          "cart",
		"shop.goweb.com/cart/1?a=/x":    "cart",
		"shop.goweb.com/search":         "search",
		"shop.goweb.com/search/shoes":   "search",
		"shop.goweb.com/search/help":    "home",
		"shop.goweb.com/search/help/me": "search",
		"search.goweb.com/":             "search",
		"search.goweb.com/cart":         "search",
		"SEARCH.goweb.com/":             "search",
		"a.shops.goweb.com/":            "home",
		"exact.shops.goweb.com/":        "cart",
		"shop.goweb.com/carts":          "",
		"shop.goweb.com/":               "",
		"shop.goweb.com/Cart":           "",
		"goweb.com/cart":                "",
		"a.b.shops.goweb.com/":          "",
		"shops.goweb.com/":              "",
		"unknown.goweb.com/":            "",
	} {
		t.Run(address, func(t *testing.T) {
			a := lane.curl(t, "http://"+address)
			if want == "" && (a.Status != http.StatusNotFound || a.pod() != "") {
				t.Errorf("status %d from %q, want 404", a.Status, a.pod())
			}
			if want != "" && (a.Status != http.StatusOK || !strings.HasPrefix(a.pod(), want+"-")) {
				t.Errorf("status %d from %q, want 200 from a Pod of %s", a.Status, a.pod(), want)
			}
		})
	}
}
