package clients_test

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"podlane.dev/podlane/test/clients/debian"
)

//go:embed node_http2.js
var nodeScript string

// node is a client on Node's http2 module while it plays a scenario.
type node struct {
	t     *testing.T
	stdin *os.File
	out   *json.Decoder
	ended chan run
}

// A nodeResult is a line of what the script says.
type nodeResult struct {
	Status   int
	Bytes    int64
	Text     string
	Digest   string
	Trailers map[string]string
	Code     int
	Error    string
	GoAway   bool
}

// cancelCode is RFC 9113's CANCEL.
const cancelCode = 8

// inNode plays a scenario of the script over TLS and over h2c. The test sees what it says.
func inNode(t *testing.T, scenario string, o rigOptions, test func(n *node, r *rig, p *pod)) {
	t.Helper()
	program := find(t, debian.Node)
	script := filepath.Join(t.TempDir(), "http2.cjs")
	if err := os.WriteFile(script, []byte(nodeScript), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TLS", "h2c"} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			r := newRig(t, p.address(), o)
			origin := r.secure("")
			if name == "h2c" {
				origin = r.plain("")
			}
			before := r.connections()
			n := startNode(t, program, script, scenario, origin, r.authority.file)
			test(n, r, p)
			if got := receive(t, "the end of Node", n.ended); got.code != 0 || got.stderr != "" {
				t.Errorf("exit %d\n%s", got.code, got.stderr)
			}
			if made := r.connections() - before; made != 1 {
				t.Errorf("%d connections", made)
			}
		})
	}
}

func startNode(t *testing.T, program string, args ...string) *node {
	t.Helper()
	input, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	out, in := io.Pipe()
	n := &node{t: t, stdin: stdin, out: json.NewDecoder(bufio.NewReader(out)), ended: make(chan run, 1)}
	wait := command{program: program, args: args, stdin: input}.start(t, in)
	input.Close()
	go func() {
		r := wait()
		_ = in.Close()
		n.ended <- r
	}()
	return n
}

// next is the next line of what the script says.
func (n *node) next() (r nodeResult) {
	n.t.Helper()
	if err := n.out.Decode(&r); err != nil {
		n.t.Fatalf("Node says no more: %v", err)
	}
	return r
}

// goOn lets the script go on.
func (n *node) goOn() {
	n.t.Helper()
	if _, err := io.WriteString(n.stdin, "\n"); err != nil {
		n.t.Fatal(err)
	}
}

// ok ends the test where an answer is not 200 or 206, or not whole.
func (n *node) ok(r nodeResult) nodeResult {
	n.t.Helper()
	if r.Status != http.StatusOK && r.Status != http.StatusPartialContent || r.Code != 0 || r.Error != "" {
		n.t.Fatalf("%+v", r)
	}
	return r
}

// 250 streams on one connection, of which podlane allows 100 at a time, each with its own answer.
func TestNodeStreams(t *testing.T) {
	inNode(t, "streams", rigOptions{}, func(n *node, _ *rig, p *pod) {
		for i := range 250 {
			if r := n.ok(n.next()); r.Digest != digestOf(p.content[i*1000:i*1000+50_000]) {
				n.t.Errorf("stream %d: %d bytes of something else", i, r.Bytes)
			}
		}
	})
}

// An upload stalls while the Pod does not read: what Podlane and the sockets hold of it is bounded. It goes on when the Pod does.
func TestNodeBackpressure(t *testing.T) {
	const (
		size = 64 << 20
		// Node's own buffers, the kernel's of two connections, and the stream's window.
		most = 24 << 20
	)
	inNode(t, "backpressure", rigOptions{}, func(n *node, _ *rig, p *pod) {
		receive(n.t, "the upload at the Pod", p.next)
		n.goOn()
		held := n.next().Bytes
		if held > most {
			n.t.Errorf("the Pod read nothing, and %d bytes were sent to it", held)
		}
		p.allow(n.t)
		want := fmt.Sprintf("%d %s", size, digestOf([]byte(strings.Repeat("x", size))))
		if r := n.ok(n.next()); r.Text != want {
			n.t.Errorf("the Pod got %q, want %q", r.Text, want)
		}
		n.t.Logf("%d of %d KiB were under way while the Pod did not read", held>>10, size>>10)
	})
}

func TestNodeTrailers(t *testing.T) {
	inNode(t, "trailers", rigOptions{}, func(n *node, _ *rig, _ *pod) {
		const body = "a body with trailers"
		if r := n.ok(n.next()); r.Text != fmt.Sprintf("%d %s", len(body), digestOf([]byte(body))) {
			n.t.Errorf("the Pod got %q", r.Text)
		}
		if r := n.ok(n.next()); r.Text != "first second" || r.Trailers["x-digest"] != digestOf([]byte("first second")) {
			n.t.Errorf("%+v", r)
		}
	})
}

// A canceled stream cancels the request at the Pod: before its head, after it, and in the midst of an upload. Other streams go on.
func TestNodeCancel(t *testing.T) {
	inNode(t, "cancel", rigOptions{}, func(n *node, r *rig, p *pod) {
		for _, path := range []string{"/hang", "/hang", "/sink"} {
			receive(n.t, "the request at the Pod", p.next)
			n.goOn()
			if got := n.next(); got.Code != cancelCode {
				n.t.Errorf("%s: %+v", path, got)
			}
			if got := receive(n.t, "the Pod to see that the client is gone", p.canceled); got != path {
				n.t.Errorf("%s was canceled, want %s", got, path)
			}
		}
		if got := n.ok(n.next()); got.Text != "hello\n" {
			n.t.Errorf("%+v", got)
		}
		const clientGone = 499
		r.lines(2, func(l logLine) bool { return l.Status == clientGone })
	})
}

// Podlane is restarted under a client: GOAWAY without an error, every request under way answered, status 0, and the next connection
// reaches the new process.
func TestNodeRestart(t *testing.T) {
	const streams = 20
	inNode(t, "restart", rigOptions{args: []string{"--shutdown-timeout=60s"}}, func(n *node, r *rig, p *pod) {
		await(n.t, "the requests to reach the Pod", func() bool { return p.requests.Load() == streams })
		r.Signal(syscall.SIGTERM)
		if got := n.next(); !got.GoAway || got.Code != 0 {
			n.t.Errorf("%+v, want GOAWAY without an error", got)
		}
		for range streams {
			p.allow(n.t)
		}
		// A second GOAWAY says which streams were the last.
		for answers := 0; answers < streams; {
			if got := n.next(); !got.GoAway {
				n.ok(got)
				answers++
			}
		}
		if code := r.Exit(); code != 0 {
			n.t.Errorf("exit %d", code)
		}
		r.Restart()
		n.goOn()
		got := n.next()
		for got.GoAway {
			got = n.next()
		}
		if n.ok(got).Text != "hello\n" {
			n.t.Errorf("%+v", got)
		}
	})
}
