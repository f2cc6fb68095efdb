package differential

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// netHTTP is net/http's server in this process.
type netHTTP struct{}

func newNetHTTP(*testing.T) oracle { return netHTTP{} }

func (netHTTP) read(t *testing.T, texts []string) []reading {
	t.Helper()
	r := newRecorder()
	addr := r.start(t)
	readings := make([]reading, len(texts))
	for i, text := range texts {
		readings[i] = r.heard(t, addr, text)
	}
	return readings
}

// heard sends text to addr, where r or a proxy in front of it is, and returns what r got of it.
func (r *recorder) heard(t *testing.T, addr, text string) reading {
	t.Helper()
	end := endsBehind
	if strings.HasSuffix(text, sentinel) {
		end = staysOpen // the sentinel asks for the end; HAProxy does not read on behind a FIN
	}
	answers, err := converse(addr, text, end)
	if err != nil {
		answers = err.Error()
	}
	return reading{r.take(), lastStatus(answers)}
}

// lastStatus is the status line of the last answer.
func lastStatus(answers string) string {
	i := strings.LastIndex(answers, "HTTP/1.")
	if i < 0 {
		return "no answer, " + answers
	}
	line, _, _ := strings.Cut(answers[i:], "\r\n")
	return line
}

// recorder is a server of net/http that keeps the requests that it has read whole.
type recorder struct {
	http.Server
	mu       sync.Mutex
	requests []request
}

func newRecorder() *recorder {
	r := &recorder{}
	r.MaxHeaderBytes = 256 << 10
	r.ReadHeaderTimeout = 20 * time.Second
	r.ErrorLog = nil
	r.Handler = http.HandlerFunc(r.record)
	r.DisableGeneralOptionsHandler = true
	return r
}

func (r *recorder) record(_ http.ResponseWriter, q *http.Request) {
	got := request{method: q.Method, target: q.RequestURI, fields: []field{{"Host", q.Host}}}
	for name, values := range q.Header {
		for _, v := range values {
			got.fields = append(got.fields, field{name, v})
		}
	}
	for _, coding := range q.TransferEncoding {
		got.fields = append(got.fields, field{"Transfer-Encoding", coding})
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // it is not whole
	}
	got.body = string(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, got)
}

func (r *recorder) take() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.requests
	r.requests = nil
	return all
}

// start serves the recorder on loopback until the test ends, and returns where.
func (r *recorder) start(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if r.Shutdown(ctx) != nil {
			_ = r.Close()
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
