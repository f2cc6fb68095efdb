package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/test/vectors"
)

const upgradeHead = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

// schemes are the two kinds of connection that a client may open.
var schemes = []string{"http", "https"}

// speaking makes dial open connections of a scheme.
func (b *bench) speaking(scheme string) *bench {
	if scheme == "https" {
		return b.encrypted()
	}
	return b
}

// knownUpgrades are the cases of TestUpgradeAnswers that fail today, each with the reason.
var knownUpgrades = map[string]string{}

// upgradeAnswers are what a Pod may say to an upgrade attempt, and the status that the client gets of it; none is a switch.
var upgradeAnswers = map[string]struct {
	raw    string
	status int
}{
	"refused":          {okHead + "Content-Length: 2\r\n\r\nno", 200},
	"refused, 426":     {"HTTP/1.1 426 x\r\nConnection: upgrade\r\nUpgrade: other\r\nContent-Length: 2\r\n\r\nno", 426},
	"refused, chunked": {okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 200},
	"bad request":      {"HTTP/1.1 400 x\r\nContent-Length: 2\r\n\r\nno", 400},
	"not modified":     {"HTTP/1.1 304 x\r\n\r\n", 304},
	"200 as switch":    {okHead + "Connection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 0\r\n\r\n", 200},
	"200 without end":  {okHead + "Connection: Upgrade\r\nUpgrade: echo\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 101 x\r\nUpgrade: echo\r\n\r\n", 200},
	"100, then no":     {"HTTP/1.1 100 x\r\nUpgrade: echo\r\n\r\n" + okHead + "Content-Length: 2\r\n\r\nno", 200},
	"102 that echoes":  {"HTTP/1.1 102 x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" + okHead + "Content-Length: 0\r\n\r\n", 200},
	"other token":      {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", 502},
	"longer token":     {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: echo2\r\n\r\n", 502},
	"shorter token":    {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: ech\r\n\r\n", 502},
	"h2c":              {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 502},
	"a list":           {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: echo, other\r\n\r\n", 502},
	"two fields":       {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: echo\r\nUpgrade: other\r\n\r\n", 502},
	"empty token":      {"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade:\r\n\r\n", 502},
	"no token":         {"HTTP/1.1 101 x\r\n\r\n", 502},
	"garbage":          {"echo\r\n\r\n", 502},
	"bare LF":          {"HTTP/1.1 101 x\nConnection: Upgrade\nUpgrade: echo\n\n", 502},
	"nine interims":    {strings.Repeat("HTTP/1.1 102 x\r\n\r\n", 9) + "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", 502},
}

// TestUpgradeAnswers: a tunnel begins with a 101 that echoes the token, and with nothing else. After any attempt neither connection is
// used again (SECURITY A11).
func TestUpgradeAnswers(t *testing.T) {
	for _, scheme := range schemes {
		for name, c := range upgradeAnswers {
			t.Run(scheme+"/"+name, func(t *testing.T) {
				r := &record{}
				pod := r.pod(t, "a", func(pc net.Conn, q got) bool {
					if q.Target() != "/up" {
						return plainAnswer(pc, q)
					}
					_, err := io.WriteString(pc, c.raw)
					return err == nil
				})
				b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: pod}).speaking(scheme)
				err := b.attempt(c.status)
				switch reason := knownUpgrades[name]; {
				case reason != "" && err == nil:
					t.Errorf("does not fail any more (%s): take it off the list", reason)
				case reason != "":
					t.Skipf("known: %s: %v", reason, err)
				case err != nil:
					t.Error(err)
				}
			})
		}
	}
}

// attempt asks for an upgrade that the Pod refuses, with status, or botches.
func (b *bench) attempt(status int) error {
	c := b.dial()
	defer c.Close()
	// What stands behind the attempt is for the other protocol: it must not be read as a request.
	b.send(c, []string{upgradeHead + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"})
	br := bufio.NewReader(c)
	res, body, err := readAnswer(br, "GET")
	if err != nil {
		return err
	}
	if res.StatusCode != status || res.Header.Get("Upgrade") != "" || status == 200 && body != "no" && body != "" {
		return fmt.Errorf("%d %q %v, want %d", res.StatusCode, body, res.Header, status)
	}
	if err := unlessReset(ended(br, res)); err != nil {
		return err
	}
	requests, extra, problems := b.take()
	if len(problems) > 0 || len(requests) != 1 || requests[0].Line != "GET /up HTTP/1.1" || extra != 0 {
		return fmt.Errorf("the Pod got %v and %d more bytes; %v", requests, extra, problems)
	}
	if err := b.clean(1); err != nil {
		return err
	}
	if n := connections(b.record); n != 2 {
		return fmt.Errorf("%d connections to the Pod, want 2", n)
	}
	return nil
}

// switches are good answers to upgrade attempts.
var switches = map[string]struct {
	raw     string
	interim []int
}{
	"plain":         {"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", nil},
	"other case":    {"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: ECHO\r\n\r\n", nil},
	"framed":        {"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 9\r\n\r\n", nil},
	"chunked":       {"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\nTransfer-Encoding: chunked\r\n\r\n", nil},
	"behind 100":    {"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", nil},
	"behind 103":    {"HTTP/1.1 103 x\r\nLink: x\r\n\r\nHTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", []int{103}},
	"hop-by-hop":    {"HTTP/1.1 101 Go\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: echo\r\n\r\n", nil},
	"without asked": {"HTTP/1.1 101 Go\r\nUpgrade: echo\r\n\r\n", nil},
}

// TestTunnelHoldsBack: what a client sends behind an upgrade attempt reaches the Pod only after its 101, and then all of it, in both
// directions, with the ends of both sides.
func TestTunnelHoldsBack(t *testing.T) {
	for _, scheme := range schemes {
		for name, s := range switches {
			for _, early := range []int{0, 500, 200_000} {
				t.Run(fmt.Sprintf("%s/%s/%d", scheme, name, early), func(t *testing.T) {
					r := &record{}
					attempted, switched, end := make(chan int, 1), make(chan struct{}), make(chan string, 1)
					pod := fakePod(t, func(_ int, c net.Conn, _ *bufio.Reader) {
						head, err := vectors.ReadRequest(bufio.NewReaderSize(&podSide{Conn: c, r: r}, 1))
						if err != nil || !strings.Contains(strings.Join(head.Fields, "|"), "Connection: Upgrade|Upgrade: echo") {
							t.Errorf("the Pod got %+v, %v", head, err)
						}
						attempted <- len(head.Raw)
						<-switched
						_, _ = io.WriteString(c, s.raw+"hello ")
						all, err := io.ReadAll(c)
						if err != nil {
							t.Errorf("the Pod's end: %v", err)
						}
						_, _ = c.Write(all)
						end <- string(all)
					})
					b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: pod}).speaking(scheme)
					text := strings.Repeat("early", early/5)
					b.tunnel(t, text, s.interim, func() {
						size := <-attempted
						// The reader of the head takes 16 bytes at a time.
						if _, bytes, _ := b.take(); bytes > size+16 {
							t.Errorf("%d bytes before the 101, the head has %d", bytes, size)
						}
						close(switched)
					})
					if got := <-end; got != text+" late" {
						t.Errorf("the Pod got %d bytes %.50q, want %d", len(got), got, len(text)+5)
					}
				})
			}
		}
	}
}

// tunnel asks for an upgrade and sends early behind it, calls held before the Pod has answered, and exchanges the rest.
func (b *bench) tunnel(t *testing.T, early string, interim []int, held func()) {
	t.Helper()
	c := b.dial()
	defer c.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		b.send(c, []string{upgradeHead + early})
	}()
	held()
	raw := new(bytes.Buffer)
	br := bufio.NewReader(io.TeeReader(c, raw))
	res, err := finalAnswer(br, vectors.PodAnswer{Method: "GET", Interim: interim})
	if err != nil {
		t.Fatal(err)
	}
	if h := res.Header; res.StatusCode != 101 || h.Get("Upgrade") != "echo" || !strings.EqualFold(h.Get("Connection"), "upgrade") ||
		len(h["Content-Length"])+len(h["Transfer-Encoding"])+len(res.TransferEncoding)+len(h["X-Hop"])+len(h["Keep-Alive"]) > 0 {
		t.Fatalf("%v", res)
	}
	<-sent
	b.send(c, []string{" late"})
	_ = c.CloseWrite()
	rest, err := io.ReadAll(br)
	if want := "hello " + early + " late"; err != nil || string(rest) != want {
		t.Errorf("%d bytes %.50q, %v, want %d", len(rest), rest, err, len(want))
	}
}

// TestUpgradeOverStaleConnection: an upgrade attempt on a pooled connection that the Pod has just closed is made again like any other request,
// and no byte behind it is lost or doubled.
func TestUpgradeOverStaleConnection(t *testing.T) {
	r := &record{}
	pod := fakePod(t, func(n int, c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if n == 0 {
			_, _ = io.WriteString(c, okHead+"Content-Length: 1\r\n\r\nx")
			_, _ = br.ReadByte() // the beginning of the attempt
			return               // and no answer
		}
		if q.URL.Path != "/up" {
			t.Errorf("connection %d carries %s", n, q.URL.Path)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, br)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: pod})
	c := b.dial()
	defer c.Close()
	b.send(c, []string{"GET /first HTTP/1.1\r\nHost: a\r\n\r\n"})
	br := bufio.NewReader(c)
	if _, body, err := readAnswer(br, "GET"); err != nil || body != "x" {
		t.Fatal(body, err)
	}
	b.send(c, []string{upgradeHead + "hello"})
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v, %v", res, err)
	}
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(br); err != nil || string(rest) != "hello" {
		t.Errorf("%q, %v", rest, err)
	}
}
