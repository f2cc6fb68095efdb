package clients_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/test/clients/debian"
	"podlane.dev/podlane/test/faults/resources/serving"
)

// nghttp runs nghttp, which prints every frame, for a path on the HTTPS listener and, with h2c, on the plain one.
func nghttp(t *testing.T, r *rig, path string, args ...string) string {
	t.Helper()
	got := command{
		program: find(t, debian.NGHTTP),
		// Names are not looked up: the authority is the host, and what is verified and sent as SNI.
		args: append([]string{"--verbose", "--timeout=60s", "--header=:authority: " + secureHost}, append(args, "https://"+r.HTTPS+path)...),
		env:  []string{"SSL_CERT_FILE=" + r.authority.file, "LC_ALL=C"},
	}.must(t)
	out := plainText(got.stdout + got.stderr)
	if strings.Contains(out, "WARNING") {
		t.Errorf("nghttp warns:\n%s", out)
	}
	for _, frame := range []string{"recv GOAWAY", "recv RST_STREAM", "[INVALID;"} {
		if strings.Contains(out, frame) {
			t.Errorf("%s:\n%s", frame, out)
		}
	}
	return out
}

// plainText is text without the colors of a terminal.
func plainText(s string) string { return regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(s, "") }

// received is how many frames of a kind, or fields, nghttp has received.
func received(out, what string) int {
	return len(regexp.MustCompile(`(?m)\brecv `+what).FindAllString(out, -1))
}

// nghttp, whose library is a browser's and curl's, sees frames that it finds no fault with: many streams on one connection, trailers both
// ways, uploads, and the priorities of RFC 7540, which mean nothing to us.
func TestNghttpFrames(t *testing.T) {
	p := newPod(t)
	r := newRig(t, p.address(), rigOptions{})
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, p.content[:1<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("trailers", func(t *testing.T) {
		out := nghttp(t, r, "/trailers")
		if n := received(out, `\(stream_id=\d+\) x-digest: `+digestOf([]byte("first second"))); n != 1 {
			t.Errorf("the trailer came %d times:\n%s", n, out)
		}
		if n := received(out, `HEADERS frame`); n != 2 {
			t.Errorf("%d header sections, want the head and the trailers:\n%s", n, out)
		}
	})
	t.Run("streams", func(t *testing.T) {
		const n = 90
		before := r.connections()
		out := nghttp(t, r, "/content", "--multiply=90", "--header=range: bytes=0-9999", "--null-out")
		if got := received(out, `\(stream_id=\d+\) :status: 206`); got != n {
			t.Errorf("%d of %d answers", got, n)
		}
		if made := r.connections() - before; made != 1 {
			t.Errorf("%d connections", made)
		}
		if received(out, `SETTINGS frame`) != 2 { // ours, and the acknowledgement of theirs
			t.Errorf("%d SETTINGS frames", received(out, `SETTINGS frame`))
		}
	})
	t.Run("upload", func(t *testing.T) {
		out := nghttp(t, r, "/mirror", "--data="+file, "--null-out", "--trailer=x-end: of it")
		if n := received(out, `\(stream_id=\d+\) x-digest: `+digestOf(p.content[:1<<20])); n != 1 {
			t.Errorf("the Pod got something else:\n%s", out)
		}
	})
	t.Run("small windows", func(t *testing.T) {
		out := nghttp(t, r, "/content", "--window-bits=10", "--connection-window-bits=12", "--header=range: bytes=0-199999", "--null-out")
		if n := received(out, `\(stream_id=\d+\) content-length: 200000`); n != 1 {
			t.Errorf("no answer:\n%.2000s", out)
		}
	})
	t.Run("table of headers", func(t *testing.T) {
		out := nghttp(t, r, "/content", "--multiply=20", "--header-table-size=0", "--encoder-header-table-size=128", "--header=range: bytes=0-99", "--null-out")
		if got := received(out, `\(stream_id=\d+\) :status: 206`); got != 20 {
			t.Errorf("%d of 20 answers", got)
		}
	})
	t.Run("hints", func(t *testing.T) {
		out := nghttp(t, r, "/hints")
		if received(out, `\(stream_id=\d+\) :status: 103`) != 1 || received(out, `\(stream_id=\d+\) :status: 200`) != 1 {
			t.Errorf("want 103 and 200:\n%s", out)
		}
	})
}

// startBackend runs test/backend as a process of its own, and returns its address.
func startBackend(t *testing.T) string {
	t.Helper()
	address := serving.FreePort(t)
	cmd := exec.Command(serving.Backend(t), "--name=pod", "--listen="+address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	await(t, "the backend", func() bool {
		res, err := client.Get("http://" + address + "/")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
	return address
}

// A hundred thousand requests in each protocol: none fails.
func TestH2load(t *testing.T) {
	const n = 100_000
	program := find(t, debian.H2Load)
	r := newRig(t, startBackend(t), rigOptions{program: serving.Program(t), args: []string{"--access-log=off"}})
	for _, load := range []struct {
		name, url, address string
		args               []string
	}{
		{"HTTP/2 over TLS", r.secure("/bytes?n=128"), r.HTTPS, []string{"--max-concurrent-streams=16"}},
		{"h2c", r.plain("/bytes?n=128"), r.HTTP, []string{"--max-concurrent-streams=16"}},
		{"HTTP/1.1 over TLS", r.secure("/bytes?n=128"), r.HTTPS, []string{"--h1"}},
	} {
		t.Run(load.name, func(t *testing.T) {
			got := command{program: program, args: append([]string{
				fmt.Sprint("--requests=", n), "--clients=16", "--connect-to=" + load.address, "--connection-inactivity-timeout=30s", load.url,
			}, load.args...)}.must(t)
			want := fmt.Sprintf("requests: %[1]d total, %[1]d started, %[1]d done, %[1]d succeeded, 0 failed, 0 errored, 0 timeout", n)
			codes := fmt.Sprintf("status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx", n)
			if !strings.Contains(got.stdout, want) || !strings.Contains(got.stdout, codes) {
				t.Errorf("%s\n%s", got.stdout, got.stderr)
			}
			t.Logf("%s, %s: %s", load.name, regexp.MustCompile(`finished in .*`).FindString(got.stdout), want)
		})
	}
	if rejected := r.Metric("podlane_requests_rejected_total"); rejected != 0 {
		t.Errorf("podlane rejected %v requests", rejected)
	}
}
