package scenarios

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

// S16: Pods find Services by environment and by DNS; clients outside the cluster know neither, and need only the host name of an Ingress.
func TestS16Discovery(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s16-discovery.yaml")
	p.rollout("goweb")
	pods := names(p.pods("app=goweb", 1))
	p.pods("app=client", 1)
	service := p.kubectl("get", "service", "goweb-svc", "-o", "jsonpath={.spec.clusterIP}")
	if env := p.kubectl("exec", "client", "--", "sh", "-c", "echo $GOWEB_SVC_SERVICE_HOST:$GOWEB_SVC_SERVICE_PORT"); strings.TrimSpace(env) != service+":80" {
		t.Errorf("the environment says %q, the Service is at %s: it was made before the Pod", env, service)
	}
	until(t, "an answer on http://goweb-svc/, inside", func(ctx context.Context) error { // kube-proxy learns of a Service a little later
		out, err := command(ctx, "", "kubectl", "-n", p.ns, "exec", "client", "--", "wget", "-q", "-O", "-", "http://goweb-svc/")
		if err == nil && out != "this is "+pods[0]+"\n" {
			t.Fatalf("inside, http://goweb-svc/ is %q", out)
		}
		return err
	})
	// The environment is that of the Pod's start: a Service that comes later is not in it, but in DNS.
	p.kubectl("expose", "deployment/goweb", "--name=later", "--port=80", "--target-port=8000")
	if env := p.kubectl("exec", "client", "--", "sh", "-c", "echo [$LATER_SERVICE_HOST]"); strings.TrimSpace(env) != "[]" {
		t.Errorf("the environment knows %s of a Service that came later", env)
	}
	if out, err := command(t.Context(), "", "curl", "--silent", "--max-time", "10", "http://goweb-svc."+p.ns+".svc.cluster.local/"); err == nil {
		t.Errorf("outside, the cluster's own name leads to %q", out)
	}
	p.lane.waitPods(t, "http://discovery.goweb.com/", pods...)
	if a := p.lane.curl(t, "http://discovery.goweb.com/"); a.Status != http.StatusOK {
		t.Errorf("status %d", a.Status)
	}
}
