package upstream_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/test/e2e/load"
)

// endings are the ways in which a fresh connection ends before the first byte of an answer. read says that the Pod has had the request.
func endings() []ending {
	return []ending{
		{"FIN behind the request", true, func(c *net.TCPConn) { _ = c.Close() }},
		{"half FIN behind the request", true, func(c *net.TCPConn) { _ = c.CloseWrite() }},
		{"RST behind the request", true, cut},
		{"FIN before the request", false, func(c *net.TCPConn) { _ = c.Close() }},
		{"RST before the request", false, cut},
	}
}

type ending struct {
	name string
	read bool
	end  func(*net.TCPConn)
}

// A fresh connection ends before the first byte of an answer, as it does when a Pod closes its listener and its kernel has accepted what it
// has not: the request is sent once more, to the other endpoint, if its method can bear that. A POST is 502, and is repeated nowhere.
func TestF4Resets(t *testing.T) {
	for _, row := range endings() {
		t.Run(row.name, func(t *testing.T) {
			o := fresh()
			o.MaxFails, o.RetriesPerSecond = -1, 10_000
			r := newRig(t, proxy.Options{Upstream: o})
			var got atomic.Int64
			resetting := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
				if row.read {
					if _, _, _, err := request(in); err != nil {
						return
					}
					got.Add(1)
				}
				row.end(c)
				if !row.read {
					return
				}
				untilClosed(c, in)
			})
			pods, addresses := newPods(t, 1)
			r.serve(ready(resetting.at), addresses[0])
			bad, good := map[string]int{}, 0
			for i := range 40 {
				method := [...]string{http.MethodPost, http.MethodGet, http.MethodPut, http.MethodDelete}[i/2%4]
				switch a := r.ask(method, web().host, fmt.Sprint(i)); {
				case a.status == http.StatusBadGateway && a.whole():
					bad[method]++
				case a.status == http.StatusOK:
					good++
				default:
					t.Errorf("%s: %s, want 200 or 502", method, a)
				}
			}
			r.quiet()
			all := 0
			for _, n := range bad {
				all += n
			}
			// A reset that overtakes the end of the connect is a connect error, and goes to the next endpoint.
			unconnected := r.events.unconnected()
			repeated := r.metric("podlane_request_retries_total") - unconnected
			if all != bad[http.MethodPost] || good == 0 || row.read && (all == 0 || repeated == 0) {
				t.Errorf("502 for %v, 200 for %d, %d of them after a second try: want 502 for POSTs alone", bad, good, repeated)
			}
			if n := int(got.Load()); row.read && n != all+repeated {
				t.Errorf("the Pod got %d requests for %d times 502 and %d second tries elsewhere, want one each", n, all, repeated)
			}
			if n, _ := resetting.connections(); n != all+repeated+unconnected || row.read && unconnected != 0 {
				t.Errorf("the Pod got %d connections for %d times 502 and %d second tries elsewhere, want one each; %d connects failed", n, all, repeated, unconnected)
			}
			if n := pods[0].requests(); n != good {
				t.Errorf("the other Pod got %d requests and gave %d answers: a request was repeated", n, good)
			}
			r.wantRejected("upstream-reset", all)
			t.Logf("F4: %s: 502 for %v; %d were answered by the other Pod at the second try", row.name, bad, repeated)
		})
	}
}

// The first such end ejects the endpoint; from then on nobody meets it.
func TestF4Ejects(t *testing.T) {
	for _, row := range endings() {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, proxy.Options{Upstream: fresh()})
			resetting := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
				if row.read {
					if _, _, _, err := request(in); err != nil {
						return
					}
				}
				row.end(c)
			})
			_, addresses := newPods(t, 1)
			r.serve(ready(resetting.at), addresses[0])
			// One client, so that none is under way to the endpoint when it is ejected.
			result := r.drive(200, load.Options{Method: http.MethodPost, Upload: 100, Clients: 1, KeepAlive: true})
			if result.Failed+r.events.unconnected() != 1 || result.Corrupt != 0 {
				t.Errorf("%s: want one failure; %d connects failed", result, r.events.unconnected())
			}
			if state := r.endpoints(web())[resetting.at]; state.State != upstream.StateEjected {
				t.Errorf("the endpoint that resets: %+v, want it ejected", state)
			}
			t.Logf("F4: %s: %d POST, %d failed with 502, then the endpoint is out", row.name, result.Sent, result.Failed)
		})
	}
}

// A connection of the pool ends behind the whole request: what may be repeated is repeated once, on a fresh connection; a POST is not,
// for the Pod may have acted on it.
func TestF4ResetsPooledConnection(t *testing.T) {
	for _, row := range endings()[:3] {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, proxy.Options{})
			var mu sync.Mutex
			got := map[string]int{}
			// Each connection answers its first request and ends behind its second.
			p := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
				for n := 0; ; n++ {
					id, _, body, err := request(in)
					if err != nil {
						return
					}
					mu.Lock()
					got[id]++
					mu.Unlock()
					if n > 0 {
						break
					}
					if respond(c, "resets", id, body) != nil {
						return
					}
				}
				row.end(c)
				untilClosed(c, in)
			})
			r.serve(ready(p.at))
			times := func(id string) int {
				mu.Lock()
				defer mu.Unlock()
				return got[id]
			}
			for i := range 4 { // of each method: the budget is ten repetitions a second
				for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
					r.quiet()
					if r.endpoints(web())[p.at].Idle == 0 {
						if a := r.ask(http.MethodPost, web().host, fmt.Sprintf("first-%s-%d", method, i)); a.status != http.StatusOK {
							t.Fatalf("on a fresh connection: %s", a)
						}
						r.quiet()
					}
					id := fmt.Sprintf("%s-%d", method, i)
					a := r.ask(method, web().host, id)
					want, most := http.StatusOK, 2
					if method == http.MethodPost {
						want, most = http.StatusBadGateway, 1
					}
					if a.status != want || times(id) != most {
						t.Errorf("%s: %s; the Pod got it %d times, want %d and %d", method, a, times(id), want, most)
					}
				}
			}
			r.wantRejected("upstream-reset", 4)
			if state := r.endpoints(web())[p.at]; state.State != upstream.StateReady || state.Fails != 0 {
				t.Errorf("the endpoint: %+v; the end of a pooled connection must not count against it", state)
			}
			t.Logf("F4: pooled, %s: 8 GET and PUT repeated once, 4 POST not: 502", row.name)
		})
	}
}
