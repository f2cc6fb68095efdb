package floods_test

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"podlane.dev/podlane/proxy"
)

// begin opens a header block that step then does not end. It reports whether it did, which is once.
func (c *raw) begin() (bool, error) {
	if c.next > 1 {
		return false, nil
	}
	id := c.stream()
	block := c.block(fieldsOf("GET", "/0")...)
	return true, c.gather(func() error { return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block}) })
}

// D6: a header block that never ends (CVE-2023-45288), of frames with nothing in them and of the largest ones.
func TestD6Continuation(t *testing.T) {
	// One field that is not indexed and has a value of which the block never sees the end, in frames that fit.
	large := append([]byte{0, 1, 'x', 0x7f, 0x80, 0x80, 0x80, 0x08}, make([]byte, 16<<10-8)...)
	for name, a := range map[string]struct {
		fragment []byte
		few      int
	}{"empty": {nil, 100}, "large": {large, 8}, "one byte": {[]byte{0x82}, 100}} {
		t.Run(name, func(t *testing.T) {
			// Without the time that a block may take: what ends it is its size.
			timeless := proxy.Options{Timeouts: proxy.Timeouts{Header: -1}}
			withstand(t, attack{code: calm, few: a.few, options: timeless, step: func(c *raw) error {
				if begun, err := c.begin(); begun {
					return err
				}
				return c.gather(func() error { return c.fr.WriteContinuation(1, false, a.fragment) })
			}})
		})
	}
}

// A header block that comes byte by byte is one that has to come in time, and a preface too.
func TestSlowHeads(t *testing.T) {
	trickle := func(c *raw) error {
		time.Sleep(50 * time.Millisecond) // the slowness under test
		if begun, err := c.begin(); begun {
			return err
		}
		return c.write(func() error { return c.fr.WriteContinuation(1, false, []byte{0x82}) })
	}
	withstand(t, attack{
		connections: 50, once: true, few: 28, code: calm, step: trickle,
		options: proxy.Options{Timeouts: proxy.Timeouts{Header: time.Second}},
	})
}
