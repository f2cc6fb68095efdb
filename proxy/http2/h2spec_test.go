package http2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// greet reads the request's body and answers with a short text: what h2spec expects of a page.
func greet(s *http2.Stream, x *exchange.Exchange) {
	if b := x.Request.Body; b != nil {
		for {
			if _, err := b.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				s.Reset(xhttp2.ErrCodeCancel)
				return
			}
		}
	}
	hello(s, x)
}

// TestH2spec runs every case of h2spec, the strict ones too, over cleartext. It is built from its module by test/h2spec/go.mod.
func TestH2spec(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds, and builds h2spec the first time")
	}
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "h2spec")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=../../test/h2spec/go.mod", "-o", bin, "github.com/summerwind/h2spec/cmd/h2spec")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	host, port, err := net.SplitHostPort(newServer(t, http2.Options{}, greet).listen(t))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), bin, "-S", "-h", host, "-p", port, "-o", "2").CombinedOutput()
	summary := regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`).FindSubmatch(out)
	if summary == nil || err != nil || !bytes.Equal(summary[1], summary[2]) || string(summary[1]) == "0" {
		t.Fatalf("h2spec: %v\n%s", err, out)
	}
	t.Logf("%s", summary[0])
}
