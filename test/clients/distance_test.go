package clients_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/test/clients/debian"
	"podlane.dev/podlane/test/faults/resources/serving"
)

// A distance is a relay on loopback that is far away: what either side sends arrives later, at any bandwidth. (A kernel that can do this by
// itself, with netem, is not to be had everywhere.)
type distance struct {
	address string
	late    time.Duration
	// most is, once a connection has ended, the most bytes that were on their way to the server at a time.
	most chan int64
}

// newDistance puts a relay before an address.
func newDistance(t *testing.T, to string, late time.Duration) *distance {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &distance{l.Addr().String(), late, make(chan int64, 16)}
	ctx, stop := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { d.carry(ctx, near.(*net.TCPConn), to) })
		}
	})
	t.Cleanup(func() {
		stop()
		l.Close()
		tasks.Wait()
	})
	return d
}

// carry carries a connection until both directions have ended.
func (d *distance) carry(ctx context.Context, near *net.TCPConn, to string) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		_ = near.Close()
		return
	}
	far := c.(*net.TCPConn)
	end := func() {
		_ = near.Close()
		_ = far.Close()
	}
	defer end()
	stop := context.AfterFunc(ctx, end)
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { d.most <- d.direction(far, near) })
	both.Go(func() { d.direction(near, far) })
	both.Wait()
}

// A parcel is what was read at one time, and arrives when it is due.
type parcel struct {
	bytes []byte
	due   time.Time
}

// direction carries bytes one way. It returns the most that were on their way at a time.
func (d *distance) direction(to, from *net.TCPConn) int64 {
	var mu sync.Mutex
	var underway, most int64
	// Room for more parcels than any window has.
	way := make(chan parcel, 1<<16)
	var delivery sync.WaitGroup
	delivery.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.bytes); err != nil {
				_ = from.Close()
			}
			mu.Lock()
			underway -= int64(len(p.bytes))
			mu.Unlock()
		}
		_ = to.CloseWrite()
	})
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			mu.Lock()
			underway += int64(n)
			most = max(most, underway)
			mu.Unlock()
			way <- parcel{slices.Clone(b[:n]), time.Now().Add(d.late)}
		}
		if err != nil {
			break
		}
	}
	close(way)
	delivery.Wait()
	return most
}

// The least rate of an upload over a round trip of 100 ms, in bits a second, and the window that it takes: what may be on its way without
// a word from the other side. 64 KiB, with which every stream begins, would be 5 Mbit/s.
const (
	roundTrip   = 100 * time.Millisecond
	leastRate   = 30_000_000
	leastWindow = leastRate / 8 * int64(roundTrip) / int64(time.Second)
)

// uploader sends a body to a URL of the rig over a distance, and returns what the Pod said about it.
type uploader func(t *testing.T, r *rig, d *distance, size int64) string

// An upload of 100 MiB to a podlane that is 100 ms away runs at 30 Mbit/s at least: its windows grow until that many bytes are under way.
// Curl sends less, over which the beginning of its upload weighs too much for a rate.
func TestDistantUpload(t *testing.T) {
	for _, client := range []struct {
		name   string
		upload uploader
		size   int64
	}{{"net/http", uploadWithGo, 100 << 20}, {"curl", uploadWithCurl, 20 << 20}} {
		t.Run(client.name, func(t *testing.T) {
			size := client.size
			p := newPod(t)
			r := newRig(t, p.address(), rigOptions{program: serving.Program(t)})
			d := newDistance(t, r.HTTPS, roundTrip/2)
			began := time.Now()
			got := client.upload(t, r, d, size)
			took := time.Since(began)
			if want := fmt.Sprintf("%d %s", size, digestOf([]byte(strings.Repeat("x", int(size))))); got != want {
				t.Fatalf("the Pod got %q, want %q", got, want)
			}
			most := receive(t, "the end of the connection", d.most)
			t.Logf("%d MiB over HTTP/2, %s away: %s in %s, at most %d KiB under way", size>>20, roundTrip, rate(size, took), took.Round(10*time.Millisecond), most>>10)
			if most < leastWindow {
				t.Errorf("at most %d bytes were under way: over %s that is %s at best", most, roundTrip, rate(most, roundTrip))
			}
			if got := float64(size) * 8 / took.Seconds(); size >= 100<<20 && got < leastRate {
				t.Errorf("%.0f bit/s, want %d", got, leastRate)
			}
		})
	}
}

// filler is an endless body.
type filler struct{}

func (filler) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func uploadWithGo(t *testing.T, r *rig, d *distance, size int64) string {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.authority.certificate)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, d.address)
		},
	}
	defer transport.CloseIdleConnections()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.secure("/digest"), io.LimitReader(filler{}, size))
	if err != nil {
		t.Fatal(err)
	}
	q.ContentLength = size
	res, err := transport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.ProtoMajor != 2 {
		t.Fatalf("%s %v", res.Proto, err)
	}
	return string(text)
}

func uploadWithCurl(t *testing.T, r *rig, d *distance, size int64) string {
	t.Helper()
	c := command{program: find(t, debian.Curl), args: []string{
		"--disable", "--silent", "--show-error", "--http2", "--cacert", r.authority.file, "--connect-to", "::" + d.address, "--header", "Expect:",
		"--upload-file", "-", "--request", "POST", "--max-time", "120", r.secure("/digest"),
	}, stdin: io.LimitReader(filler{}, size)}
	got := c.must(t)
	if strings.Contains(got.stderr, "warning") {
		t.Error(errors.New(got.stderr))
	}
	return got.stdout
}
