package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/proxy/subrequest"
	"podlane.dev/podlane/router/policy"
)

// outcomes counts what became of copies.
type outcomes [subrequest.Outcomes]atomic.Int32

func (o *outcomes) options() proxy.Options {
	options := asksLoopback(filters.Mirrors())
	options.Subrequests.Copied = func(became subrequest.Outcome) { o[became].Add(1) }
	return options
}

func (o *outcomes) await(t testing.TB, became subrequest.Outcome, n int32) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); o[became].Load() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d copies %s, want %d", o[became].Load(), became, n)
		}
	}
}

// copyOf is what a mirror gets: a line, and the body.
func copyOf(q *http.Request) string {
	body, _ := io.ReadAll(q.Body)
	return fmt.Sprintf("%s %s %s %s %s %d %x", q.Method, q.Host, q.RequestURI, q.Header.Get("Cookie"), q.Header.Get("X-Forwarded-For"), len(body), bytes.TrimLeft(body, "a"))
}

// Bodies of all sizes reach the Pod and, up to a bound, the mirror, whatever carries them.
func TestMirror(t *testing.T) {
	got := make(chan string, 10)
	mirror := backend(t, func(_ http.ResponseWriter, q *http.Request) { got <- copyOf(q) })
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, copyOf(q)) })
	var o outcomes
	check := func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		r.routeWith(pod, policy.Values{"mirror-target": "http://" + mirror + "/copies$request_uri"}, filters.Mirrors())
		host := mirror[:strings.LastIndexByte(mirror, ':')]
		for i, body := range []string{"", "short", strings.Repeat("a", 100_000), strings.Repeat("a", 1<<20)} {
			for _, known := range []bool{true, false} {
				req, err := http.NewRequest(http.MethodPost, base+"/x%2Fy?z", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if !known && body != "" {
					req.ContentLength = -1
				}
				req.Header.Set("Cookie", "a=1")
				res, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(res.Body)
				res.Body.Close()
				want := strings.NewReplacer("a.test", host, " /x", " /copies/x").Replace(string(answer))
				select {
				case copied := <-got:
					if err != nil || copied != want {
						t.Errorf("body %d: %v, the mirror got %s, want %s", i, err, copied, want)
					}
				case <-time.After(20 * time.Second):
					t.Fatalf("body %d: the mirror got nothing", i)
				}
			}
		}
	}
	t.Run("http1", func(t *testing.T) {
		options := o.options()
		options.MaxBody = -1
		r := newRig(t, options)
		check(t, r, r.client, "http://a.test")
	})
	options := o.options()
	options.MaxBody = -1
	overHTTP2(t, options, check)
	if o[subrequest.Dropped].Load() != 0 {
		t.Errorf("%d copies were dropped", o[subrequest.Dropped].Load())
	}
}

// The rest of the family: without bodies, as another host, and what no mirror gets.
func TestMirrorOptions(t *testing.T) {
	got := make(chan string, 10)
	mirror := backend(t, func(_ http.ResponseWriter, q *http.Request) { got <- copyOf(q) + " " + q.Header.Get("Content-Type") })
	pod := backend(t, func(_ http.ResponseWriter, q *http.Request) { _, _ = io.Copy(io.Discard, q.Body) })
	var o outcomes
	options := o.options()
	options.MaxBody = -1
	r := newRig(t, options)
	r.routeWith(pod, policy.Values{"mirror-target": "http://" + mirror, "mirror-request-body": "off", "mirror-host": "$host.mirror"}, filters.Mirrors())
	r.do(http.MethodPost, "http://a.test/x", strings.NewReader("body"))
	if want := "POST a.test.mirror /  127.0.0.1 0  "; <-got != want {
		t.Errorf("the mirror got something else than %q", want)
	}
	r.routeWith(pod, policy.Values{"mirror-request-body": "on"}, filters.Mirrors())
	r.do(http.MethodGet, "http://a.test/x", nil)
	r.routeWith(pod, policy.Values{"mirror-target": "http://" + mirror}, filters.Mirrors())
	r.do(http.MethodPost, "http://a.test/x", strings.NewReader(strings.Repeat("a", 1<<20+1)))
	o.await(t, subrequest.Dropped, 1)
	r.do(http.MethodGet, "http://a.test/last", nil)
	if first := <-got; !strings.HasPrefix(first, "GET 127.0.0.1 / ") {
		t.Errorf("the mirror got %q", first)
	}
	o.await(t, subrequest.Sent, 2)
}

// A mirror that hangs, or is not there, is nobody's loss: requests go on at once, and copies are dropped when there are too many.
func TestMirrorNeverHoldsRequestsBack(t *testing.T) {
	pod := backend(t, hello)
	var o outcomes
	r := newRig(t, o.options())
	r.routeWith(pod, policy.Values{"mirror-target": "http://" + closedPort(t)}, filters.Mirrors())
	if res, body := r.do(http.MethodGet, "http://a.test/", nil); res.StatusCode != 200 || body != "hello" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	o.await(t, subrequest.Failed, 1)
	release := make(chan struct{})
	mirror := backend(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	r.routeWith(pod, policy.Values{"mirror-target": "http://" + mirror}, filters.Mirrors())
	const limit = 256
	for range limit + 5 {
		if res, body := r.do(http.MethodGet, "http://a.test/", nil); res.StatusCode != 200 || body != "hello" {
			t.Fatalf("%d %q", res.StatusCode, body)
		}
	}
	o.await(t, subrequest.Dropped, 5)
}

// An upload that ends early is not mirrored, and leaves nothing behind.
func TestMirrorOfAnUploadThatEndsEarly(t *testing.T) {
	var mirrored atomic.Int32
	mirror := backend(t, func(http.ResponseWriter, *http.Request) { mirrored.Add(1) })
	reached := make(chan struct{})
	pod := backend(t, func(_ http.ResponseWriter, q *http.Request) {
		close(reached)
		_, _ = io.Copy(io.Discard, q.Body)
	})
	var o outcomes
	r := newRig(t, o.options())
	r.routeWith(pod, policy.Values{"mirror-target": "http://" + mirror}, filters.Mirrors())
	ctx, cancel := context.WithCancel(t.Context())
	c, err := new(net.Dialer).DialContext(ctx, "tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	await(t, "reached", reached)
	c.Close()
	cancel()
	o.await(t, subrequest.Dropped, 1)
	if mirrored.Load() != 0 {
		t.Error("half a request was mirrored")
	}
}

// Without an endpoint nothing is copied twice, and a request that is tried again is copied once.
func TestMirrorOfARetry(t *testing.T) {
	got := make(chan string, 10)
	mirror := backend(t, func(_ http.ResponseWriter, q *http.Request) { got <- copyOf(q) })
	var o outcomes
	r := newRig(t, o.options())
	pod := backend(t, hello)
	r.routeWith(pod, policy.Values{"mirror-target": "http://" + mirror + "$request_uri"}, filters.Mirrors())
	for i := range 3 {
		r.do(http.MethodPut, fmt.Sprintf("http://a.test/%d", i), strings.NewReader("body"))
	}
	o.await(t, subrequest.Sent, 3)
	if len(got) != 3 {
		t.Errorf("%d copies of 3 requests", len(got))
	}
}
