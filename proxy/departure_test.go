package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// departures is how long a Pod may be silent in these tests before its client is asked for, and silence a time in which that happens often.
const (
	departures = 80 * time.Millisecond
	silence    = 600 * time.Millisecond
)

// leaver is a client of HTTP/1.1 that can leave in every way.
type leaver struct {
	net.Conn // TLS, or the socket
	socket   *net.TCPConn
	in       *bufio.Reader
}

// overLeavers runs f with a client over a plain connection, and with one over TLS.
func overLeavers(t *testing.T, o proxy.Options, f func(t *testing.T, r *rig, dial func(t *testing.T) *leaver)) {
	t.Helper()
	for _, name := range []string{"plain", "tls"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, o)
			addr := r.addr
			if name == "tls" {
				addr = listenTLS(t, r)
			}
			f(t, r, func(t *testing.T) *leaver {
				t.Helper()
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				l := &leaver{Conn: c, socket: c.(*net.TCPConn)}
				if name == "tls" {
					l.Conn = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
				}
				if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				l.in = bufio.NewReader(l.Conn)
				return l
			})
		})
	}
}

// head sends requests, and reads the head of the first answer and the first line of its body.
func (l *leaver) head(t *testing.T, requests string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(l, requests); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(l.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, b...) {
		if _, err := io.ReadFull(res.Body, b); err != nil {
			t.Fatalf("%s behind %q: %v", res.Status, line, err)
		}
	}
	return res, string(line)
}

const asks = "GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n"

// A client that leaves in the middle of an answer whose Pod is silent, as event streams are, is noticed: the Pod is told, and the place that the
// request held is free. A browser's tab that is closed sends a FIN, one that has not read all a reset. A FIN counts in event streams alone: who waits
// for the rest of another answer gets it.
func TestClientThatLeavesASilentPod(t *testing.T) {
	limits := []filters.Policy{filters.Limit()}
	overPods(t, func(t *testing.T, scheme router.PodScheme) {
		t.Helper()
		left := make(chan struct{}, 8)
		pod := startPod(t, scheme, func(w http.ResponseWriter, q *http.Request) {
			switch q.URL.Path {
			case "/events":
				w.Header().Set("Content-Type", "text/event-stream")
			case "/long":
				w.Header().Set("Content-Length", "1000000")
			case "/quick":
				return
			}
			fmt.Fprintln(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-q.Context().Done()
			left <- struct{}{}
		}, nil)
		o := proxy.Options{Policies: limits, Timeouts: proxy.Timeouts{Departure: departures}}
		overLeavers(t, o, func(t *testing.T, r *rig, dial func(*testing.T) *leaver) {
			t.Helper()
			route := secretRoute("a.test", nil)
			route.Policies = []policy.Value{parsed(t, limits[0], policy.Values{"limit-connections": "1", "limit-conn-status-code": "429"})}
			route.Backends[0].Scheme = scheme
			if scheme.Encrypted() {
				route.Backends[0].TLS = router.NewPodTLS(router.PodTLSOptions{}, nil, nil)
			}
			r.publishSecret(route, podAddr(pod))
			for _, path := range []string{"/events", "/long", "/chunks"} {
				for _, how := range []string{"FIN", "RST"} {
					if how == "FIN" && path != "/events" {
						continue
					}
					waitFor(t, "a free place", func() bool { return r.engine.Requests() == 0 })
					c := dial(t)
					if res, line := c.head(t, fmt.Sprintf(asks, path)); res.StatusCode != 200 || line != "first\n" {
						t.Fatalf("%s, %s: %s %q", path, how, res.Status, line)
					}
					if status := quick(t, dial(t)); status != 429 {
						t.Errorf("%s: a second request while the first is under way: %d, want 429", path, status)
					}
					if how == "RST" {
						_ = c.socket.SetLinger(0)
						_ = c.socket.Close()
					}
					c.Close()
					await(t, path+", "+how+": the Pod is told", left)
					waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
					if status := quick(t, dial(t)); status != 200 {
						t.Errorf("%s, %s: a request afterwards: %d, want 200", path, how, status)
					}
				}
			}
		})
	})
}

// quick returns the status of a request that the Pod answers at once.
func quick(t *testing.T, c *leaver) int {
	t.Helper()
	defer c.Close()
	if _, err := fmt.Fprintf(c, asks, "/quick"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// Who is there gets everything, however long the Pod is silent: a client that has sent its next request already, one that has closed its sending
// side, in event streams where it may, and where nobody looks.
func TestClientThatStaysWithASilentPod(t *testing.T) {
	pod := startPod(t, router.PodPlain, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		fmt.Fprintln(w, "first")
		if q.URL.Path != "/next" {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(silence)
			fmt.Fprintln(w, "last")
		}
	}, nil)
	for _, row := range []struct {
		name, path string
		options    proxy.Options
		next       string
		fin        bool
	}{
		{name: "pipelined", path: "/events", options: proxy.Options{Timeouts: proxy.Timeouts{Departure: departures}}, next: fmt.Sprintf(asks, "/next")},
		{name: "half closed", path: "/slow", options: proxy.Options{Timeouts: proxy.Timeouts{Departure: departures}}, fin: true},
		{name: "half closed in events", path: "/events", options: proxy.Options{Timeouts: proxy.Timeouts{Departure: departures}, AllowHalfClose: true}, fin: true},
		{name: "not looked for", path: "/events", options: proxy.Options{Timeouts: proxy.Timeouts{Departure: -1}}, fin: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			overLeavers(t, row.options, func(t *testing.T, r *rig, dial func(*testing.T) *leaver) {
				t.Helper()
				r.route("a.test", podAddr(pod))
				c := dial(t)
				res, _ := c.head(t, fmt.Sprintf(asks, row.path))
				// Behind the first answer's head, so that it stays in the socket: readable is not gone.
				if _, err := io.WriteString(c, row.next); err != nil {
					t.Fatal(err)
				}
				if row.fin {
					// Not close_notify: a client of TLS that sends one wants nothing more.
					if err := c.socket.CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "last\n" {
					t.Fatalf("the rest of the answer: %q, %v", rest, err)
				}
				if row.next == "" {
					return
				}
				if res, line := c.head(t, ""); res.StatusCode != 200 || line != "first\n" {
					t.Errorf("the next answer: %s, %q", res.Status, line)
				}
			})
		})
	}
}

// A client that leaves while the Pod takes nothing of its request is noticed too.
func TestClientThatLeavesAPodThatTakesNothing(t *testing.T) {
	for _, row := range []struct {
		name  string
		size  int
		leave func(c *leaver)
	}{
		{"sent with the head, RST", 1000, func(c *leaver) { _ = c.socket.SetLinger(0) }},
		{"sent with the head, FIN", 1000, func(*leaver) {}},
		{"streamed, RST", 200_000, func(c *leaver) { _ = c.socket.SetLinger(0) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked, reset := make(chan struct{}, 1), make(chan struct{}, 1)
			pod := fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
				if _, err := io.ReadFull(br, make([]byte, len(xhttp2.ClientPreface))); err != nil {
					return
				}
				fr := xhttp2.NewFramer(c, br)
				_ = fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
				_ = fr.WriteSettingsAck()
				for {
					f, err := fr.ReadFrame()
					switch {
					case err != nil:
						return
					case f.Header().Type == xhttp2.FrameHeaders:
						asked <- struct{}{}
					case f.Header().Type == xhttp2.FrameRSTStream:
						reset <- struct{}{}
					}
				}
			})
			overLeavers(t, proxy.Options{}, func(t *testing.T, r *rig, dial func(*testing.T) *leaver) {
				t.Helper()
				r.routeTo("a.test", router.Backend{Scheme: router.PodH2C}, pod)
				c := dial(t)
				fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", row.size, strings.Repeat("x", row.size))
				await(t, "the request's head at the Pod", asked)
				row.leave(c)
				_ = c.socket.Close()
				await(t, "the end of the request at the Pod", reset)
				waitFor(t, "no request", func() bool { return r.engine.Requests() == 0 })
			})
		})
	}
}
