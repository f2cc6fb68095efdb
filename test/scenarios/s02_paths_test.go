package scenarios

import (
	"net/http"
	"strings"
	"testing"
)

// S2: each path and host reaches its own Service; what no rule names is 404.
func TestS02PathsAndHosts(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s02-paths-and-hosts.yaml")
	p.rollout("cart", "search")
	p.lane.waitPods(t, "http://a.carts.goweb.com/", names(p.pods("app=cart", 1))...)
	p.lane.waitPods(t, "http://search.goweb.com/", names(p.pods("app=search", 1))...)
	for address, want := range map[string]string{
		"shop.goweb.com/cart": "cart", "shop.goweb.com/cart/1?a=/x": "cart", "shop.goweb.com/search/shoes": "search", "shop.goweb.com/search/cart": "cart",
		"shop.goweb.com/search/cart/2": "search", "search.goweb.com/cart": "search", "SEARCH.goweb.com/": "search", "b.carts.goweb.com/x": "cart",
		"shop.goweb.com/": "", "shop.goweb.com/carts": "", "carts.goweb.com/": "", "a.b.carts.goweb.com/": "", "unknown.goweb.com/": "",
	} {
		a := p.lane.curl(t, "http://"+address)
		if want == "" && (a.Status != http.StatusNotFound || a.pod() != "") {
			t.Errorf("%s: status %d from %q, want 404", address, a.Status, a.pod())
		}
		if want != "" && (a.Status != http.StatusOK || !strings.HasPrefix(a.pod(), want+"-")) {
			t.Errorf("%s: status %d from %q, want 200 from a Pod of %s", address, a.Status, a.pod(), want)
		}
	}
}
