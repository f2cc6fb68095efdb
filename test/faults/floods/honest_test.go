package floods_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"podlane.dev/podlane/proxy"
)

// A site with 120 cookies: Chrome sends each as a field of its own, in every request. The Pod gets them as one.
func TestHonestCookies(t *testing.T) {
	r := newRig(t, proxy.Options{})
	c := r.client()
	var crumbs []string
	for i := range 120 {
		crumbs = append(crumbs, "cookie", fmt.Sprintf("name%03d=%s", i, strings.Repeat("v", 60)))
	}
	const want = "120 in 1"
	for range 50 {
		id, err := c.open("GET", "/cookies", crumbs...)
		if err = errors.Join(err, c.flush()); err != nil {
			t.Fatal(err)
		}
		await(t, "the answer", func() bool { return c.answered(id) != "" || !c.isOpen() })
		if status, n := c.answered(id), c.received(id); status != "200" || n != len(want) {
			t.Fatalf("%q, %d bytes, GOAWAY %s", status, n, c.code)
		}
	}
	// What the Pod said of them, from a client that reads it.
	var cookies []*http.Cookie
	for i := range 120 {
		cookies = append(cookies, &http.Cookie{Name: fmt.Sprint("name", i), Value: "v"})
	}
	if got, err := get(r.clientOf(t), "/cookies", cookies...); got != want || err != nil {
		t.Errorf("the Pod saw %s, %v; want %s", got, err, want)
	}
}

// A download of which every frame is acknowledged at once, on the stream and on the connection, and with each a PING that measures the
// round trip, as gRPC does (BDP): two to three frames for every few KiB.
func TestHonestDownload(t *testing.T) {
	r := newRig(t, proxy.Options{})
	c := r.client()
	const size = 64 << 20
	frames := 0
	c.onData = func(id uint32, n int) {
		frames += 3
		_ = c.write(func() error {
			return errors.Join(c.fr.WriteWindowUpdate(0, uint32(n)), c.fr.WriteWindowUpdate(id, uint32(n)), c.fr.WritePing(false, [8]byte{}))
		})
	}
	id, err := c.open("GET", fmt.Sprint("/", size))
	if err = errors.Join(err, c.flush()); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the download", func() bool { return c.answered(id) != "" || !c.isOpen() })
	if status, n := c.answered(id), c.received(id); status != "200" || n != size {
		t.Errorf("%q, %d bytes of %d, GOAWAY %s", status, n, size, c.code)
	}
	c.close()
	t.Logf("%d frames of control for %d MiB", frames, size>>20)
}

// gRPC's keepalive: a stream that waits for an hour with a PING every ten seconds, here all at once and beside it a second stream's answers.
func TestHonestKeepalive(t *testing.T) {
	r := newRig(t, proxy.Options{})
	c := r.client()
	waiting, err := c.open("POST", "/hang", "te", "trailers", "content-type", "application/grpc")
	if err != nil {
		t.Fatal(err)
	}
	for range 360 {
		if err := c.write(func() error { return c.fr.WritePing(false, [8]byte{1}) }); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the PINGs to be answered", func() bool { return c.ponged() >= 360 || !c.isOpen() })
	c.get(t, "/")
	if c.answered(waiting) != "" || !c.isOpen() {
		t.Errorf("the stream that waits has ended, GOAWAY %s", c.code)
	}
}

// A browser that leaves a page cancels all of its images at once; with the next page it does so again. The Pod is told each time.
func TestHonestCancels(t *testing.T) {
	r := newRig(t, proxy.Options{})
	c := r.client()
	for range 2 {
		var images []uint32
		for range 99 {
			id, err := c.open("GET", "/hang")
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, id)
		}
		if err := c.flush(); err != nil {
			t.Fatal(err)
		}
		await(t, "the requests at the Pod", func() bool { return r.pod.count().Hanging == 99 })
		began := time.Now()
		for _, id := range images {
			if err := c.gather(func() error { return c.fr.WriteRSTStream(id, http2.ErrCodeCancel) }); err != nil {
				t.Fatal(err)
			}
		}
		c.get(t, "/")
		await(t, "the Pod to be told", func() bool { return r.pod.count().Hanging == 0 })
		t.Logf("99 requests were given up at the Pod within %s", time.Since(began).Round(time.Millisecond))
	}
	if !c.isOpen() {
		t.Errorf("GOAWAY %s", c.code)
	}
}
