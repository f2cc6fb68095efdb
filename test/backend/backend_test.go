package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// client has a limit, so that a Pod that does not answer fails its test.
var client = &http.Client{Timeout: 10 * time.Second}

// start runs the backend as its flags say and returns its address and a channel that gives the end of it.
func start(t *testing.T, args ...string) (string, <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	o, err := parse(append(args, "--name=pod-1", "--listen="+address))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve(o) }()
	for range 500 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address, ended
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the backend does not listen")
	return "", nil
}

// end sends the signal that ends a backend of this process.
func end(t *testing.T, ended <-chan error) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the backend does not end")
	}
}

// exchange sends a request on a connection and reads the answer.
func exchange(t *testing.T, c net.Conn, in *bufio.Reader, request string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

func TestEchoShowsTheHeadAsItCame(t *testing.T) {
	address, ended := start(t, "--shutdown=refuse")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for i := range 3 {
		body := strings.Repeat("x", 100_000*i)
		head := fmt.Sprintf("POST /echo//a/../b?q HTTP/1.1\r\nzZ: 1\r\nHost: h\r\nAa:  2 \r\nzz: 3\r\nContent-Length: %d\r\n\r\n", len(body))
		_, text := exchange(t, c, in, head+body)
		var e Echo
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		want := []Line{{"zZ", "1"}, {"Host", "h"}, {"Aa", "2"}, {"zz", "3"}, {"Content-Length", fmt.Sprint(len(body))}}
		if !slices.Equal(e.Headers, want) || e.Target != "/echo//a/../b?q" || e.Length != int64(len(body)) || e.Pod != "pod-1" {
			t.Errorf("request %d came as %+v", i, e)
		}
	}
	if _, text := exchange(t, c, in, "GET /count HTTP/1.1\r\nHost: h\r\n\r\n"); !strings.Contains(text, `"requests":4,"connections":1`) {
		t.Errorf("counted %s", text)
	}
	end(t, ended)
}

func TestShutdownRefuseFinishesWhatItAccepted(t *testing.T) {
	address, ended := start(t, "--shutdown=refuse")
	answered := make(chan string, 1)
	go func() {
		answer, err := client.Get("http://" + address + "/slow?ms=500")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		answered <- string(body)
	}()
	time.Sleep(100 * time.Millisecond)
	end(t, ended)
	if got := <-answered; got != "this is pod-1\n" {
		t.Errorf("the request in flight got %q", got)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
}

func TestShutdownGracefulGoesOnAccepting(t *testing.T) {
	address, ended := start(t, "--shutdown=graceful", "--shutdown-delay=500ms")
	go func() { time.Sleep(10 * time.Millisecond); _ = syscall.Kill(syscall.Getpid(), syscall.SIGTERM) }()
	time.Sleep(200 * time.Millisecond)
	answer, err := client.Get("http://" + address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %s during the shutdown", answer.Status)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the backend does not end")
	}
}

func TestCheckKnowsABodyThatChanged(t *testing.T) {
	address, ended := start(t, "--shutdown=refuse")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"
	for body, status := range map[string]int{"hello": http.StatusOK, "hellO": http.StatusUnprocessableEntity} {
		request := "POST /check?id=a&n=70000 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-Body-Sha256: " + sum + "\r\n\r\n" + body
		answer, got := exchange(t, c, in, request)
		if answer.StatusCode != status {
			t.Errorf("body %q: %s", body, answer.Status)
		}
		if status == http.StatusOK && (len(got) != 70000 || answer.Header.Get("X-Id") != "a" || answer.Header.Get("X-Received-Sha256") != sum ||
			answer.Header.Get("X-Body-Sha256") != fmt.Sprintf("%x", sha256.Sum256([]byte(got)))) {
			t.Errorf("%d bytes, %v", len(got), answer.Header)
		}
	}
	end(t, ended)
}
