package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stand is a Podlane with a folder of manifests, and the one Pod behind all of them.
type stand struct {
	options     *options
	dir         string
	pod         *http.Server
	cmd         *exec.Cmd
	http, admin string
	client      *http.Client
}

// patience is how long the start may take.
const patience = time.Minute

func newStand(ctx context.Context, o *options) (s *stand, err error) {
	s = &stand{options: o, client: &http.Client{Timeout: patience}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "podlane-bench-admin-"); err != nil {
		return s, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return s, err
	}
	pod := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(status)
	})}
	s.pod = pod
	go func() { _ = pod.Serve(l) }()
	if err := os.WriteFile(filepath.Join(s.dir, "all.yaml"), manifests(o.routes, l.Addr().(*net.TCPAddr).Port), 0o600); err != nil {
		return s, err
	}
	return s, s.start(ctx)
}

// manifests are those of Ingresses with a host and a Service each, in one namespace of 50.
func manifests(n, port int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: app-%[1]d, namespace: team-%[2]d}
spec: {rules: [{host: app-%[1]d.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app-%[1]d, port: {number: 80}}}}]}}]}
---
apiVersion: v1
kind: Service
metadata: {name: app-%[1]d, namespace: team-%[2]d}
spec: {ports: [{port: 80, targetPort: 8000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-%[1]d, namespace: team-%[2]d, labels: {kubernetes.io/service-name: app-%[1]d}}
addressType: IPv4
ports: [{name: "", port: %[3]d, protocol: TCP}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
`, i, i%50, port)
	}
	return []byte(b.String())
}

// start starts Podlane and waits until it is ready.
func (s *stand) start(ctx context.Context) error {
	args := append([]string{
		"serve", "--from", s.dir, "--http-address=127.0.0.1:0", "--https-address=off", "--admin-address=127.0.0.1:0", "--access-log=off",
	}, strings.Fields(s.options.args)...)
	s.cmd = exec.CommandContext(ctx, s.options.program, args...)
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start podlane: %w", err)
	}
	late := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		kind, url, _ := strings.Cut(strings.TrimSpace(lines.Text()), "http://")
		switch strings.TrimSpace(kind) {
		case "http":
			s.http = url
		case "admin":
			s.admin, _, _ = strings.Cut(url, "/")
		}
		if strings.HasPrefix(lines.Text(), "following changes") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return nil
		}
	}
	return errors.New("podlane does not start")
}

// traffic makes three requests to each route, answered with different classes.
func (s *stand) traffic(ctx context.Context) error {
	for i := range s.options.routes {
		for _, status := range []int{200, 404, 500} {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/%d", s.http, status), nil)
			if err != nil {
				return err
			}
			r.Host = fmt.Sprintf("app-%d.example.com", i)
			answer, err := s.client.Do(r)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, answer.Body)
			if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != status {
				return fmt.Errorf("%s/%d: %s %w", r.Host, status, answer.Status, err)
			}
		}
	}
	return nil
}

// page reads an admin page.
func (s *stand) page(ctx context.Context, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, answer.Status)
	}
	return body, err
}

// sample returns the value of the only series of a name.
func sample(page []byte, name string) string {
	_, rest, _ := strings.Cut(string(page), "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// cpu returns the time that the process takes in a window with something done every second.
func (s *stand) cpu(ctx context.Context, every func() error) (time.Duration, error) {
	before, err := s.cpuTime()
	if err != nil {
		return 0, err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	end := time.After(s.options.window + time.Second/2)
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
			if err := every(); err != nil {
				return 0, err
			}
		case <-end:
			after, err := s.cpuTime()
			return after - before, err
		}
	}
}

// cpuTime is what the kernel says that the process has taken: the sum of its threads, in nanoseconds.
func (s *stand) cpuTime() (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has ended
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", task, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

func (s *stand) close() error {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait() // killed
	}
	if s.pod != nil {
		_ = s.pod.Close()
	}
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}
