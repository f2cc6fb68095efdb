package upstream

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A Pod that closes after its answer closes first; one that does not is closed all the same.
func TestRetire(t *testing.T) {
	for _, closes := range []bool{true, false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan net.Conn, 1)
		go func() {
			if c, err := l.Accept(); err == nil {
				accepted <- c
			}
		}()
		p := pool(t, registry(t, Options{}), at(l.Addr().String(), "u1"))
		e := byUID(t, p, "u1")
		if err := e.Reserve(); err != nil {
			t.Fatal(err)
		}
		c, err := e.Dial(time.Time{}, Profile{})
		if err != nil {
			t.Fatal(err)
		}
		pod := <-accepted
		c.Retire()
		if closes {
			if c.closed.Load() {
				t.Error("closed before the Pod had a chance to")
			}
			_ = pod.Close()
		}
		for end := time.Now().Add(10 * time.Second); !c.closed.Load(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("Pod closes %v: still open", closes)
			}
		}
		if !closes {
			if _, err := pod.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the Pod read %v", err)
			}
			_ = pod.Close()
		}
		_ = l.Close()
	}
}
