package floods_test

import (
	"errors"
	"testing"

	"golang.org/x/net/http2"
)

const calm = "ENHANCE_YOUR_CALM"

// D4: rapid reset (CVE-2023-44487): a request, and its end before the answer, as fast as they can be written. What the Pod was asked for is
// given up with it.
func TestD4RapidReset(t *testing.T) {
	r := withstand(t, attack{code: calm, step: func(c *raw) error {
		id, err := c.open("GET", "/hang")
		return errors.Join(err, c.gather(func() error { return c.fr.WriteRSTStream(id, http2.ErrCodeCancel) }))
	}})
	t.Logf("D4: %d requests came as far as the Pod", r.pod.count().Requests)
}

// D5: streams that the client makes the proxy reset (CVE-2025-8671) count as if it had reset them.
func TestD5MadeYouReset(t *testing.T) {
	for name, provoke := range map[string]func(c *raw) error{
		"window overflow": func(c *raw) error {
			id, err := c.open("GET", "/hang")
			return errors.Join(err, c.gather(func() error { return c.fr.WriteWindowUpdate(id, 1<<31-1) }))
		},
		"window of 0": func(c *raw) error {
			id, err := c.open("GET", "/hang")
			return errors.Join(err, c.gather(func() error { return c.fr.WriteWindowUpdate(id, 0) }))
		},
		"data behind the end": func(c *raw) error {
			id, err := c.open("GET", "/hang")
			return errors.Join(err, c.gather(func() error { return c.fr.WriteData(id, true, []byte("x")) }))
		},
		"length": func(c *raw) error {
			id, err := c.open("POST", "/hang", "content-length", "5")
			return errors.Join(err, c.gather(func() error { return c.fr.WriteData(id, true, []byte("x")) }))
		},
		"no head": func(c *raw) error {
			id := c.stream()
			return c.gather(func() error {
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true})
			})
		},
		"connection field": func(c *raw) error {
			_, err := c.open("GET", "/hang", "connection", "close")
			return err
		},
		"priority on itself": func(c *raw) error {
			id, err := c.open("GET", "/hang")
			return errors.Join(err, c.gather(func() error { return c.fr.WritePriority(id, http2.PriorityParam{StreamDep: id}) }))
		},
	} {
		t.Run(name, func(t *testing.T) { withstand(t, attack{code: calm, step: provoke}) })
	}
}
