package soak_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"
)

// startPods starts Pods and returns their addresses.
func startPods(t *testing.T, n int) []string {
	t.Helper()
	addresses := make([]string, n)
	for i := range addresses {
		s := httptest.NewServer(http.HandlerFunc(answer))
		t.Cleanup(s.Close)
		addresses[i] = s.Listener.Addr().String()
	}
	return addresses
}

// content is n bytes that no other id has.
func content(id string, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(id))).Read(b) // never fails
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// answer is a Pod: /check compares what it got with the digest that came with it, and answers with what the id says; /reset breaks off; an
// upgrade is an echo.
func answer(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Upgrade") != "":
		echo(w)
	case r.URL.Path == "/reset":
		breakOff(w, r.FormValue("at"))
	default:
		check(w, r)
	}
}

func check(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		return // the client has gone, which some do on purpose
	}
	query := r.URL.Query()
	id := query.Get("id")
	n, err := strconv.Atoi(query.Get("n"))
	received := hex.EncodeToString(sum.Sum(nil))
	if want := r.Header.Get("X-Body-Sha256"); err != nil || want != "" && want != received {
		http.Error(w, "received "+received+", sent "+want, http.StatusUnprocessableEntity)
		return
	}
	if ms, err := strconv.Atoi(query.Get("ms")); err == nil {
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond): // a Pod that takes its time
		case <-r.Context().Done():
			return
		}
	}
	body := content("answer to "+id, n)
	w.Header().Set("X-Id", id)
	w.Header().Set("X-Received-Sha256", received)
	w.Header().Set("X-Body-Sha256", digest(body))
	if query.Get("chunked") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(n))
	}
	_, _ = w.Write(body)
}

// echo accepts an upgrade and returns what comes.
func echo(w http.ResponseWriter) {
	c, in, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(c, in)
}

// breakOff resets the connection before the head of the answer, within it, or within the body.
func breakOff(w http.ResponseWriter, at string) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	switch at {
	case "head":
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-")
	case "body":
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n%s", content("x", 50_000))
	}
	_ = c.(*net.TCPConn).SetLinger(0)
}
