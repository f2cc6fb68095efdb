package http1_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// What comes before HTTP is read into the codec's buffer, skipped there, and the request behind it is read as if it were the first.
func TestSkipWhatComesBeforeHTTP(t *testing.T) {
	const request = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, n := range []int{1, 100, 16<<10 - 1, 16 << 10, 16<<10 + 1, 40 << 10} {
		before := strings.Repeat("b", n)
		a, b := net.Pipe()
		go func() {
			_, _ = io.WriteString(a, before+request)
			_ = a.Close()
		}()
		s := http1.NewServer(b, http1.Limits{}, new(http1.Clock))
		err := s.Await()
		for err == nil && len(s.Unused()) < n {
			err = s.More(64 << 10)
		}
		if err != nil || string(s.Unused()[:n]) != before {
			t.Fatalf("%d bytes: %v, or they are other ones", n, err)
		}
		s.Skip(n)
		x := exchange.New()
		if err := s.ReadRequest(x); err != nil || string(x.Request.Target) != "/x" {
			t.Errorf("behind %d bytes: %q %v", n, x.Request.Target, err)
		}
		x.Release()
		s.Close()
		_ = b.Close()
	}
}

func TestMoreIsBounded(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		for err := error(nil); err == nil; {
			_, err = a.Write(make([]byte, 1000))
		}
	}()
	s := http1.NewServer(b, http1.Limits{}, new(http1.Clock))
	defer s.Close()
	const limit = 20 << 10
	err := s.Await()
	for err == nil && len(s.Unused()) < 2*limit {
		err = s.More(limit)
	}
	if !errors.Is(err, io.ErrShortBuffer) || len(s.Unused()) > limit {
		t.Errorf("%v after %d bytes, want %v after %d", err, len(s.Unused()), io.ErrShortBuffer, limit)
	}
	_ = a.Close()
}
