package scenarios

import (
	"net/http"
	"testing"
)

// S11: HTTPS by spec.tls, the certificate chosen by SNI and replaced without a restart; HTTP is redirected to HTTPS. curl verifies chain and name.
func TestS11TLS(t *testing.T) {
	p := newPlace(t, world.lane)
	trusted := map[string]string{}
	for i, name := range []string{"one", "two"} {
		cert, key := certificate(t, name+".goweb-tls.com", int64(100+i))
		p.kubectl("create", "secret", "tls", name+"-tls", "--cert="+cert, "--key="+key)
		trusted[name] = cert
	}
	p.apply("s11-tls.yaml")
	p.rollout("web")
	for name, cert := range trusted {
		host := name + ".goweb-tls.com"
		a := p.lane.waitStatus(t, "https://"+host+"/echo", http.StatusOK, "--cacert", cert)
		if got := a.echo(t).values("X-Forwarded-Proto"); len(got) != 1 || got[0] != "https" {
			t.Errorf("X-Forwarded-Proto came to the Pod as %q", got)
		}
		r := p.lane.curl(t, "http://"+host+"/a?b=c")
		if r.Status != http.StatusPermanentRedirect || r.Header.Get("Location") != "https://"+host+"/a?b=c" {
			t.Errorf("HTTP answers %d to %q", r.Status, r.Header.Get("Location"))
		}
	}
	restarts := world.restarts(t)
	cert, key := certificate(t, "one.goweb-tls.com", 200)
	p.kubectl("delete", "secret", "one-tls")
	p.kubectl("create", "secret", "tls", "one-tls", "--cert="+cert, "--key="+key)
	p.lane.waitStatus(t, "https://one.goweb-tls.com/", http.StatusOK, "--cacert", cert)
	p.lane.waitStatus(t, "https://two.goweb-tls.com/", http.StatusOK, "--cacert", trusted["two"])
	if after := world.restarts(t); after != restarts {
		t.Errorf("Podlane's Pods were %s, and are %s", restarts, after)
	}
}
