package scenarios

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// S10: what nginx's generated file promised holds without an annotation or a setting: the fields, the body's limit, HTTP/1.1 to Pods. Where the file
// needed a reload, a client's connection lives through changes of endpoints and routes.
func TestS10NginxFile(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("s10-demo.yaml")
	p.rollout("demo")
	p.lane.waitPods(t, "http://demo.goweb.com/", names(p.pods("app=demo", 2))...)
	e := p.lane.curl(t, "http://demo.goweb.com/echo", "--header", "X-Forwarded-Proto: https", "--header", "X-Real-IP: 6.6.6.6", "--header", "X-Forwarded-For: 6.6.6.6").echo(t)
	client := e.values("X-Real-IP")
	if len(client) != 1 || net.ParseIP(client[0]) == nil || client[0] == "6.6.6.6" {
		t.Fatalf("X-Real-IP came to the Pod as %q", client)
	}
	for name, want := range map[string]string{
		"Host": "demo.goweb.com", "X-Forwarded-For": client[0], "X-Forwarded-Host": "demo.goweb.com", "X-Forwarded-Port": "80", "X-Forwarded-Proto": "http",
	} {
		if got := e.values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s came to the Pod as %q, want %q", name, got, want)
		}
	}
	if e.Proto != "HTTP/1.1" {
		t.Errorf("the Pod was spoken to in %s", e.Proto)
	}
	for size, want := range map[int]int{1 << 20: http.StatusOK, 1<<20 + 1: http.StatusRequestEntityTooLarge} {
		file := filepath.Join(t.TempDir(), "body")
		if err := os.WriteFile(file, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
			t.Fatal(err)
		}
		if a := p.lane.curl(t, "http://demo.goweb.com/sha", "--data-binary", "@"+file, "--header", "Expect:"); a.Status != want {
			t.Errorf("a body of %d bytes: status %d, want %d", size, a.Status, want)
		}
	}
	p.oneConnection("demo.goweb.com", func() {
		p.kubectl("scale", "deployment/demo", "--replicas=4")
		p.rollout("demo")
		p.lane.waitPods(t, "http://demo.goweb.com/", names(p.pods("app=demo", 4))...)
		p.applyText("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: more}\nspec:\n  ingressClassName: podlane\n" +
			"  defaultBackend: {service: {name: demo-svc, port: {number: 80}}}\n  rules: [{host: more.goweb.com}]\n")
		p.lane.waitStatus(t, "http://more.goweb.com/", http.StatusOK)
		p.kubectl("scale", "deployment/demo", "--replicas=1")
		p.lane.waitPods(t, "http://demo.goweb.com/", names(p.pods("app=demo", 1))...)
	})
}

// oneConnection asks for a page over one connection, before, during and after what do does.
func (p *place) oneConnection(host string, do func()) {
	p.t.Helper()
	conn, err := net.DialTimeout("tcp", p.lane.address(80), patience)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	changed := make(chan struct{})
	answered := make(chan error)
	go func() {
		for last := false; !last; time.Sleep(20 * time.Millisecond) {
			select {
			case <-changed:
				last = true
			default:
			}
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host) // whether it came is seen in the answer
			a, err := http.ReadResponse(in, nil)
			if err == nil {
				_, err = in.Discard(int(a.ContentLength))
			}
			if err != nil || a.StatusCode != http.StatusOK || a.Close {
				answered <- fmt.Errorf("answer %+v, %w", a, err)
				return
			}
		}
		answered <- nil
	}()
	do()
	close(changed)
	if err := <-answered; err != nil {
		p.t.Errorf("the connection did not live through the changes: %v", err)
	}
}
