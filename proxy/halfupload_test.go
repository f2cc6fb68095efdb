package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// summing is a Pod that reads what is uploaded to the end, and answers then; at /early it has begun its answer before.
type summing struct{ begun, whole, broken atomic.Int64 }

func (p *summing) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	p.begun.Add(1)
	if q.URL.Path == "/early" {
		to := http.NewResponseController(w)
		_ = to.EnableFullDuplex() // HTTP/2 needs no leave
		fmt.Fprintln(w, "first")
		_ = to.Flush()
	}
	if _, err := io.Copy(io.Discard, q.Body); err != nil {
		p.broken.Add(1)
		return
	}
	p.whole.Add(1)
}

// judge waits until everything has ended, and fails where an upload of which only a part was sent has come to an end, or none has come at all.
func (p *summing) judge(t *testing.T, r *rig) {
	t.Helper()
	waitFor(t, "the uploads to end", func() bool {
		return r.engine.Requests() == 0 && p.whole.Load()+p.broken.Load() == p.begun.Load()
	})
	if n := p.whole.Load(); n != 0 {
		t.Errorf("the Pod took %d of %d halves of uploads for whole ones", n, p.begun.Load())
	}
	if p.broken.Load() == 0 {
		t.Error("no upload reached the Pod")
	}
	t.Logf("%d uploads were cut at the Pod", p.broken.Load())
}

// cutBody is a body of which left bytes come, then a call of sent, and nothing more until it is cut.
type cutBody struct {
	left int
	sent func()
	cut  <-chan struct{}
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.sent()
		<-b.cut
		return 0, errors.New("cut")
	}
	n := min(b.left, len(p))
	clear(p[:n])
	b.left -= n
	return n, nil
}

// uploadHalf begins an upload and leaves: when all that is sent has been given to the connection, or, at /early, when the answer has begun.
func uploadHalf(t *testing.T, c *http.Client, url string, size int, declared int64) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	early := strings.HasSuffix(url, "/early")
	b := &cutBody{left: size, cut: ctx.Done(), sent: func() {
		if !early {
			leave()
		}
	}}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, b)
	if err != nil {
		t.Error(err)
		return
	}
	q.ContentLength = declared
	res, err := c.Do(q)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if early {
		_, _ = bufio.NewReader(res.Body).ReadString('\n')
		leave()
	}
	if res.StatusCode != http.StatusOK || !early {
		t.Errorf("half an upload to %s is answered: %s", url, res.Status)
	}
	_, _ = io.Copy(io.Discard, res.Body)
}

// No Pod ever takes half an upload for a whole one, whatever it and the client speak, and wherever the client leaves off: by RST_STREAM, or with its
// connection. A service that adds up what a client streams would commit it.
func TestHalfAnUploadHasNoEnd(t *testing.T) {
	overPods(t, func(t *testing.T, scheme router.PodScheme) {
		t.Helper()
		overClients(t, proxy.Options{MaxBody: -1}, func(t *testing.T, r *rig, c *http.Client, base string) {
			t.Helper()
			var p summing
			r.routeTo("a.test", router.Backend{Scheme: scheme}, podAddr(startPod(t, scheme, p.ServeHTTP, nil)))
			var all sync.WaitGroup
			for _, path := range []string{"/", "/early"} {
				all.Go(func() {
					for _, size := range []int{0, 1, 1000, 16 << 10, 70_000, 300_000} {
						uploadHalf(t, c, base+path, size, -1)
						uploadHalf(t, c, base+path, size, 2*int64(size)+100_000) // what is short is read first
					}
				})
			}
			all.Wait()
			p.judge(t, r)
		})
	})
}

// Nor where the upload ends otherwise: by the end of the sending side alone, a chunk that is none, a pause, a limit.
func TestUploadThatIsCutHasNoEnd(t *testing.T) {
	const begin = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n"
	chunk := strings.Repeat("x", 2000)
	for _, row := range []struct {
		name, rest string
		fin        bool
		status     int
	}{
		{"FIN in a chunk", chunk[:100], true, 400},
		{"FIN behind a chunk", chunk + "\r\n", true, 400},
		{"FIN in the last chunk", chunk + "\r\n0\r\n", true, 400},
		{"FIN in the trailers", chunk + "\r\n0\r\nX-Sum: 1\r\n", true, 400},
		{"a size that is none", chunk + "\r\nxyz\r\n", false, 400},
		{"a chunk that is too long", chunk + "yy\r\n0\r\n\r\n", false, 400},
		{"a bare line feed", chunk + "\r\n0\n\n", false, 400},
		{"a pause", chunk + "\r\n0\r\n", false, 408},
		{"more than may be", chunk + "\r\n" + strings.Repeat("7d0\r\n"+chunk+"\r\n", 100), false, 413},
	} {
		t.Run(row.name, func(t *testing.T) {
			overPods(t, func(t *testing.T, scheme router.PodScheme) {
				t.Helper()
				limits := proxy.Options{MaxBody: 100_000}
				if row.status == http.StatusRequestTimeout {
					limits.Timeouts.Body = 200 * time.Millisecond
				}
				overLeavers(t, limits, func(t *testing.T, r *rig, dial func(*testing.T) *leaver) {
					t.Helper()
					var p summing
					r.routeTo("a.test", router.Backend{Scheme: scheme}, podAddr(startPod(t, scheme, p.ServeHTTP, nil)))
					c := dial(t)
					if _, err := io.WriteString(c, begin); err != nil {
						t.Fatal(err)
					}
					// The head and the rest come apart, so that the Pod has begun to read.
					waitFor(t, "the Pod to have the head", func() bool { return p.begun.Load() == 1 })
					_, _ = io.WriteString(c, row.rest) // the answer may come before all of it
					if row.fin {
						_ = c.socket.CloseWrite()
					}
					res, err := http.ReadResponse(c.in, nil)
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
					if res.StatusCode != row.status {
						t.Errorf("%s, want %d", res.Status, row.status)
					}
					c.Close() // or the connection lingers
					p.judge(t, r)
				})
			})
		})
	}
}
