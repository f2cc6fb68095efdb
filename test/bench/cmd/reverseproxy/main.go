// Command reverseproxy is the proxy that Go's standard library makes: net/http/httputil.ReverseProxy with a tuned Transport, and
// the same work as the others of the benchmark do.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "reverseproxy:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("reverseproxy", flag.ContinueOnError)
	address := f.String("listen", "127.0.0.1:8080", "`address` to serve HTTP on")
	host := f.String("host", "bench.example", "the one host that is served")
	list := f.String("backends", "", "addresses of the backends, comma-separated")
	logFile := f.String("access-log", "", "`file` that requests are logged to")
	chain := f.String("certificate", "", "`file` with a certificate: HTTP/1.1 and HTTP/2 over TLS instead of HTTP")
	key := f.String("key", "", "`file` with its key")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *list == "" {
		return errors.New("-backends is empty")
	}
	_, port, err := net.SplitHostPort(*address)
	if err != nil {
		return err
	}
	balancer := &balancer{}
	for b := range strings.SplitSeq(*list, ",") {
		balancer.backends = append(balancer.backends, &backend{address: b})
	}
	serve := newProxy(*host, port, balancer)
	if *logFile != "" {
		file, err := os.OpenFile(*logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer file.Close()
		logged := newAccessLog(serve, file)
		defer logged.flush()
		serve = logged
	}
	server := &http.Server{Addr: *address, Handler: serve, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second}
	if *chain == "" {
		return listen(server, server.ListenAndServe)
	}
	return listen(server, func() error { return server.ListenAndServeTLS(*chain, *key) })
}

// listen serves until a signal.
func listen(server *http.Server, serve func() error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- serve() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

// backend is one backend and what it has in hand.
type backend struct {
	address string
	busy    atomic.Int64
}

// balancer draws two backends at random and takes the less busy one.
type balancer struct{ backends []*backend }

func (b *balancer) pick() *backend {
	n := len(b.backends)
	if n == 1 {
		return b.backends[0]
	}
	i := rand.IntN(n)
	j := rand.IntN(n - 1)
	if j >= i {
		j++
	}
	first, second := b.backends[i], b.backends[j]
	if second.busy.Load() < first.busy.Load() {
		return second
	}
	return first
}

// newProxy returns a ReverseProxy for one host, and 404 for others.
func newProxy(host, port string, balancer *balancer) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			ip, _, _ := net.SplitHostPort(r.In.RemoteAddr)
			r.Out.URL.Scheme = "http"
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
			r.Out.Header.Set("X-Real-Ip", ip)
			r.Out.Header.Set("X-Forwarded-Port", port)
			r.Out.Header.Set("X-Request-Id", strconv.FormatUint(rand.Uint64(), 16)+strconv.FormatUint(rand.Uint64(), 16))
		},
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConns:        4096,
			MaxIdleConnsPerHost: 2048,
			IdleConnTimeout:     55 * time.Second,
			DisableCompression:  true,
		},
		BufferPool: &buffers{},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != host {
			http.NotFound(w, r)
			return
		}
		b := balancer.pick()
		b.busy.Add(1)
		defer b.busy.Add(-1)
		r.URL.Host = b.address // Rewrite's outgoing URL is a copy of this
		proxy.ServeHTTP(w, r)
	})
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

// Get returns a buffer of the size that ReverseProxy would make itself.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

// Put takes one back.
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// accessLog writes a line for each request.
type accessLog struct {
	next http.Handler
	mu   sync.Mutex
	out  *bufio.Writer
}

func newAccessLog(next http.Handler, w io.Writer) *accessLog {
	a := &accessLog{next: next, out: bufio.NewWriterSize(w, 64<<10)}
	go func() { // until the process ends
		for range time.NewTicker(time.Second).C {
			a.flush()
		}
	}()
	return a
}

// flush writes what waits.
func (a *accessLog) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.out.Flush(); err != nil {
		log.Print(err)
	}
}

// answer notes what is answered.
type answer struct {
	http.ResponseWriter
	status int
	size   int64
}

// WriteHeader notes the status.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Write notes the size.
func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.size += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController, which switches protocols.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// ServeHTTP serves and then writes the line.
func (a *accessLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	noted := &answer{ResponseWriter: w, status: http.StatusOK}
	a.next.ServeHTTP(noted, r)
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.out, "%s [%s] %q %d %d %q %q %.6f\n", r.RemoteAddr, began.Format(time.RFC3339), r.Method+" "+r.RequestURI+" "+r.Proto,
		noted.status, noted.size, r.Referer(), r.UserAgent(), time.Since(began).Seconds())
}
