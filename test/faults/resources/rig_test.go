package resources_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
)

// rig is an engine in this process, with a listener on loopback, an access log and metrics.
type rig struct {
	t       *testing.T
	engine  *proxy.Engine
	addr    string
	logFile string
	metrics *observe.Metrics
	access  *observe.AccessLog
	routes  []*router.Route
}

// newRig starts an engine. It ends with the test, which fails if the engine does not end.
func newRig(t *testing.T, o proxy.Options) *rig {
	t.Helper()
	r := &rig{t: t, logFile: filepath.Join(t.TempDir(), "access.log")}
	var err error
	if r.access, err = observe.OpenAccessLog(observe.AccessLogOptions{Destination: r.logFile}); err != nil {
		t.Fatal(err)
	}
	if r.metrics, err = observe.NewMetrics(observe.MetricsOptions{AccessLog: r.access}); err != nil {
		t.Fatal(err)
	}
	o.AccessLog, o.Metrics = r.access, r.metrics
	r.engine = proxy.New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.engine.Serve(&proxy.Listener{Listener: l}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.engine.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := r.access.Close(ctx); err != nil {
			t.Errorf("close the access log: %v", err)
		}
	})
	return r
}

// route makes host reach the given addresses, whatever the path; other hosts stay as they are.
func (r *rig) route(host string, addresses ...string) {
	r.t.Helper()
	port := router.ServicePort{Namespace: "default", Name: "svc-" + strings.ReplaceAll(host, ".", "-")}
	r.routes = append(r.routes, &router.Route{
		ID:       router.RouteID{Namespace: "default", Ingress: "ing", Host: host, Path: "/"},
		Backends: []router.Backend{{Service: port, Weight: 1}},
	})
	var list []router.Address
	for i, a := range addresses {
		list = append(list, router.Address{AddrPort: netip.MustParseAddrPort(a), UID: host + strconv.Itoa(i), Ready: true, Serving: true})
	}
	table := router.NewTable(r.routes, nil)
	r.engine.Prepare(table)
	r.engine.SetAddresses(port.Service(), map[string][]router.Address{"": list})
	r.engine.Publish(table)
}

// logged waits for the access log's line of the request with this user agent.
func (r *rig) logged(agent string) logLine {
	r.t.Helper()
	var found logLine
	await(r.t, "the log line of "+agent, func() bool {
		content, err := os.ReadFile(r.logFile)
		if err != nil {
			r.t.Fatal(err)
		}
		for text := range strings.Lines(string(content)) {
			var line logLine
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				return false // the rest of it is on its way
			}
			if line.UserAgent == agent {
				found = line
				return true
			}
		}
		return false
	})
	return found
}

type logLine struct {
	Status    int
	Reason    string
	Path      string
	UserAgent string `json:"user_agent"`
	BytesIn   int64  `json:"bytes_in"`
	BytesOut  int64  `json:"bytes_out"`
	Tries     int
}

// metric is the sum of a metric's samples whose labels have all of the given values.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gatherer().Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return sumOf(f, labels)
		}
	}
	return 0
}

func sumOf(f *dto.MetricFamily, labels []string) float64 {
	sum := 0.0
	for _, m := range f.GetMetric() {
		values := map[string]bool{}
		for _, l := range m.GetLabel() {
			values[l.GetValue()] = true
		}
		all := true
		for _, want := range labels {
			all = all && values[want]
		}
		if all {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// pod is a server in this process that a test scripts.
type pod struct {
	addr  string
	conns atomic.Int64
}

// readerSize is what clients and Pods of the tests hold for each connection: little, because they share the heap that is measured.
const readerSize = 1 << 10

// podConn is one connection to a pod.
type podConn struct {
	*net.TCPConn
	in *bufio.Reader
	// n counts the pod's connections from 0.
	n int
}

// newPod serves every connection with script, which may leave it open: it is closed after it.
func newPod(t *testing.T, script func(c *podConn)) *pod {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{addr: l.Addr().String()}
	var serving sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			n := int(p.conns.Add(1)) - 1
			serving.Go(func() {
				script(&podConn{TCPConn: c.(*net.TCPConn), in: bufio.NewReaderSize(c, readerSize), n: n})
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return p
}

// request reads the head of a request; its body is still to be read. It returns nil at the connection's end.
func (c *podConn) request() *http.Request {
	q, err := http.ReadRequest(c.in)
	if err != nil {
		return nil
	}
	return q
}

// untilClosed reads until the other side ends the connection.
func (c *podConn) untilClosed() { _, _ = io.Copy(io.Discard, c.in) }

// plainPod answers every request with 200 and text.
func plainPod(t *testing.T, text string) *pod {
	t.Helper()
	return newPod(t, func(c *podConn) { c.answerAll(text) })
}

// answerAll answers every request with 200 and text.
func (c *podConn) answerAll(text string) {
	for q := c.request(); q != nil; q = c.request() {
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text); err != nil {
			return
		}
	}
}

// client is one connection of a client.
type client struct {
	*net.TCPConn
	in *bufio.Reader
}

// dial connects a client, whose connection is closed with the test at the latest.
func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := tryDial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func tryDial(addr string) (*client, error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return newClient(c), nil
}

func newClient(c net.Conn) *client {
	return &client{TCPConn: c.(*net.TCPConn), in: bufio.NewReaderSize(c, readerSize)}
}

// Close ends the connection.
func (c *client) Close() { _ = c.TCPConn.Close() }

// send writes text, which a fault may cut short: what becomes of it is for the test to see elsewhere.
func (c *client) send(format string, args ...any) { fmt.Fprintf(c, format, args...) }

// answer reads an answer with its body.
func (c *client) answer() (status int, body string, err error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, "", err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// ask makes one GET and expects its answer.
func (c *client) ask(t *testing.T, host, want string) {
	t.Helper()
	c.send("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
	if status, body, err := c.answer(); status != http.StatusOK || body != want || err != nil {
		t.Fatalf("%d %q %v, want %q", status, body, err, want)
	}
}

// reset ends the connection with RST.
func (c *client) reset() {
	_ = c.SetLinger(0)
	c.Close()
}

// fin ends the client's sending side only.
func (c *client) fin() { _ = c.CloseWrite() }

// quantiles describe measured times, for the log of a test.
func quantiles(times []time.Duration) string {
	if len(times) == 0 {
		return "nothing measured"
	}
	return fmt.Sprintf("p50 %s, p99 %s, max %s of %d", at(times, 0.5).Round(time.Microsecond), at(times, 0.99).Round(time.Microsecond),
		at(times, 1).Round(time.Microsecond), len(times))
}

// at is the time within which that part of times lies.
func at(times []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

// kindOf is an error without the addresses, which differ each time.
func kindOf(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
