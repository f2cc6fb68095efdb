package limit_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/limit"
)

// TestLikeNginx sends the same requests, as fast as they go, to nginx's limit_req and to a zone. A bucket leaks a request a minute, which is
// nginx's least: the little time that the test takes makes no difference.
func TestLikeNginx(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("there is no nginx here")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	configuration := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	limit_req_zone $arg_k zone=z:1m rate=1r/m;
	server { listen %[2]s; location / { limit_req zone=z burst=5 nodelay; try_files /none =204; } }
}
`, dir, address)
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-c", name, "-p", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c := dial(t, address, &stderr)
	answers := bufio.NewReader(c)
	z := limit.NewZones(0).Rate(id(0), limit.Rate{Requests: 1, Per: time.Minute, Burst: 5})
	start := time.Now()
	for i := range 30 {
		key := []string{"a", "b", "", "a"}[i%4]
		fmt.Fprintf(c, "GET /?k=%s HTTP/1.1\r\nHost: a.example\r\n\r\n", key)
		theirs := status(t, answers)
		ours := map[bool]string{true: "204", false: "503"}[z.Take([]byte(key), 0)]
		if time.Since(start) > 30*time.Second {
			t.Skip("the machine is too busy: a request has leaked")
		}
		if theirs != ours {
			t.Errorf("request %d of key %q: nginx %s, ours %s", i, key, theirs, ours)
		}
	}
}

// dial connects once nginx listens.
func dial(t *testing.T, address string, stderr *bytes.Buffer) net.Conn {
	t.Helper()
	for range 500 {
		if c, err := net.Dial("tcp", address); err == nil {
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			return c
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("nginx does not listen: %s", stderr.String())
	return nil
}

// status reads an answer and returns its status.
func status(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	length := 0
	for {
		field, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if field == "\r\n" {
			break
		}
		_, _ = fmt.Sscanf(strings.ToLower(field), "content-length: %d", &length)
	}
	if _, err := r.Discard(length); err != nil {
		t.Fatal(err)
	}
	return strings.Fields(line)[1]
}
