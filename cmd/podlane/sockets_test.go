package main

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router"
)

func TestListenIsAllOrNothing(t *testing.T) {
	taken, err := listen(t.Context(), "http-address", config.Addresses{"127.0.0.1:0"})
	must(t, err)
	defer closeAll(taken)
	free, err := listen(t.Context(), "http-address", config.Addresses{"127.0.0.1:0"})
	must(t, err)
	closeAll(free)

	if _, err := listen(t.Context(), "http-address", config.Addresses{free[0].Addr().String(), taken[0].Addr().String()}); err == nil {
		t.Fatal("no error")
	}
	// The first must have been closed again.
	again, err := listen(t.Context(), "http-address", config.Addresses{free[0].Addr().String()})
	must(t, err)
	closeAll(again)
}

func TestExplainListen(t *testing.T) {
	for err, want := range map[error]string{
		syscall.EADDRINUSE:    "--x: 127.0.0.1:80 is taken by another program: stop it, or write another port",
		syscall.EACCES:        "--x: this user may not listen on 127.0.0.1:80: write a port above 1023, or grant CAP_NET_BIND_SERVICE",
		syscall.EADDRNOTAVAIL: "--x: this machine has no address of 127.0.0.1:80: write one that it has, or only the port",
		syscall.ENOBUFS:       "--x: no buffer space available",
	} {
		if got := explainListen("x", "127.0.0.1:80", err).Error(); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// at is a listener of which only the address is known.
type at struct {
	net.Listener
	address string
}

func (l at) Addr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", l.address)
	if err != nil {
		panic(err)
	}
	return a
}

func TestTryLine(t *testing.T) {
	both := &front{http: []net.Listener{at{address: "[::]:8080"}}, https: []net.Listener{at{address: "[::1]:8443"}}}
	onlyHTTPS := &front{https: []net.Listener{at{address: "127.0.0.1:8443"}}}
	encrypted := routeTo("a.example", "/x", "web")
	encrypted.HasCertificate = true
	denied := routeTo("d.example", "/", "web")
	denied.Denied = "reason"
	missing := routeTo("m.example", "/", "web")
	missing.Backends[0].Unavailable = router.ServiceNotFound
	hostless := routeTo("", "/", "web")
	pattern := func(path string) *router.Route {
		r := routeTo("p.example", path, "web")
		r.ID.Type = router.Regex
		var err error
		if r.Pattern, err = router.NewNginxPattern(path); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tc := range []struct {
		name  string
		route *router.Route
		front *front
		want  string
	}{
		{"plain", routeTo("a.example", "/x", "web"), both, "curl -H 'Host: a.example' http://127.0.0.1:8080/x"},
		{"wildcard", routeTo("*.example", "/", "web"), both, "curl -H 'Host: any.example' http://127.0.0.1:8080/"},
		{"no host", hostless, both, "curl http://127.0.0.1:8080/"},
		{"encrypted", encrypted, both, "curl -k --resolve a.example:8443:[::1] https://a.example:8443/x"},
		{"a path for the shell", routeTo("a.example", "/a$b'c", "web"), both, `curl -H 'Host: a.example' 'http://127.0.0.1:8080/a$b'\''c'`},
		{"plain without a plain port", routeTo("a.example", "/", "web"), onlyHTTPS, ""},
		{"denied", denied, both, ""},
		{"a pattern", pattern("/x(/|$)(.*)"), both, "curl -H 'Host: p.example' http://127.0.0.1:8080/x"},
		{"a pattern that nobody can guess", pattern("/x[0-9]+"), both, ""},
		{"without a Service", missing, both, ""},
	} {
		if got := tryLine(router.NewTable([]*router.Route{tc.route}, nil), tc.front, nil); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	two := router.NewTable([]*router.Route{routeTo("a.example", "/", "empty"), routeTo("b.example", "/", "web")}, nil)
	alive := map[router.ServicePort]bool{{Namespace: "default", Name: "web"}: true}
	if got, want := tryLine(two, both, alive), "curl -H 'Host: b.example' http://127.0.0.1:8080/"; got != want {
		t.Errorf("one of two Services has endpoints: %q, want %q", got, want)
	}
	if got := tryLine(new(router.Table), both, nil); got != "" {
		t.Errorf("no route: %q", got)
	}
}

func TestLogger(t *testing.T) {
	for _, tc := range []struct {
		level, format string
		want, not     []string
	}{
		{"info", "json", []string{`"level":"info"`, `"msg":"seen"`, `"key":"value"`, `"error":"unknown network broken"`}, []string{"hidden"}},
		{"debug", "json", []string{"hidden"}, nil},
		{"error", "text", []string{"ERROR", "failed"}, []string{"seen", `"level"`}},
	} {
		var out strings.Builder
		log := newLogger(&out, &config.Log{Level: tc.level, Format: tc.format})
		log.V(1).Info("hidden")
		log.Info("seen", "key", "value")
		log.Error(net.UnknownNetworkError("broken"), "failed")
		for _, want := range tc.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s %s: %q not in %s", tc.level, tc.format, want, out.String())
			}
		}
		for _, not := range tc.not {
			if strings.Contains(out.String(), not) {
				t.Errorf("%s %s: %q in %s", tc.level, tc.format, not, out.String())
			}
		}
	}
}
