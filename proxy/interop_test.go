package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/router"
)

// interopCases are those of the gRPC project's interoperability suite that need nothing of a cloud.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
	"cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service",
}

// interopRaces is how often cancel_after_begin may lose its race, and is run again. The client cancels, ends its side all the same, and asks for the
// answer, which is whole where the cancellation reaches its connection last: on two busy processors 4 of 64,000 calls straight to the server end
// so. That a Pod never takes what was cancelled for what has ended is TestHalfAnUploadHasNoEnd.
const interopRaces = 3

// TestGRPCInterop runs the gRPC project's own client and server with Podlane in between. They are built from their module by test/grpc/go.mod.
func TestGRPCInterop(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the gRPC project's client and server the first time")
	}
	dir := t.TempDir()
	for _, program := range []string{"client", "server"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-modfile=../test/grpc/go.mod", "-o", filepath.Join(dir, program), "google.golang.org/grpc/interop/"+program)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	authority := newPKI(t)
	files := interopFiles(t, dir, authority)
	for _, row := range []struct {
		name   string
		scheme router.PodScheme
		tls    bool
	}{
		{"h2c", router.PodH2C, false},
		{"tls", router.PodH2, true},
		{"tls in front", router.PodH2C, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			pod := startInteropServer(t, dir, row.scheme, files)
			r := newRig(t, proxy.Options{H2C: true})
			settings := router.NewPodTLS(router.PodTLSOptions{Verify: true, Name: "pod.test"}, []*x509.Certificate{authority.cert}, nil)
			r.routeTo("", router.Backend{Scheme: row.scheme, TLS: settings}, pod)
			flags := []string{"-server_host=127.0.0.1"}
			addr := r.addr
			if row.tls {
				addr = listenWith(t, r, authority.leaf("front.test", nil))
				flags = append(flags, "-use_tls", "-use_test_ca", "-ca_file="+files.authority, "-server_host_override=front.test")
			}
			_, port, _ := net.SplitHostPort(addr)
			for _, name := range interopCases {
				t.Run(name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					for left := interopRaces; ; left-- {
						client := exec.CommandContext(ctx, filepath.Join(dir, "client"), append(flags, "-server_port="+port, "-test_case="+name)...)
						out, err := client.CombinedOutput()
						if err == nil {
							break
						}
						if t.Logf("%v\n%s", err, out); name != "cancel_after_begin" || !bytes.Contains(out, []byte("got error code 0, want 1")) || left == 0 {
							t.Fatal("the client is not content")
						}
					}
				})
			}
			waitFor(t, "the requests to end", func() bool { return r.engine.Requests() == 0 })
		})
	}
}

// listenWith makes r serve HTTP/2 over TLS with a certificate, and returns the address.
func listenWith(t *testing.T, r *rig, pair tls.Certificate) string {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.engine.Serve(&proxy.Listener{Listener: l, Handshake: func(c net.Conn) (*tls.Conn, error) {
			tc := tls.Server(c, config)
			return tc, tc.Handshake()
		}})
	}()
	return l.Addr().String()
}

type interopNames struct{ authority, certificate, key string }

// interopFiles writes the authority's certificate and a Pod's pair.
func interopFiles(t *testing.T, dir string, authority *pki) interopNames {
	t.Helper()
	pair := authority.leaf("pod.test", nil)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, block string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return interopNames{
		write("authority.pem", "CERTIFICATE", authority.cert.Raw),
		write("pod.pem", "CERTIFICATE", pair.Certificate[0]),
		write("pod.key", "PRIVATE KEY", key),
	}
}

// startInteropServer starts the gRPC project's server and returns its address.
func startInteropServer(t *testing.T, dir string, scheme router.PodScheme, files interopNames) string {
	t.Helper()
	addr := closedPort(t)
	_, port, _ := net.SplitHostPort(addr)
	if _, err := strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	flags := []string{"-port=" + port}
	if scheme.Encrypted() {
		flags = append(flags, "-use_tls", "-tls_cert_file="+files.certificate, "-tls_key_file="+files.key)
	}
	server := exec.Command(filepath.Join(dir, "server"), flags...)
	var out bytes.Buffer
	server.Stdout, server.Stderr = &out, &out
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if t.Failed() {
			t.Logf("the server said:\n%s", out.Bytes())
		}
	})
	waitFor(t, "the server to listen", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return addr
}
