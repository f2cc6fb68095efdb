package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// filtering returns a policy of every route that is one filter of each kind; either may be nil.
func filtering(name string, request exchange.RequestFilter, response exchange.ResponseFilter) filters.Policy {
	return &filters.Of[string]{
		Of:       policy.Of[string]{Name: name, IfInvalid: policy.Ignore},
		Default:  func(*router.Route) (string, bool) { return name, true },
		Request:  func(*router.Route, string) exchange.RequestFilter { return request },
		Response: func(*router.Route, string) exchange.ResponseFilter { return response },
	}
}

// borrower takes something for every exchange, and counts what has not been given back and what was given back twice.
type borrower struct{ taken, twice atomic.Int64 }

type loan struct {
	b     *borrower
	ended atomic.Bool
}

func (l *loan) Close() error {
	if l.ended.Swap(true) {
		l.b.twice.Add(1)
	}
	l.b.taken.Add(-1)
	return nil
}

func (b *borrower) take(x *exchange.Exchange) {
	b.taken.Add(1)
	x.Own(&loan{b: b})
}

func (b *borrower) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	b.take(x)
	return exchange.Continue
}

func (b *borrower) FilterResponse(x *exchange.Exchange) {
	b.take(x)
	if string(x.Request.Path) == "/panic" {
		panic("a bug")
	}
}

// What an exchange owns is closed once, whatever becomes of the exchange.
func TestOwnedIsClosedHoweverItEnds(t *testing.T) {
	asked := make(chan struct{}, 8)
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/truncated":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
		case "/wait":
			asked <- struct{}{}
			<-q.Context().Done()
		case "/stream":
			for q.Context().Err() == nil {
				fmt.Fprint(w, "more")
				w.(http.Flusher).Flush()
			}
		default:
			_, _ = io.Copy(w, q.Body)
		}
	})
	var b borrower
	r := newRig(t, proxy.Options{Policies: []filters.Policy{filtering("borrow", &b, &b)}})
	r.route("a.test", pod)
	back := func(after string) {
		t.Helper()
		waitFor(t, "no loans after "+after, func() bool { return b.taken.Load() == 0 })
		if n := b.twice.Load(); n != 0 {
			t.Fatalf("after %s: %d loans were closed twice", after, n)
		}
	}
	r.do("GET", "http://a.test/", nil)
	back("an answer")
	for _, path := range []string{"/truncated", "/panic"} {
		if got := untilEnd(t, r.addr, path); got == "" && path == "/panic" {
			t.Errorf("%s: no answer", path)
		}
		back(path)
	}
	for _, path := range []string{"/wait", "/stream"} {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n", path)
		if path == "/wait" {
			<-asked
		} else if _, err := bufio.NewReader(c).ReadByte(); err != nil {
			t.Fatal(err)
		}
		if b.taken.Load() == 0 {
			t.Fatalf("%s: nothing was taken", path)
		}
		c.Close()
		back(path + " whose client left")
	}
}

// untilEnd asks for a path and returns what comes until the connection ends, in whatever way.
func untilEnd(t *testing.T, addr, path string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", path)
	got, _ := io.ReadAll(c)
	return string(got)
}
