package floods_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"podlane.dev/podlane/proxy"
)

// shut are settings of a client that takes no byte of any answer.
var shut = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}

// impatient are options with which what takes a minute takes a second or two.
var impatient = proxy.Options{Timeouts: proxy.Timeouts{Stall: time.Second, Idle: 2 * time.Second}}

// D7: the HTTP/2 bomb (CVE-2026-47774): blocks of one-byte references to one large field, on 100 streams of three connections, each of which
// is then kept open by a window of 0. Decoded they would be 6 GB.
func TestD7HeaderBomb(t *testing.T) {
	t.Run("fields", func(t *testing.T) {
		withstand(t, attack{
			settings: shut, connections: 3, once: true, few: 100, options: impatient, step: func(c *raw) error { return c.bomb("x") },
		})
	})
	// Cookies are told apart from other fields, because browsers send each as one.
	t.Run("crumbs", func(t *testing.T) {
		withstand(t, attack{
			settings: shut, connections: 3, once: true, few: 100, options: impatient, step: func(c *raw) error { return c.bomb("cookie") },
		})
	})
}

// bomb is a request whose first one fills the table, and whose block refers to what is in it 5,000 times.
func (c *raw) bomb(name string) error {
	id := c.stream()
	if id == 1 {
		block := append(c.block(fieldsOf("GET", "/0")...), c.block(name, strings.Repeat("y", 3900))...)
		return c.gather(func() error {
			return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: block})
		})
	}
	block := c.block(fieldsOf("GET", "/0")...)
	block = append(block, bytes.Repeat([]byte{0x80 | 62}, 5_000)...) // 62 is the latest entry of the table
	return c.gather(func() error {
		return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: block})
	})
}

// D7: windows that stay shut: 300 answers of 1 MiB that nobody takes hold what the Pod sends back, and are given up after a minute, here a
// second; then the connections, which have no streams any more.
func TestD7ShutWindows(t *testing.T) {
	withstand(t, attack{
		settings: shut, connections: 3, once: true, few: 100, options: impatient, step: func(c *raw) error {
			_, err := c.open("GET", "/1048576")
			return err
		},
	})
}

// D7: the same through tunnels (RFC 8441), whose ends may be silent for an hour: what waits for a window there is not silent.
func TestD7ShutTunnels(t *testing.T) {
	o := impatient
	o.Timeouts.Stall, o.Timeouts.Idle, o.HTTP2.ExtendedConnect = 500*time.Millisecond, time.Second, true
	withstand(t, attack{
		settings: shut, connections: 3, once: true, few: 100, options: o, step: func(c *raw) error {
			block := c.block(append(fieldsOf("CONNECT", "/tunnel"), ":protocol", "websocket", "sec-websocket-version", "13")...)
			return c.gather(func() error {
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream(), EndHeaders: true, BlockFragment: block})
			})
		},
	})
}

// D7: a window that opens byte by byte is not shut, and its answers hold no more memory than those of one that is.
func TestD7SlowWindows(t *testing.T) {
	opened := 0
	withstand(t, attack{
		settings: shut, connections: 1, once: true, few: 140, options: impatient, step: func(c *raw) error {
			if c.next < 200 {
				_, err := c.open("GET", "/1048576")
				return err
			}
			time.Sleep(40 * time.Millisecond) // the slowness under test
			opened++
			return c.write(func() error { return c.fr.WriteWindowUpdate(uint32(opened%100*2+1), 1) })
		},
	})
}

// D7: a client that opens all windows and reads nothing is ended as soon as the socket has taken no byte for a minute, here a second.
func TestD7NothingRead(t *testing.T) {
	withstand(t, attack{
		settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}}, deaf: true, connections: 3, once: true, few: 101,
		options: impatient, step: func(c *raw) error {
			if c.next > 200 {
				return c.gather(func() error { return c.fr.WriteWindowUpdate(0, 1<<30) })
			}
			_, err := c.open("GET", "/10485760")
			return err
		},
	})
}

// D7: bodies that stop: 100 uploads on each connection whose windows are used up while the Pod does not read. They hold no more than the
// windows, and are answered 408 or reset in a minute, here a second.
func TestD7StoppedUploads(t *testing.T) {
	o := impatient
	o.Timeouts.Body = time.Second
	withstand(t, attack{
		connections: 3, once: true, few: 100, options: o, step: func(c *raw) error {
			id, err := c.open("POST", "/hang", "content-length", "1000000")
			return errors.Join(err, c.gather(func() error { return c.fr.WriteData(id, false, make([]byte, 8<<10)) }))
		},
	})
}
