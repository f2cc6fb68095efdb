package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tlsIngress is an Ingress of two hosts, each with a Secret of its own.
func tlsIngress(class string) string {
	return fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: tls}
spec:
  ingressClassName: %s
  tls:
    - {hosts: [one.goweb-tls.com], secretName: one-tls}
    - {hosts: [two.goweb-tls.com], secretName: two-tls}
  rules:
    - host: one.goweb-tls.com
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web-svc, port: {number: 80}}}}]}
    - host: two.goweb-tls.com
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web-svc, port: {number: 80}}}}]}
---
`, class)
}

// S11: HTTPS by spec.tls: the certificate by SNI, replaced without a restart, and HTTP sent to HTTPS.
func TestS11TLS(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	ns := namespace(t, c)
	ca := newAuthority(t)
	ns.Apply(workload{Name: "web"}.yaml() + ca.secret("one-tls", 101, "one.goweb-tls.com") + ca.secret("two-tls", 201, "two.goweb-tls.com") + tlsIngress("podlane"))
	ns.WaitRollout("web")
	lane.waitStatus(t, "https://one.goweb-tls.com/", http.StatusOK, "--insecure")
	for host, serial := range map[string]int64{"one.goweb-tls.com": 101, "two.goweb-tls.com": 201} {
		// curl verifies the chain and the name.
		a := lane.curl(t, "https://"+host+"/echo?q", "--cacert", ca.file)
		if a.Status != http.StatusOK {
			t.Fatalf("https://%s: status %d", host, a.Status)
		}
		e := a.echo(t)
		if got := e.values("X-Forwarded-Proto"); !slices.Equal(got, []string{"https"}) {
			t.Errorf("X-Forwarded-Proto is %q", got)
		}
		if got := e.values("X-Forwarded-Port"); !slices.Equal(got, []string{"443"}) {
			t.Errorf("X-Forwarded-Port is %q", got)
		}
		if cert, err := lane.shown(host); err != nil || cert.SerialNumber.Int64() != serial {
			t.Errorf("%s shows %v, %v", host, cert, err)
		}
		redirect := lane.curl(t, "http://"+host+"/a%20b?x=/&y=1")
		if got, want := redirect.Header.Get("Location"), "https://"+host+"/a%20b?x=/&y=1"; redirect.Status != http.StatusPermanentRedirect || got != want {
			t.Errorf("HTTP answers %d to %q, want 308 to %q", redirect.Status, got, want)
		}
	}
	replaceUnderHandshakes(t, lane, func(serial int64) { ns.Apply(ca.secret("one-tls", serial, "one.goweb-tls.com")) })
	if cert, err := lane.shown("two.goweb-tls.com"); err != nil || cert.SerialNumber.Int64() != 201 {
		t.Errorf("the other host shows %v, %v", cert, err)
	}
	// A Secret that goes away leaves the last good certificate.
	ns.Kubectl("delete", "secret", "two-tls")
	waitProblem(t, lane, problem{Kind: "Ingress", Namespace: ns.Name, Name: "tls", Reason: "SecretMissing", Field: "spec.tls[1].secretName"})
	if cert, err := lane.shown("two.goweb-tls.com"); err != nil || cert.SerialNumber.Int64() != 201 {
		t.Errorf("after its Secret is gone the host shows %v, %v", cert, err)
	}
}

// replaceUnderHandshakes replaces the certificate of one.goweb-tls.com while clients connect: none may fail, and none may get
// the old one after the new one was seen.
func replaceUnderHandshakes(t *testing.T, lane *lane, replace func(serial int64)) {
	t.Helper()
	const last = 105
	var newest, count atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				before := newest.Load()
				cert, err := lane.shown("one.goweb-tls.com")
				if err != nil {
					t.Errorf("handshake during the replacement: %v", err)
					return
				}
				serial := cert.SerialNumber.Int64()
				if serial < before {
					t.Errorf("certificate %d was shown after %d", serial, before)
				}
				for seen := newest.Load(); serial > seen && !newest.CompareAndSwap(seen, serial); seen = newest.Load() {
				}
				count.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	for serial := int64(102); serial <= last; serial++ {
		replace(serial)
		began := time.Now()
		for newest.Load() < serial && time.Since(began) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		t.Logf("certificate %d was shown %s after kubectl had ended", serial, time.Since(began).Round(time.Millisecond))
	}
	stop()
	clients.Wait()
	if newest.Load() != last {
		t.Errorf("the newest certificate is %d, want %d", newest.Load(), last)
	}
	t.Logf("%d handshakes, none failed", count.Load())
}

// S11, other names: the operator's default certificate, or a self-signed one.
func TestS11DefaultCertificate(t *testing.T) {
	t.Parallel()
	c, shared := sharedLane(t)
	cert, err := shared.shown("unknown.goweb-tls.com")
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		t.Errorf("the default certificate, for %v, is not self-signed: %v", cert.DNSNames, err)
	}
	if a := shared.curl(t, "https://unknown.goweb-tls.com/", "--insecure"); a.Status != http.StatusNotFound {
		t.Errorf("an unknown host over HTTPS: status %d, want 404", a.Status)
	}

	i := install(t, c)
	ns := namespace(t, c)
	ca := newAuthority(t)
	ns.Apply(workload{Name: "web"}.yaml() + ca.secret("wildcard", 301, "*.goweb-default.com") + ca.secret("one-tls", 302, "one.goweb-tls.com") + tlsIngress(i.class) + fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: default}
spec:
  ingressClassName: %s
  tls: [{hosts: [www.goweb-default.com]}]
  rules:
    - host: www.goweb-default.com
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web-svc, port: {number: 80}}}}]}
`, i.class))
	lane := i.start(t, "--default-ssl-certificate="+ns.Name+"/wildcard")
	for _, name := range []string{"unknown.goweb-tls.com", "www.goweb-default.com", ""} {
		if cert, err := lane.shown(name); err != nil || cert.SerialNumber.Int64() != 301 {
			t.Errorf("for %q the lane shows %v, %v, want the default certificate", name, cert, err)
		}
	}
	if cert, err := lane.shown("one.goweb-tls.com"); err != nil || cert.SerialNumber.Int64() != 302 {
		t.Errorf("for a host of spec.tls the lane shows %v, %v", cert, err)
	}
	ns.WaitRollout("web")
	lane.waitStatus(t, "https://www.goweb-default.com/", http.StatusOK, "--cacert", ca.file)
	ns.Apply(ca.secret("wildcard", 303, "*.goweb-default.com"))
	ns.Until("the new default certificate", func(context.Context) error {
		if cert, err := lane.shown("www.goweb-default.com"); err != nil || cert.SerialNumber.Int64() != 303 {
			return fmt.Errorf("it shows %v: %w", cert.SerialNumber, err)
		}
		return nil
	})
}
