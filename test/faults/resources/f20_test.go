package resources_test

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/test/e2e/load"
	"podlane.dev/podlane/test/faults/resources/serving"
)

// startBackend runs test/backend, which checks what it is sent and answers with digests, and returns its address.
func startBackend(t *testing.T, name string) string {
	t.Helper()
	address := serving.FreePort(t)
	cmd := exec.Command(serving.Backend(t), "--name="+name, "--listen="+address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	await(t, "the backend "+name, func() bool {
		c, err := tryDial(address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

// balancer sends new connections to the replicas in turn that say that they are ready: it asks fifty times a second.
type balancer struct {
	replicas []*serving.Process
	ready    []atomic.Bool
	turn     atomic.Uint64
}

func newBalancer(t *testing.T, replicas ...*serving.Process) *balancer {
	t.Helper()
	b := &balancer{replicas: replicas, ready: make([]atomic.Bool, len(replicas))}
	ctx, done := t.Context(), make(chan struct{})
	look := func() {
		for i, p := range replicas {
			status, _, err := p.Page("/readyz")
			b.ready[i].Store(err == nil && status == http.StatusOK)
		}
	}
	look()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			look()
			time.Sleep(20 * time.Millisecond)
		}
	}()
	t.Cleanup(func() { <-done })
	return b
}

func (b *balancer) address() string {
	turn := int(b.turn.Add(1))
	for k := range b.replicas {
		if i := (turn + k) % len(b.replicas); b.ready[i].Load() {
			return b.replicas[i].HTTP
		}
	}
	return b.replicas[0].HTTP
}

// F20: two replicas behind a load balancer are restarted in turn, over and over, under load from clients with and without keep-alive,
// GET and POST. No request fails, every byte is checked at both ends, and each process ends by itself with status 0.
func TestF20RestartsUnderLoad(t *testing.T) {
	noLeaks(t)
	restarts := pick(6, 50)
	l := serving.Options{
		Program: podlaneProgram(t),
		Dir:     serving.Folder(t, map[string][]string{"web.test": {startBackend(t, "one"), startBackend(t, "two")}}),
		Args:    []string{"--drain-delay=400ms", "--shutdown-timeout=20s"},
	}
	replicas := []*serving.Process{serving.Start(t, l), serving.Start(t, l)}
	b := newBalancer(t, replicas...)
	var loads []*load.Load
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, keep := range []bool{true, false} {
			o := load.Options{
				Name: fmt.Sprint(method, keep), Address: b.address, Host: "web.test", Method: method, KeepAlive: keep, Rate: 100, Clients: 8, Download: 3000,
			}
			if method == http.MethodPost {
				o.Upload = 30_000
			}
			loads = append(loads, load.Start(o))
		}
	}
	var ends []time.Duration
	for i := range restarts {
		p := replicas[i%2]
		sent := loads[0].Sent()
		await(t, "load on the new replica", func() bool { return loads[0].Sent() > sent+20 && b.ready[0].Load() && b.ready[1].Load() })
		began := time.Now()
		p.Signal(syscall.SIGTERM)
		if code := p.Exit(); code != 0 {
			t.Errorf("restart %d: exit %d", i, code)
		}
		ends = append(ends, time.Since(began))
		p.Restart()
	}
	all := &load.Result{}
	for i, each := range loads {
		result := each.Stop()
		if result.Failed > 0 {
			t.Logf("load %d (GET or POST, with keep-alive or without): %s", i, result)
		}
		all.Add(result)
	}
	t.Logf("F20: %d restarts, from SIGTERM to the end %s; %s", restarts, quantiles(ends), all)
	if all.Failed > 0 {
		t.Errorf("%d of %d requests failed, %d of them corrupt", all.Failed, all.Sent, all.Corrupt)
	}
	if all.Sent < 100*restarts {
		t.Errorf("only %d requests were sent", all.Sent)
	}
}

// F20: the order of a shutdown. Not ready at once, but still accepting; answers close their connections; what is in flight ends; an upgraded
// connection lives on beside it and ends last, with the time limit; exit status 0.
func TestF20Order(t *testing.T) {
	noLeaks(t)
	release := make(chan struct{})
	asked := make(chan struct{}, 1)
	pod := newPod(t, func(c *podConn) {
		for q := c.request(); q != nil; q = c.request() {
			switch {
			case q.Header.Get("Upgrade") != "":
				fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				_, _ = io.Copy(c, c.in)
				return
			case q.URL.Path == "/slow":
				asked <- struct{}{}
				wanted(t, release)
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	p := serving.Start(t, serving.Options{
		Program: podlaneProgram(t),
		Dir:     serving.Folder(t, map[string][]string{"a.test": {pod.addr}}),
		Args:    []string{"--drain-delay=1s", "--shutdown-timeout=3s"},
	})
	idle, slow, socket := dial(t, p.HTTP), dial(t, p.HTTP), dial(t, p.HTTP)
	idle.ask(t, "a.test", "ok")
	_ = socket.SetReadDeadline(time.Now().Add(2 * patience))
	socket.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if head, err := readHead(socket.in); err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("%q %v", head, err)
	}
	slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
	receive(t, "the request at the Pod", asked)

	began := time.Now()
	p.Signal(syscall.SIGTERM)
	await(t, "readiness to go off", func() bool {
		status, _, err := p.Page("/readyz")
		return err == nil && status == http.StatusServiceUnavailable
	})
	unready := time.Since(began)
	dial(t, p.HTTP).ask(t, "a.test", "ok") // within the drain delay
	await(t, "the listener to close", func() bool {
		c, err := tryDial(p.HTTP)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	closed := time.Since(began)
	if _, err := idle.in.ReadByte(); err == nil {
		t.Error("the idle connection was not closed")
	}
	echoes := func(when string) {
		t.Helper()
		socket.send("%s\n", when)
		if line, err := socket.in.ReadString('\n'); line != when+"\n" {
			t.Errorf("the upgraded connection %s: %q %v", when, line, err)
		}
	}
	echoes("while a request is in flight")
	close(release)
	_ = slow.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(slow.in, nil)
	if err != nil || res.StatusCode != http.StatusOK || !res.Close {
		t.Fatalf("the request in flight: %v %v, want 200 and the end of the connection", res, err)
	}
	answered := time.Since(began)
	echoes("after the last request")
	if b, err := io.ReadAll(socket.in); len(b) > 0 {
		t.Errorf("%q %v at the end of the upgraded connection", b, err)
	}
	upgraded := time.Since(began)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
	t.Logf("F20: after SIGTERM not ready %s, listener closed %s, request answered %s, upgraded connection ended %s, process ended %s",
		unready.Round(time.Millisecond), closed.Round(time.Millisecond), answered.Round(time.Millisecond), upgraded.Round(time.Millisecond),
		time.Since(began).Round(time.Millisecond))
}

// F20: the second SIGTERM means now, in the drain delay as well as while requests are waited for; and that is no failure either.
func TestF20SecondSignal(t *testing.T) {
	noLeaks(t)
	pod := newPod(t, func(c *podConn) {
		if c.request() != nil {
			c.untilClosed()
		}
	})
	for name, delay := range map[string]string{"in the drain delay": "10m", "while a request is in flight": "0s"} {
		t.Run(name, func(t *testing.T) {
			p := serving.Start(t, serving.Options{
				Program: podlaneProgram(t),
				Dir:     serving.Folder(t, map[string][]string{"a.test": {pod.addr}}),
				Args:    []string{"--drain-delay=" + delay, "--shutdown-timeout=10m"},
			})
			c := dial(t, p.HTTP)
			c.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			await(t, "the request to reach the Pod", func() bool { return p.Metric("podlane_requests_in_flight") == 1 })
			p.Signal(syscall.SIGTERM)
			await(t, "the shutdown to begin", func() bool {
				status, _, err := p.Page("/readyz")
				return err == nil && status == http.StatusServiceUnavailable
			})
			if p.Ended() {
				t.Fatal("the first signal cut the request")
			}
			began := time.Now()
			p.Signal(syscall.SIGTERM)
			if code := p.Exit(); code != 0 {
				t.Errorf("exit %d", code)
			}
			t.Logf("F20: ended %s after the second signal", time.Since(began).Round(time.Millisecond))
			if _, _, err := c.answer(); err == nil {
				t.Error("the request that was cut has an answer")
			}
		})
	}
}
