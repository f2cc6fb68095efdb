package scenarios

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

// S15: Ingress objects that were written for ingress-nginx, of its class, are served as it served them.
func TestS15ObjectsOfIngressNginx(t *testing.T) {
	p := newPlace(t, open(t))
	t.Cleanup(func() {
		if _, err := command(context.WithoutCancel(t.Context()), "", "kubectl", "delete", "ingressclass", "nginx-"+p.ns); err != nil {
			t.Error(err)
		}
	})
	p.apply("s15-ingress-nginx.yaml")
	p.rollout("web")
	p.lane.waitStatus(t, "http://shop.nginx.test/SHOP/cart", http.StatusOK) // patterns match whatever the case there
	if e := p.lane.curl(t, "http://shop.nginx.test/shop/echo?x=1").echo(t); e.Target != "/echo?x=1" {
		t.Errorf("the Pod got %s", e.Target)
	}
	if a := p.lane.curl(t, "http://shop.nginx.test/shop/sha", "--data-binary", strings.Repeat("x", 9<<10)); a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body beyond proxy-body-size: status %d", a.Status)
	}
	if a := p.lane.waitStatus(t, "http://admin.nginx.test/", http.StatusUnauthorized); a.Header.Get("WWW-Authenticate") != `Basic realm="Admin"` {
		t.Errorf("a stranger is asked for %q", a.Header.Get("WWW-Authenticate"))
	}
	p.lane.waitStatus(t, "http://admin.nginx.test/", http.StatusOK, "--user", "alice:one")
}
