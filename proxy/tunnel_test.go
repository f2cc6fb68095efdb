package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"podlane.dev/podlane/proxy"
)

// echoPod switches to the protocol "echo" and sends everything back.
func echoPod(t *testing.T) string {
	t.Helper()
	return fakePod(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, br)
	})
}

func openTunnel(t *testing.T, r *rig) *caller {
	t.Helper()
	c := dialRig(t, r)
	fmt.Fprint(c.nc, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	res, err := http.ReadResponse(c.br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	return c
}

func (c *caller) echo(text string) {
	c.t.Helper()
	fmt.Fprint(c.nc, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c.br, got); err != nil || string(got) != text {
		c.t.Fatalf("%q %v, want %q", got, err, text)
	}
}

func heapInUse() int {
	for range 3 { // a pool lets go of its buffers at the second collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse)
}

// A tunnel through which nothing passes holds no buffer on any of its four halves.
func TestIdleTunnelsHoldNoBuffers(t *testing.T) {
	r := newRig(t, proxy.Options{})
	r.route("a.test", echoPod(t))
	openTunnel(t, r).echo("warm")
	const tunnels = 100
	before := heapInUse()
	open := make([]*caller, tunnels)
	for i := range open {
		open[i] = openTunnel(t, r)
		open[i].echo("hello")
	}
	// The test's own ends are in it too, two readers of 4 KiB for each; one buffer more would be 16 KiB.
	const budget = 28 << 10
	each := (heapInUse() - before) / tunnels
	t.Logf("%d bytes of heap for each idle tunnel, both ends of the test in it", each)
	if each > budget && !raceEnabled {
		t.Errorf("%d bytes of heap for each idle tunnel", each)
	}
	for _, c := range open {
		c.echo("still there")
	}
}
