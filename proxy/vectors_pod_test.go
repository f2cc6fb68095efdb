package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"podlane.dev/podlane/test/vectors"
)

// got is one whole request as a Pod got it.
type got struct {
	vectors.Request
	pod  string
	conn int // number of the connection
}

// String is for messages of failing tests.
func (g got) String() string {
	return fmt.Sprintf("%s: %.200q %.400q %.80q", g.pod, g.Line, g.Fields, g.Body)
}

// record is what all Pods of a test got, byte for byte.
type record struct {
	mu       sync.Mutex
	bytes    int // of everything
	whole    int // of whole requests
	partial  int // connections on which a request has begun and is not whole
	writing  int // answers that have begun and are not whole
	requests []got
	problems []string
	conns    int
}

// take returns what came since the last call, and forgets it. extra is the number of bytes that belong to no whole request.
func (r *record) take() (requests []got, extra int, problems []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	requests, extra, problems = r.requests, r.bytes-r.whole, r.problems
	r.requests, r.bytes, r.whole, r.problems = nil, 0, 0, nil
	return requests, extra, problems
}

// settled waits until no Pod waits for the rest of a request, and reports whether that came to pass.
func (r *record) settled() bool {
	return eventually(func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.partial == 0
	})
}

// written waits until every Pod has sent what it has to say.
func (r *record) written() bool {
	return eventually(func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.writing == 0
	})
}

// eventually polls for what happens soon.
func eventually(done func() bool) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		if done() {
			return true
		}
	}
	return false
}

// podSide is a Pod's end of a connection. It counts the bytes that are read, before anybody has parsed them.
type podSide struct {
	net.Conn
	r     *record
	begun bool // a request has begun and is not whole
}

func (c *podSide) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.bytes += n
	if n > 0 {
		c.begin(true)
	}
	return n, err
}

// begin says whether a request has begun and is not whole. r is locked.
func (c *podSide) begin(begun bool) {
	switch {
	case begun && !c.begun:
		c.r.partial++
	case !begun && c.begun:
		c.r.partial--
	}
	c.begun = begun
}

// pod starts a raw TCP Pod. It reads requests with a parser of its own, which knows no leniency, and answers each with script, or where
// that is nil with its name and the target.
func (r *record) pod(t testing.TB, name string, script func(c net.Conn, q got) (again bool)) string {
	t.Helper()
	if script == nil {
		script = plainAnswer
	}
	return fakePod(t, func(_ int, c net.Conn, _ *bufio.Reader) {
		r.mu.Lock()
		r.conns++
		conn := r.conns
		r.mu.Unlock()
		side := &podSide{Conn: c, r: r}
		br := bufio.NewReaderSize(side, 128<<10)
		for {
			request, err := vectors.ReadRequest(br)
			q := got{Request: request, pod: name, conn: conn}
			if !r.add(side, q, br.Buffered() > 0, err) || !r.answer(c, q, script) {
				return
			}
		}
	})
}

// add records a request, or why there is none. more says that bytes of another have come. It reports whether there is one.
func (r *record) add(side *podSide, q got, more bool, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	side.begin(err == nil && more)
	if v, ok := errors.AsType[*vectors.Violation](err); ok {
		r.problems = append(r.problems, fmt.Sprintf("%s got what it cannot read: %v", q.pod, v))
	}
	if err != nil {
		return false
	}
	r.requests, r.whole = append(r.requests, q), r.whole+len(q.Raw)
	r.writing++
	return true
}

// answer lets script answer q.
func (r *record) answer(c net.Conn, q got, script func(c net.Conn, q got) bool) (again bool) {
	again = script(c, q)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writing--
	return again
}

// plainAnswer says who answers what.
func plainAnswer(c net.Conn, q got) bool {
	text := ownAnswer(q.pod, q.Target())
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(text))
	if q.Method() == "HEAD" {
		text = ""
	}
	_, err := io.WriteString(c, head+text)
	return err == nil
}

func ownAnswer(pod, target string) string { return pod + " " + target }

// words returns method and target of a request line.
func words(line string) (method, target string) {
	q := vectors.Request{Line: line}
	return q.Method(), q.Target()
}

// connections is the number of connections that Pods have accepted.
func connections(r *record) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns
}

// match compares a request with what a vector says of it.
func match(q got, w vectors.Seen) error {
	pod := w.Pod
	if pod == "" {
		pod = "a"
	}
	switch {
	case w.Line == "":
		return nil
	case q.pod != pod:
		return fmt.Errorf("it went to %s, want %s", q.pod, pod)
	case q.Line != w.Line:
		return fmt.Errorf("line %.200q, want %.200q", q.Line, w.Line)
	case q.Body != w.Body:
		return fmt.Errorf("body %.100q, want %.100q", q.Body, w.Body)
	}
	return matchFields(q.Fields, w)
}

func matchFields(fields []string, w vectors.Seen) error {
	row := w.Row
	count := map[string]int{}
	for _, have := range fields {
		count[have]++
		if len(row) > 0 && row[0] == have {
			row = row[1:]
		}
		name, _, _ := strings.Cut(have, ":")
		for _, lack := range w.Lacks {
			if strings.EqualFold(name, lack) {
				return fmt.Errorf("field %.100q is there", have)
			}
		}
	}
	if len(row) > 0 {
		return fmt.Errorf("field %.100q is not there, or not in its place", row[0])
	}
	for _, f := range w.Has {
		if count[f] != 1 {
			return fmt.Errorf("field %.100q comes %d times", f, count[f])
		}
	}
	for _, f := range w.HasNot {
		if count[f] != 0 {
			return fmt.Errorf("field %.100q is there", f)
		}
	}
	return nil
}
