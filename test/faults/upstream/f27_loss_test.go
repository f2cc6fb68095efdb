package upstream_test

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/test/e2e/load"
)

// Three in a hundred packets between the proxy and its Pods are lost, in both directions: nothing fails.
func TestF27Loss(t *testing.T) {
	r := newRig(t, proxy.Options{})
	_, addresses := newPods(t, 3)
	f := newFirewall(t)
	f.lose(match{to: podNetwork}, 33)
	f.count(match{to: podNetwork})
	r.serve(addresses...)
	n := scale(600, 20_000)
	loads := []*load.Load{
		r.begin(load.Options{Name: "get", Download: 20_000, KeepAlive: true, Clients: 24}),
		r.begin(load.Options{Name: "post", Method: http.MethodPost, Upload: 20_000, Download: 100, KeepAlive: true, Clients: 24}),
		r.begin(load.Options{Name: "short", Method: http.MethodPost, Upload: 10, Clients: 24}),
	}
	var results []*load.Result
	for _, l := range loads {
		reach(t, l, n)
	}
	for _, l := range loads {
		results = append(results, l.Stop())
	}
	sent := noneFailed(t, results...)
	packets := f.packets()
	lost, passed := packets[0], packets[1]
	if lost < (lost+passed)/100 || lost > (lost+passed)/10 {
		t.Errorf("%d of %d packets lost, want about 3 in a hundred", lost, lost+passed)
	}
	t.Logf("F27: %d requests, %d of %d packets lost (%.1f%%), 0 failed, 0 wrong bytes, %d connects timed out, %d ejections; p50 %s, p99 %s",
		sent, lost, lost+passed, 100*float64(lost)/float64(lost+passed), r.events.failures[upstream.Timeout].Load(), r.events.ejections.Load(),
		results[0].Quantile(0.5).Round(time.Microsecond), results[0].Quantile(0.99).Round(time.Millisecond))
}

// The network to one Pod of three is gone, connections in use included: what was under way to it times out, what comes later goes to the
// others, and when the network is back so is the Pod.
func TestF27Partition(t *testing.T) {
	r := newRig(t, proxy.Options{
		Timeouts: proxy.Timeouts{UpstreamHeader: headerTimeout},
		Upstream: upstream.Options{ConnectTimeout: connectTimeout, FailTimeout: time.Second},
	})
	pods, addresses := newPods(t, 3)
	f := newFirewall(t)
	r.serve(addresses...)
	o := load.Options{Name: "before", Download: 1000, KeepAlive: true, Clients: 8}
	noneFailed(t, r.drive(200, o))
	r.quiet()
	open := r.endpoints(web())[pods[0].at].Open
	if open == 0 {
		t.Fatal("no connection to the Pod is open")
	}
	f.drop(podMatch(pods[0].at))
	o.Name = "during"
	l := r.begin(o)
	await(t, "the endpoint is ejected", func() bool { return r.ejected(web()) == 1 })
	// Requests that have waited in vain for an answer are on connections of before; each such connection can fail one request.
	reach(t, l, l.Sent()+300)
	during := l.Stop()
	r.quiet()
	if during.Failed > open || during.Failed != r.rejected("upstream-timeout") || during.Corrupt != 0 {
		t.Errorf("%s; want at most %d failed, one for each connection that was open, all with 504", during, open)
	}
	if swallowed := f.packets()[0]; swallowed == 0 {
		t.Error("no packet was swallowed: nothing was injected")
	}
	f.clear()
	await(t, "the Pod is back", func() bool {
		if a := r.ask(http.MethodGet, web().host, "probe"); a.status != http.StatusOK {
			t.Fatalf("after the partition: %s", a)
		}
		return r.ejected(web()) == 0
	})
	before := pods[0].requests()
	o.Name = "after"
	after := noneFailed(t, r.drive(200, o))
	if pods[0].requests() == before {
		t.Error("the Pod gets no requests after the partition")
	}
	t.Logf("F27: partition from one Pod of three: %d requests, %d of them 504 (%d connections were open), then ejected; back afterwards, %d requests, 0 failed",
		during.Sent, during.Failed, open, after)
}

// A Pod that is 200 ms away is slow, and no more: nothing fails, nothing is ejected or repeated.
func TestF27Latency(t *testing.T) {
	r := newRig(t, proxy.Options{})
	pods, _ := newPods(t, 1)
	far := newDistance(t, 50, pods[0].at, 100*time.Millisecond)
	r.serve(ready(far))
	result := r.drive(100, load.Options{Method: http.MethodPost, Upload: 100_000, Download: 100_000, KeepAlive: true, Clients: 48})
	noneFailed(t, result)
	if got := pods[0].requests(); got != result.Sent {
		t.Errorf("the Pod got %d requests, %d were sent", got, result.Sent)
	}
	if n := r.events.ejections.Load(); n != 0 {
		t.Errorf("%d ejections", n)
	}
	t.Logf("F27: %d POST of 100 KB each way to a Pod 200 ms away: 0 failed, 0 repeated, 0 ejections; p50 %s", result.Sent, result.Quantile(0.5).Round(time.Millisecond))
}

// newDistance puts an address before a Pod from which it is far away: what either side sends arrives that much later.
func newDistance(t testing.TB, n int, to netip.AddrPort, late time.Duration) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", podAddress(n).String())
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	tasks.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to.String())
			if err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			open = append(open, near, far)
			mu.Unlock()
			tasks.Go(func() { carry(near.(*net.TCPConn), far.(*net.TCPConn), late) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		tasks.Wait()
	})
	return podAddress(n)
}

// carry carries bytes both ways until both have ended.
func carry(a, b *net.TCPConn, late time.Duration) {
	var both sync.WaitGroup
	both.Go(func() { carryOne(a, b, late) })
	both.Go(func() { carryOne(b, a, late) })
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}

// A parcel is what was read at one time.
type parcel struct {
	bytes []byte
	due   time.Time
}

func carryOne(to, from *net.TCPConn, late time.Duration) {
	way := make(chan parcel, 1024)
	var delivery sync.WaitGroup
	delivery.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.bytes); err != nil {
				break
			}
		}
		for range way {
			// What cannot be delivered any more.
			continue
		}
		_ = to.CloseWrite()
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			way <- parcel{slices.Clone(buf[:n]), time.Now().Add(late)}
		}
		if err != nil {
			if err != io.EOF { //nolint:errorlint // Read returns it bare
				_ = to.Close()
			}
			break
		}
	}
	close(way)
	delivery.Wait()
}
