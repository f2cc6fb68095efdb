package http2_test

import (
	"errors"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// TestReadFields: a block that nobody has sent is judged as one that was.
func TestReadFields(t *testing.T) {
	t.Parallel()
	head := []exchange.Field{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "a.example"}, {Name: ":path", Value: "/x?y"}}
	for name, c := range map[string]struct {
		fields []exchange.Field
		status int // 0 is that the stream is reset, 200 that the request is good
		length int64
	}{
		"no body":           {nil, 200, 0},
		"a body":            {[]exchange.Field{{Name: "content-length", Value: "7"}, {Name: "cookie", Value: "a=1"}, {Name: "cookie", Value: "b=2"}}, 200, 7},
		"upper case":        {[]exchange.Field{{Name: "X-Y", Value: "1"}}, 0, 0},
		"of the connection": {[]exchange.Field{{Name: "connection", Value: "close"}}, 0, 0},
		"late":              {[]exchange.Field{{Name: "x", Value: "1"}, {Name: ":path", Value: "/"}}, 0, 0},
		"another Host":      {[]exchange.Field{{Name: "host", Value: "b.example"}}, 400, 0},
		"too many":          {make100(), 431, 0},
	} {
		x := exchange.New()
		err := http2.ReadFields(x, append(append([]exchange.Field(nil), head...), c.fields...), http2.Options{})
		status := 200
		if reject, ok := errors.AsType[*exchange.Reject](err); ok {
			status = reject.Status
		} else if errors.Is(err, http2.ErrMalformed) {
			status = 0
		}
		if status != c.status || x.Request.Version != exchange.HTTP2 {
			t.Errorf("%s: %v, version %v, want %d", name, err, x.Request.Version, c.status)
		}
		if status == 200 {
			length := int64(0)
			if x.Request.Body != nil {
				length = x.Request.Body.Length()
				if _, err := x.Request.Body.Next(); err == nil {
					t.Errorf("%s: a body has bytes", name)
				}
			}
			if length != c.length || string(x.Request.Target) != "/x?y" || string(x.Request.Fields.Get(exchange.Host)) != "a.example" {
				t.Errorf("%s: %d bytes, %q of %q", name, length, x.Request.Target, x.Request.Fields.Get(exchange.Host))
			}
		}
		x.Release()
	}
}

// make100 returns more fields than a request may have.
func make100() []exchange.Field {
	fields := make([]exchange.Field, 101)
	for i := range fields {
		fields[i] = exchange.Field{Name: "x", Value: "1"}
	}
	return fields
}
