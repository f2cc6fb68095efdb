package upstream_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/test/e2e/load"
)

// A partial is an answer that is not whole: a head, that many bytes behind it, and an end.
type partial struct {
	name string
	head string
	body []byte
	end  func(*net.TCPConn)
}

// partials are answers that end too early, in each framing and at each kind of place.
func partials() []partial {
	var all []partial
	ends := map[string]func(*net.TCPConn){"FIN": func(c *net.TCPConn) { _ = c.Close() }, "RST": cut}
	add := func(name, head string, body []byte, ends map[string]func(*net.TCPConn)) {
		for how, end := range ends {
			all = append(all, partial{name + ", " + how, "HTTP/1.1 200 OK\r\n" + head + "\r\n", body, end})
		}
	}
	for _, n := range []int{0, 1, 1000, 100_000, 1 << 20} {
		add(fmt.Sprintf("%d of %d bytes", n, n+1), fmt.Sprintf("Content-Length: %d\r\n", n+1), bytes.Repeat([]byte("x"), n), ends)
	}
	for _, n := range []int{1000, 1 << 20} {
		// Behind FIN such an answer is whole.
		add(fmt.Sprintf("%d bytes without a length", n), "", bytes.Repeat([]byte("x"), n), map[string]func(*net.TCPConn){"RST": cut})
	}
	chunk := "1000\r\n" + strings.Repeat("x", 0x1000) + "\r\n"
	for name, body := range map[string]string{
		"no chunk":                      "",
		"inside a chunk's size":         "10",
		"inside a chunk":                chunk + "1000\r\nxxx",
		"behind a chunk's data":         chunk + "5\r\nhello",
		"between chunks":                chunk,
		"between chunks, after a while": strings.Repeat(chunk, 200),
		"before the last CRLF":          chunk + "0\r\n",
		"inside a trailer":              chunk + "0\r\nX-Sum: 1",
		"behind a trailer":              chunk + "0\r\nX-Sum: 1\r\n",
	} {
		add(name, "Transfer-Encoding: chunked\r\n", []byte(body), ends)
	}
	slices.SortFunc(all, func(a, b partial) int { return strings.Compare(a.name, b.name) })
	return all
}

// No client takes an answer that was cut for a whole one, the connection is used no more, and the request is not repeated.
func TestF6Truncated(t *testing.T) {
	r := newRig(t, proxy.Options{})
	all := partials()
	var mu sync.Mutex
	var ended time.Time
	got := map[string]int{}
	p := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
		for {
			id, _, body, err := request(in)
			if err != nil {
				return
			}
			mu.Lock()
			got[id]++
			mu.Unlock()
			k, err := strconv.Atoi(strings.TrimPrefix(id, "cut-"))
			if err != nil {
				if respond(c, "honest", id, body) != nil {
					return
				}
				continue
			}
			row := all[k/2]
			_, _ = c.Write(append([]byte(row.head), row.body...))
			mu.Lock()
			ended = time.Now()
			mu.Unlock()
			row.end(c)
			return
		}
	})
	r.serve(ready(p.at))
	aborts, told := 0, 0
	var slowest time.Duration
	for k := range 2 * len(all) {
		name, version := all[k/2].name, "1."+strconv.Itoa(k%2)
		id := fmt.Sprintf("cut-%d", k)
		c := r.dial()
		a := c.send(http.MethodGet, fmt.Appendf(nil, "GET /check?id=%s HTTP/%s\r\nHost: %s\r\nConnection: keep-alive\r\n\r\n", id, version, web().host))
		mu.Lock()
		slowest = max(slowest, time.Since(ended))
		if got[id] != 1 {
			t.Errorf("%s, HTTP/%s: the Pod got the request %d times", name, version, got[id])
		}
		mu.Unlock()
		switch {
		case a.status == http.StatusBadGateway && a.whole():
			told++
		case a.status == http.StatusOK && !a.whole() && !isTimeout(a.err):
			aborts++
		default:
			t.Errorf("%s, HTTP/%s: %s: the client must see that it is not whole", name, version, a)
		}
		_ = c.conn.Close()
		await(t, "the connection to the Pod is closed", func() bool { return r.endpoints(web())[p.at].Open == 0 })
		for _, next := range []string{"a", "b"} {
			id := id + next
			if a := r.ask(http.MethodPost, web().host, id); a.status != http.StatusOK || string(a.body) != id {
				t.Errorf("after %s: %s", name, a)
			}
			r.quiet()
		}
	}
	r.wantRejected("upstream-truncated", 2*len(all))
	if state := r.endpoints(web())[p.at]; state.State != upstream.StateReady {
		t.Errorf("%+v: want it ready", state)
	}
	t.Logf("F6: %d answers cut in %d ways: %d aborted, %d times 502 before anything had left, 0 taken for whole; slowest notice %s",
		2*len(all), len(all), aborts, told, slowest.Round(time.Microsecond))
}

// A cutter answers the page /check, and cuts one answer in seven at a place that depends on its id.
type cutter struct {
	mu   sync.Mutex
	cuts int
}

func (k *cutter) serve(_ int, c *net.TCPConn, in *bufio.Reader) {
	for n := 1; ; n++ {
		q, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		received, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		size, _ := strconv.Atoi(q.URL.Query().Get("n"))
		id := q.URL.Query().Get("id")
		fields, body := checked("cutter", id, size, received)
		var b bytes.Buffer
		b.WriteString("HTTP/1.1 200 OK\r\n")
		for name, v := range fields {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
		if n%2 == 0 {
			fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(body))
			b.Write(body)
		} else {
			b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
			for part := range slices.Chunk(body, 7000) {
				fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
			}
			b.WriteString("0\r\n\r\n")
		}
		sum := digest([]byte(id))
		if place, _ := strconv.ParseUint(sum[:8], 16, 64); place%7 == 0 {
			b.Truncate(b.Len() - 1 - int(place/7)%(len(body)-1))
			k.mu.Lock()
			k.cuts++
			k.mu.Unlock()
			_, _ = c.Write(b.Bytes())
			if place%2 == 0 {
				cut(c)
			}
			return
		}
		if _, err := c.Write(b.Bytes()); err != nil {
			return
		}
	}
}

// Under load too every cut is seen, once, and no byte is in the wrong place.
func TestF6UnderLoad(t *testing.T) {
	r := newRig(t, proxy.Options{})
	k := new(cutter)
	p := newHostile(t, 9, k.serve)
	r.serve(ready(p.at))
	result := r.drive(1000, load.Options{Download: 40_000, KeepAlive: true, Clients: 12})
	if result.Corrupt != 0 || result.Failed != k.cuts || k.cuts < result.Sent/20 {
		t.Errorf("%d answers were cut, %d failed, %d corrupt", k.cuts, result.Failed, result.Corrupt)
	}
	r.wantRejected("upstream-truncated", k.cuts)
	t.Logf("F6: %d GET of 40 KB, %d cut by the Pod, %d seen by clients, 0 wrong bytes", result.Sent, k.cuts, result.Failed)
}
