package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A backend answers the requests.
type backend struct {
	name, answer  string
	shutdownMode  string
	shutdownDelay time.Duration
	ready         atomic.Bool
	healthy       atomic.Bool
	requests      atomic.Int64
	connections   atomic.Int64
	pages         map[string]http.HandlerFunc
}

func newBackend(o *options) *backend {
	b := &backend{name: o.name, answer: o.answer, shutdownMode: o.shutdown, shutdownDelay: o.shutdownDelay}
	b.ready.Store(o.ready)
	b.healthy.Store(true)
	b.pages = map[string]http.HandlerFunc{
		"/sha":     b.sha,
		"/bytes":   b.bytes,
		"/check":   b.check,
		"/slow":    b.slow,
		"/status":  b.status,
		"/stream":  b.stream,
		"/drop":    b.drop,
		"/count":   b.count,
		"/healthz": probe(&b.healthy),
		"/healthy": toggle(&b.healthy),
		"/readyz":  probe(&b.ready),
		"/ready":   toggle(&b.ready),
	}
	return b
}

// ServeHTTP counts the request, keeps its head as it came, and says which Pod answers.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.UserAgent(), "kube-probe/") {
		b.requests.Add(1)
	}
	rec := recorderOf(r)
	head := rec.take()
	if head.first && r.ProtoMajor == 1 {
		b.connections.Add(1)
	}
	w.Header().Set("X-Pod", b.name)
	// No ServeMux: it redirects paths that are not clean, and a test wants to see them as they came.
	handle, known := b.pages[r.URL.Path]
	switch {
	case r.URL.Path == "/echo" || strings.HasPrefix(r.URL.Path, "/echo/"):
		b.echo(w, r, head.bytes)
	case known:
		handle(w, r)
	default:
		b.hello(w, r)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	rec.reset()
}

func (b *backend) hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, strings.ReplaceAll(b.answer, "%s", b.name))
}

// An Echo is the answer on /echo: the request as it came.
type Echo struct {
	Method  string `json:"method"`
	Target  string `json:"target"`
	Proto   string `json:"proto"`
	Host    string `json:"host"`
	Headers []Line `json:"headers"`
	Length  int64  `json:"length"`
	SHA256  string `json:"sha256"`
	// Trailers are the fields after a chunked body.
	Trailers map[string][]string `json:"trailers,omitempty"`
	// ContentLength is what the request declared: -1 for none.
	ContentLength    int64    `json:"contentLength"`
	TransferEncoding []string `json:"transferEncoding,omitempty"`
	Pod              string   `json:"pod"`
	Remote           string   `json:"remote"`
	Local            string   `json:"local"`
}

// A Line is one header line: name and value, spelled as they came over HTTP/1.
type Line [2]string

func (b *backend) echo(w http.ResponseWriter, r *http.Request, head []byte) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e := Echo{
		Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, Headers: lines(head, r.Header), Length: n,
		SHA256: digest(sum), Trailers: r.Trailer, ContentLength: r.ContentLength, TransferEncoding: r.TransferEncoding,
		Pod: b.name, Remote: r.RemoteAddr,
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		e.Local = local.String()
	}
	body, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// lines are the head's lines in their order or, over HTTP/2, the fields sorted by name.
func lines(head []byte, fields http.Header) []Line {
	out := []Line{}
	if len(head) > 0 {
		for _, l := range strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")[1:] {
			name, value, _ := strings.Cut(l, ":")
			out = append(out, Line{name, strings.Trim(value, " \t")})
		}
		return out
	}
	for name, values := range fields {
		for _, v := range values {
			out = append(out, Line{name, v})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i][0] < out[j][0] })
	return out
}

func digest(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// sha answers with the digest and the length of what was uploaded.
func (b *backend) sha(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %d\n", digest(sum), n)
}

// bytes answers with n bytes, of a known length or, with chunked=1, chunked.
func (b *backend) bytes(w http.ResponseWriter, r *http.Request) {
	n := number(r, "n", 0)
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.FormValue("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	block := []byte(strings.Repeat("0123456789abcdef", 2048))
	for n > 0 {
		k := min(n, int64(len(block)))
		if _, err := w.Write(block[:k]); err != nil {
			return
		}
		n -= k
	}
}

// slow answers after ms milliseconds.
func (b *backend) slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(time.Duration(number(r, "ms", 1000)) * time.Millisecond):
		b.hello(w, r)
	case <-r.Context().Done():
	}
}

func (b *backend) status(w http.ResponseWriter, r *http.Request) {
	code := int(number(r, "code", 200))
	if code < 200 || code > 999 {
		http.Error(w, "code out of range", http.StatusBadRequest)
		return
	}
	w.WriteHeader(code)
	if code != http.StatusNoContent && code != http.StatusNotModified {
		fmt.Fprintln(w, code)
	}
}

// stream answers with n numbered lines, one every ms milliseconds.
func (b *backend) stream(w http.ResponseWriter, r *http.Request) {
	n, pause := number(r, "n", 10), time.Duration(number(r, "ms", 100))*time.Millisecond
	flush := http.NewResponseController(w)
	for i := range n {
		if _, err := fmt.Fprintf(w, "%d %s\n", i, b.name); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
			return
		}
	}
}

// drop closes the connection without an answer or, with n, after n bytes of an answer of n+1.
func (b *backend) drop(w http.ResponseWriter, r *http.Request) {
	if n := number(r, "n", 0); n > 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(n+1, 10))
		_, _ = w.Write([]byte(strings.Repeat("x", int(min(n, 1<<20)))))
	}
	panic(http.ErrAbortHandler)
}

func (b *backend) count(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "{\"pod\":%q,\"requests\":%d,\"connections\":%d}\n", b.name, b.requests.Load(), b.connections.Load())
}

func probe(state *atomic.Bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if !state.Load() {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// toggle sets what a probe says: POST ?state=true or false.
func toggle(state *atomic.Bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		on, err := strconv.ParseBool(r.FormValue("state"))
		if err != nil || r.Method != http.MethodPost {
			http.Error(w, "POST with state=true or state=false", http.StatusBadRequest)
			return
		}
		state.Store(on)
		fmt.Fprintln(w, on)
	}
}

func number(r *http.Request, name string, otherwise int64) int64 {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}
