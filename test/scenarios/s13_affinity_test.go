package scenarios

import (
	"net/http"
	"strings"
	"testing"
)

// S13: sessionAffinity: ClientIP of the Service is honoured, by every replica alike; affinity by cookie is offered.
func TestS13Affinity(t *testing.T) {
	p := newPlace(t, open(t))
	p.apply("s13-affinity.yaml")
	p.rollout("sticky", "cookie")
	p.lane.waitStatus(t, "http://sticky.goweb.com/", http.StatusOK)
	used := map[string]bool{}
	for _, client := range clients() {
		homes := map[string]bool{}
		for range 12 {
			homes[p.lane.curl(t, "http://sticky.goweb.com/", from(client)...).pod()] = true
		}
		if len(homes) != 1 {
			t.Errorf("client %s went to %v", client, homes)
		}
		for pod := range homes {
			used[pod] = true
		}
	}
	if len(clients()) > 1 && len(used) < 2 {
		t.Errorf("all clients went to %v", used)
	}
	p.lane.waitPods(t, "http://cookie.goweb.com/", names(p.pods("app=cookie", 4))...)
	first := p.lane.curl(t, "http://cookie.goweb.com/")
	cookie, _, _ := strings.Cut(first.Header.Get("Set-Cookie"), ";")
	if cookie == "" {
		t.Fatalf("no cookie in %v", first.Header)
	}
	for range 12 {
		if a := p.lane.curl(t, "http://cookie.goweb.com/", "--header", "Cookie: "+cookie); a.pod() != first.pod() {
			t.Errorf("with the cookie of %s: %s", first.pod(), a.pod())
		}
	}
}
