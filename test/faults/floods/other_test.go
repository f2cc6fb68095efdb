package floods_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// other is the process of the client that attacks nobody.
type other struct{ p *program }

// pace is how often it asks. That is modest: what is measured is how long an answer takes, not how many the engine can give.
const pace = time.Second / 500

// times are how long its answers took.
type times struct {
	N              int
	Half, P99, Max time.Duration
	Failed         string // one of the errors
}

func (r *rig) other() *other {
	r.t.Helper()
	return &other{start(r.t, roleOther, r.addr)}
}

// begin makes it ask, and end stop.
func (o *other) begin() { o.p.ask("begin", new(bool)) }

func (o *other) end() (t times) {
	o.p.t.Helper()
	o.p.ask("end", &t)
	if t.Failed != "" {
		o.p.t.Fatalf("the other client: %s", t.Failed)
	}
	return t
}

// measure makes it ask for so long.
func (o *other) measure(d time.Duration) times {
	o.p.t.Helper()
	o.begin()
	time.Sleep(d)
	return o.end()
}

// serveOther is the process.
func serveOther() {
	a := &asker{c: newClient(os.Getenv(addrEnv))}
	if _, err := get(a.c, "/"); err != nil { // connects
		a.failed = err.Error()
	}
	obey(map[string]func() any{
		"begin": func() any {
			a.stop, a.took = make(chan struct{}), nil
			a.all.Go(a.ask)
			return true
		},
		"end": func() any {
			close(a.stop)
			a.all.Wait()
			return a.times()
		},
	})
}

// asker asks at a fixed pace, whatever becomes of the answers: who waits for one answer before he asks for the next sees of a second in
// which nothing is answered one slow answer, and not the 500 that others wait for (coordinated omission).
type asker struct {
	c    *http.Client
	stop chan struct{}
	all  sync.WaitGroup

	mu     sync.Mutex
	took   []time.Duration
	failed string
}

func (a *asker) ask() {
	// The runtime's timers are as coarse as epoll's, a millisecond, and answers take less.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for due := time.Now(); ; due = due.Add(pace) {
		nap := unix.NsecToTimespec(int64(time.Until(due)))
		if nap.Nano() > 0 {
			_ = unix.Nanosleep(&nap, nil)
		}
		select {
		case <-a.stop:
			return
		default:
		}
		a.all.Go(func() {
			body, err := get(a.c, "/")
			took := time.Since(due) // not since it was sent, which may have been late
			a.mu.Lock()
			defer a.mu.Unlock()
			a.took = append(a.took, took)
			if err != nil || body != "ok" {
				a.failed = fmt.Sprintf("%q %v", body, err)
			}
		})
	}
}

func (a *asker) times() times {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := times{N: len(a.took), Failed: a.failed}
	if t.N > 0 {
		slices.Sort(a.took)
		t.Half, t.P99, t.Max = a.took[t.N/2], a.took[t.N*99/100], a.took[t.N-1]
	}
	return t
}

// newClient makes requests over one connection of HTTP/2, by the real client.
func newClient(addr string) *http.Client {
	tr := &http.Transport{
		Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the engine's own default certificate
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	tr.Protocols.SetHTTP2(true)
	return &http.Client{Timeout: patience, Transport: tr}
}

// get makes one request, which must succeed, with so many cookies as there are.
func get(c *http.Client, path string, cookies ...*http.Cookie) (string, error) {
	q, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+host+path, http.NoBody)
	if err != nil {
		return "", err
	}
	for _, cookie := range cookies {
		q.AddCookie(cookie)
	}
	res, err := c.Do(q)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return string(body), err
}

// clientOf is such a client in the test's own process.
func (r *rig) clientOf(t *testing.T) *http.Client {
	t.Helper()
	c := newClient(r.addr)
	t.Cleanup(c.CloseIdleConnections)
	return c
}
