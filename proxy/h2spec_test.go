package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"podlane.dev/podlane/proxy"
)

// TestH2specThroughTheEngine runs every case of h2spec, the strict ones too, with a Pod behind the engine. The program is built from its module by
// test/h2spec/go.mod.
func TestH2specThroughTheEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds, and builds h2spec the first time")
	}
	bin := filepath.Join(t.TempDir(), "h2spec")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=../test/h2spec/go.mod", "-o", bin, "github.com/summerwind/h2spec/cmd/h2spec")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	pod := backend(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		fmt.Fprint(w, "hello")
	})
	for _, name := range []string{"h2c", "tls"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, proxy.Options{H2C: true})
			r.route("", pod)
			addr, args := r.addr, []string{"-S", "-o", "5"}
			if name == "tls" {
				addr, args = listenTLS(t, r), append(args, "-t", "-k")
			}
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			out, _ := exec.CommandContext(t.Context(), bin, append(args, "-h", host, "-p", port)...).CombinedOutput()
			summary := regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`).FindStringSubmatch(string(out))
			failed := "0"
			if name == "h2c" {
				// The port speaks HTTP/1.1 too: what does not begin as HTTP/2 is a bad request of HTTP/1.1, and answered with 400 in its words. The
				// codec by itself, in proxy/http2, passes this case too.
				failed = "1"
				if !bytes.Contains(out, []byte("\u00d7 2: Sends invalid connection preface")) {
					t.Error("an invalid preface was not answered in HTTP/1.1")
				}
			}
			if summary == nil || summary[1] == "0" || summary[3] != "0" || summary[4] != failed {
				t.Fatalf("h2spec:\n%s", out)
			}
			t.Logf("%s", summary[0])
		})
	}
}
