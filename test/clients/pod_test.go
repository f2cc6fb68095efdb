package clients_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A pod is what the clients reach through podlane: a server of this process, by HTTP/1.1.
type pod struct {
	*httptest.Server
	// content is what /content serves.
	content []byte
	// next lets the pages that send piece by piece send the next piece.
	next chan struct{}
	// canceled gets the path of every request whose client went away.
	canceled chan string
	requests atomic.Int64
}

// contentSize is the size of a large body.
const contentSize = 10 << 20

func newPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{content: noise(contentSize), next: make(chan struct{}), canceled: make(chan string, 64)}
	pages := http.NewServeMux()
	pages.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	pages.HandleFunc("/content", p.serveContent)
	pages.HandleFunc("/mirror", p.mirror)
	pages.HandleFunc("/digest", p.digest)
	pages.HandleFunc("/early", p.early)
	pages.HandleFunc("/hints", p.hints)
	pages.HandleFunc("/events", p.events)
	pages.HandleFunc("/trailers", p.trailers)
	pages.HandleFunc("/hang", p.hang)
	pages.HandleFunc("/deaf", p.deaf)
	pages.HandleFunc("/sink", p.sink)
	pages.HandleFunc("/gzip", p.compressed)
	pages.HandleFunc("/head", p.head)
	pages.HandleFunc("/page", p.page)
	pages.HandleFunc("/object/{name}", p.object)
	pages.HandleFunc("/socket", p.socket)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		p.requests.Add(1)
		pages.ServeHTTP(w, q)
	}))
	t.Cleanup(p.Server.Close)
	return p
}

func (p *pod) address() string { return p.Listener.Addr().String() }

// noise is n bytes that neither repeat nor compress, the same each time.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte([]byte("podlane: thirty-two bytes of it!"))).Read(b)
	return b
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// serveContent serves p.content, its ranges and conditions.
func (p *pod) serveContent(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"content-1"`)
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(p.content))
}

// mirror answers with the body that came, and its digest as X-Digest.
func (p *pod) mirror(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Digest", digestOf(body))
	w.Header().Set("X-Length", strconv.FormatInt(q.ContentLength, 10))
	_, _ = w.Write(body)
}

// digest answers with the length and the digest of what came.
func (p *pod) digest(w http.ResponseWriter, q *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, q.Body)
	if err != nil {
		p.canceled <- q.URL.Path
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%d %x", n, sum.Sum(nil))
}

// early refuses a request without looking at its body.
func (p *pod) early(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusForbidden)
	fmt.Fprint(w, "not for you")
}

func (p *pod) hints(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload; as=style")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprint(w, "the page")
}

// events sends n server-sent events, each when the test says so.
func (p *pod) events(w http.ResponseWriter, q *http.Request) {
	n, err := strconv.Atoi(q.FormValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	for i := range n {
		select {
		case <-p.next:
		case <-q.Context().Done():
			return
		}
		fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i)
		if err := flush.Flush(); err != nil {
			return
		}
	}
}

// trailers answers in two pieces, and with the digest of both after them.
func (p *pod) trailers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Trailer", "X-Digest")
	fmt.Fprint(w, "first ")
	_ = http.NewResponseController(w).Flush()
	fmt.Fprint(w, "second")
	w.Header().Set("X-Digest", digestOf([]byte("first second")))
}

// hang answers nothing, until the client goes away.
func (p *pod) hang(w http.ResponseWriter, q *http.Request) {
	if q.FormValue("head") != "" {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
	}
	p.next <- struct{}{}
	select {
	case <-q.Context().Done():
		p.canceled <- q.URL.Path
	case <-time.After(patience):
	}
}

// sink says that a request has come, and answers with the digest of its body.
func (p *pod) sink(w http.ResponseWriter, q *http.Request) {
	p.next <- struct{}{}
	p.digest(w, q)
}

// deaf reads nothing of the body until the test says so, and then answers with its digest.
func (p *pod) deaf(w http.ResponseWriter, q *http.Request) {
	p.next <- struct{}{}
	<-p.next
	p.digest(w, q)
}

func (p *pod) compressed(w http.ResponseWriter, q *http.Request) {
	if !strings.Contains(q.Header.Get("Accept-Encoding"), "gzip") {
		http.Error(w, "no gzip", http.StatusNotAcceptable)
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	fmt.Fprint(z, strings.Repeat("compress me ", 10_000))
	_ = z.Close()
}

// head answers with the request's own head.
func (p *pod) head(w http.ResponseWriter, q *http.Request) {
	fmt.Fprintf(w, "%s %s %s\nHost: %s\n", q.Method, q.RequestURI, q.Proto, q.Host)
	_ = q.Header.Write(w)
}
