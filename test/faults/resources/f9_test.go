package resources_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// smallSocket makes a client whose kernel takes next to nothing, so that what lies between it and the Pod is the proxy's.
func smallSocket(addr string) (*client, error) {
	d := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if cerr := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) }); cerr != nil {
			return cerr
		}
		return err
	}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return newClient(c), nil
}

// pattern is what big bodies are made of: memory that all connections share.
var pattern = sync.OnceValue(func() []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(b) // never fails
	return slices.Concat(b, b)
})

// bigBody is what a Pod sends to a client, each its own: the pattern, over and over, from a place that depends on the name.
type bigBody struct {
	from, left int
}

func newBigBody(name string, size int) *bigBody {
	sum := sha256.Sum256([]byte(name))
	return &bigBody{from: int(binary.BigEndian.Uint32(sum[:])) % (1 << 20), left: size}
}

// next returns at most limit of the bytes to come, none at the end.
func (b *bigBody) next(limit int) []byte {
	n := min(limit, b.left)
	p := pattern()[b.from : b.from+n]
	b.from = (b.from + n) % (1 << 20)
	b.left -= n
	return p
}

func (b *bigBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	return copy(p, b.next(len(p))), nil
}

// bigPod answers every path with a body of that name, and counts what it could write.
type bigPod struct {
	*pod
	wrote  atomic.Int64 // by all connections
	asked  atomic.Int64
	failed atomic.Int64 // bodies that it could not write to their end
}

func newBigPod(t *testing.T, size int) *bigPod {
	t.Helper()
	b := &bigPod{}
	b.pod = newPod(t, func(c *podConn) {
		_ = c.SetWriteBuffer(16 << 10)
		for q := c.request(); q != nil; q = c.request() {
			b.asked.Add(1)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			body := newBigBody(q.URL.Path, size)
			for p := body.next(32 << 10); len(p) > 0; p = body.next(32 << 10) {
				n, err := c.Write(p)
				b.wrote.Add(int64(n))
				if err != nil {
					b.failed.Add(1)
					return
				}
			}
		}
	})
	return b
}

// F9: clients that ask for a big answer and read nothing of it. The Pod is held back by each of them, nothing piles up in the proxy's
// memory, and other clients are served as ever. The answers are whole for those that read in the end.
func TestF9SlowClients(t *testing.T) {
	noLeaks(t)
	clients, size := pick(1000, 4000), 8<<20
	p := newBigPod(t, size)
	r := newRig(t, proxy.Options{})
	r.route("slow.test", p.addr)
	r.route("other.test", plainPod(t, "other").addr)

	slow := make([]*client, 0, clients)
	defer func() { closeAll(slow) }()
	for range clients {
		c, err := smallSocket(r.addr)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	other := dial(t, r.addr)
	other.ask(t, "other.test", "other")
	before := heapInUse()
	for i, c := range slow {
		c.send("GET /%d HTTP/1.1\r\nHost: slow.test\r\n\r\n", i)
	}
	await(t, "every request to reach the Pod", func() bool { return p.asked.Load() == int64(clients) })
	last := int64(-1)
	await(t, "the Pod to be held back", func() bool {
		now := p.wrote.Load()
		still := now == last
		last = now
		time.Sleep(200 * time.Millisecond)
		return still
	})
	grown := (heapInUse() - before) / int64(clients)
	wrote := p.wrote.Load() / int64(clients)
	t.Logf("F9: %d clients that read none of %d MiB: the Pod could write %d KiB to each, the heap (of proxy, Pod and clients) grew by %d KiB for each",
		clients, size>>20, wrote>>10, grown>>10)
	if grown > 128<<10 {
		t.Errorf("the heap grew by %d bytes for each slow client", grown)
	}
	// What the Pod could write lies in the kernel's buffers of four sockets, whose size is not ours.
	if wrote > int64(size)/4 {
		t.Errorf("the Pod could write %d bytes for each client that reads none", wrote)
	}
	for range 100 {
		other.ask(t, "other.test", "other")
	}
	if n := p.wrote.Load(); n != last {
		t.Errorf("the Pod went on writing: %d bytes, then %d", last, n)
	}

	const readers = 8
	readAll(t, slow[:readers], size)
	for _, c := range slow[readers:] {
		c.Close()
	}
	await(t, "the end of the requests whose clients left", func() bool { return r.engine.Requests() == 0 })
	await(t, "the Pod to hear of it", func() bool { return p.failed.Load() == int64(clients-readers) })
}

// readAll reads the answers on all connections at once, and checks every byte.
func readAll(t *testing.T, list []*client, size int) {
	t.Helper()
	var reading sync.WaitGroup
	for i, c := range list {
		reading.Go(func() {
			_ = c.SetReadDeadline(time.Now().Add(3 * patience))
			res, err := http.ReadResponse(c.in, nil)
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			got, want := sha256.New(), sha256.New()
			n, err := io.Copy(got, res.Body)
			_, _ = io.Copy(want, newBigBody(fmt.Sprintf("/%d", i), size))
			if err != nil || n != int64(size) || [32]byte(got.Sum(nil)) != [32]byte(want.Sum(nil)) {
				t.Errorf("client %d: %d bytes, %v, or not those that the Pod sent", i, n, err)
			}
		})
	}
	reading.Wait()
}
