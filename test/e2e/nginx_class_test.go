package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
)

// S15 and the cookie of S13: objects as they were written for ingress-nginx, of its class, are served as it served them, beside it: their status is
// left alone. What they name, and the ConfigMap, is followed live.
func TestS15ObjectsOfIngressNginx(t *testing.T) {
	t.Parallel()
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	class := "nginx-" + ns.Name
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Client.NetworkingV1().IngressClasses().Delete(ctx, class, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	host := ns.Name + ".goweb.com"
	args := []string{"--claim-ingress-nginx", "--update-status=false", "--configmap=" + ns.Name + "/ingress-nginx-controller"}
	// The password file is of alice and "one" ({SHA}).
	ns.Apply(fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: %[1]s}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ingress-nginx-controller}
data: {hide-headers: X-Pod-Secret, worker-processes: "4"}
---
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData: {auth: "alice:{SHA}/gW83NxJKAEngaXxoqd8u1OY4QY="}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations:
    nginx.ingress.kubernetes.io/rewrite-target: /$2
    nginx.ingress.kubernetes.io/affinity: cookie
    nginx.ingress.kubernetes.io/session-cookie-name: route
    nginx.ingress.kubernetes.io/configuration-snippet: "more_set_headers \"X-A: b\";"
spec:
  ingressClassName: %[1]s
  rules:
    - host: %[2]s
      http: {paths: [{path: "/shop(/|$)(.*)", pathType: ImplementationSpecific, backend: {service: {name: web-svc, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: admin
  annotations: {nginx.ingress.kubernetes.io/auth-type: basic, nginx.ingress.kubernetes.io/auth-secret: users, nginx.ingress.kubernetes.io/auth-realm: Admin}
spec:
  ingressClassName: %[1]s
  rules:
    - host: admin.%[2]s
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web-svc, port: {number: 80}}}}]}
---
`, class, host) + workload{Name: "web", Replicas: 4}.yaml())
	ns.WaitRollout("web")
	one, two := i.start(t, args...), i.start(t, args...)
	for _, l := range []*lane{one, two} {
		l.waitStatus(t, "http://"+host+"/SHOP/cart", http.StatusOK)
	}

	t.Run("rewrite", func(t *testing.T) {
		e := one.curl(t, "http://"+host+"/shop/echo?x=1").echo(t)
		if e.Target != "/echo?x=1" {
			t.Errorf("the Pod got %s", e.Target)
		}
	})
	t.Run("cookie affinity", func(t *testing.T) {
		first := one.curl(t, "http://"+host+"/shop/")
		cookie, _, _ := strings.Cut(first.Header.Get("Set-Cookie"), ";")
		if !strings.HasPrefix(cookie, "route=") || !strings.Contains(first.Header.Get("Set-Cookie"), "HttpOnly") {
			t.Fatalf("Set-Cookie is %q", first.Header.Get("Set-Cookie"))
		}
		for n := range 10 {
			l := []*lane{one, two}[n%2]
			a := l.curl(t, "http://"+host+"/shop/", "--header", "Cookie: "+cookie)
			if a.pod() != first.pod() || a.Header.Get("Set-Cookie") != "" {
				t.Errorf("with the cookie of %s: %s, Set-Cookie %q", first.pod(), a.pod(), a.Header.Get("Set-Cookie"))
			}
		}
	})
	t.Run("passwords are followed", func(t *testing.T) {
		admin := "http://admin." + host + "/"
		if a := one.curl(t, admin); a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != `Basic realm="Admin"` {
			t.Errorf("a stranger gets %d, %q", a.Status, a.Header.Get("WWW-Authenticate"))
		}
		one.waitStatus(t, admin, http.StatusOK, "--user", "alice:one")
		ns.Kubectl("patch", "secret", "users", "-p", `{"stringData": {"auth": "alice:{SHA}rXguzax3D8brmmLkT5CHP7l/sms="}}`)
		one.waitStatus(t, admin, http.StatusUnauthorized, "--user", "alice:one")
		ns.Kubectl("delete", "secret", "users")
		one.waitStatus(t, admin, http.StatusServiceUnavailable, "--user", "alice:one")
	})
	t.Run("the ConfigMap is followed", func(t *testing.T) {
		url := "http://" + host + "/shop/"
		ns.Kubectl("patch", "configmap", "ingress-nginx-controller", "--type=merge", "-p", `{"data": {"denylist-source-range": "127.0.0.0/8"}}`)
		one.waitStatus(t, url, http.StatusForbidden)
		ns.Kubectl("patch", "configmap", "ingress-nginx-controller", "--type=merge", "-p", `{"data": {"denylist-source-range": null}}`)
		one.waitStatus(t, url, http.StatusOK)
	})
	t.Run("what it will not do is told", func(t *testing.T) {
		cluster.Until(t, "Problems", func(ctx context.Context) error {
			all, err := one.problems(ctx)
			if err != nil {
				return err
			}
			missing := map[string]string{"RefusedAnnotation": "shop", "RefusedSetting": "ingress-nginx-controller", "CompatPattern": "shop"}
			for _, p := range all {
				if p.Namespace == ns.Name && missing[p.Reason] == p.Name {
					delete(missing, p.Reason)
				}
			}
			if len(missing) > 0 {
				return fmt.Errorf("no %v among %d", missing, len(all))
			}
			return nil
		})
	})
	got, err := c.Client.NetworkingV1().Ingresses(ns.Name).Get(t.Context(), "shop", metav1.GetOptions{})
	if err != nil || len(got.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("status %v, %v", got.Status, err)
	}
}
