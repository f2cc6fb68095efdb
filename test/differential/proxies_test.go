package differential

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// proxied is another proxy with recorders behind it: what it reads is what it sends on. It has several fronts, each with a recorder of its
// own, so that several texts can be on their way at a time.
type proxied struct {
	fronts []string
	behind []*recorder
}

// lanes is the number of fronts.
const lanes = 4

func (p *proxied) read(t *testing.T, texts []string) []reading {
	t.Helper()
	readings := make([]reading, len(texts))
	var wg sync.WaitGroup
	for lane := range p.fronts {
		wg.Go(func() {
			for i := lane; i < len(texts); i += len(p.fronts) {
				readings[i] = p.behind[lane].heard(t, p.fronts[lane], texts[i])
			}
		})
	}
	wg.Wait()
	return readings
}

// installed finds a program, in the places where Debian puts servers too, or skips the test.
func installed(t *testing.T, program string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed (Debian: apt-get install %s)", program, program)
	return ""
}

// newProxied starts a program with a configuration that lane writes for each front, between head and tail. Fronts are sockets in a folder:
// a port that is free now need not be so when the program asks for it.
func newProxied(t *testing.T, command func(config string) *exec.Cmd, head string, lane func(front, back string) string, tail string) *proxied {
	t.Helper()
	dir, err := os.MkdirTemp("", "podlane") //nolint:usetesting // the path of a socket has 107 bytes at most, which t.TempDir does not promise
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &proxied{}
	var config strings.Builder
	config.WriteString(strings.ReplaceAll(head, "DIR", dir))
	for i := range lanes {
		r := newRecorder()
		front := filepath.Join(dir, strconv.Itoa(i))
		p.fronts, p.behind = append(p.fronts, front), append(p.behind, r)
		config.WriteString(lane(front, r.start(t)))
	}
	config.WriteString(tail)
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, command(file), p.fronts)
	return p
}

// run starts a program that serves at fronts, waits until it does, and ends it with the test.
func run(t *testing.T, cmd *exec.Cmd, fronts []string) {
	t.Helper()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	for _, front := range fronts {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if c, err := net.Dial("unix", front); err == nil {
				_ = c.Close()
				break
			}
			select {
			case <-ended:
				t.Fatalf("it ended: %v\n%s", cmd.ProcessState, output.Bytes())
			default:
			}
			if time.Now().After(deadline) {
				t.Fatalf("it does not listen at %s", front)
			}
		}
	}
}

// nginxHead makes nginx read as it does by default, but pass on every field, with names and values that it knows, as it read it.
const nginxHead = `daemon off;
master_process off;
pid DIR/pid;
error_log DIR/error.log;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	client_header_buffer_size 64k;
	large_client_header_buffers 8 64k;
	client_max_body_size 0;
	ignore_invalid_headers off;
	underscores_in_headers on;
	merge_slashes off;
	lingering_close off;
	proxy_http_version 1.1;
	proxy_ignore_client_abort on;
	proxy_set_header Host $http_host;
	proxy_set_header Connection "";
`

func newNginx(t *testing.T) oracle {
	t.Helper()
	path := installed(t, "nginx")
	return newProxied(t, func(config string) *exec.Cmd {
		return exec.CommandContext(t.Context(), path, "-p", filepath.Dir(config), "-c", config)
	}, nginxHead, func(front, back string) string {
		return fmt.Sprintf("	server { listen unix:%s; location / { proxy_pass http://%s; } }\n", front, back)
	}, "}\n")
}

// haproxyHead makes HAProxy read as it does by default, with room for the largest head.
const haproxyHead = `global
	maxconn 1000
	tune.bufsize 131072
	tune.http.maxhdr 400
defaults
	mode http
	timeout client 20s
	timeout server 20s
	timeout connect 5s
	option http-keep-alive
`

func newHAProxy(t *testing.T) oracle {
	t.Helper()
	path := installed(t, "haproxy")
	n := 0
	return newProxied(t, func(config string) *exec.Cmd {
		return exec.CommandContext(t.Context(), path, "-db", "-f", config)
	}, haproxyHead, func(front, back string) string {
		n++
		return fmt.Sprintf("listen lane%d\n	bind unix@%s\n	server pod %s\n", n, front, back)
	}, "")
}
