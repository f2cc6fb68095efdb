package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"up":                              "up /tmp/podlane-cluster 127.0.0.1:8080 []",
		"up -dir /x -http 127.0.0.1:1":    "up /x 127.0.0.1:1 []",
		"run -- make -n":                  "run /tmp/podlane-cluster 127.0.0.1:8080 [make -n]",
		"enter kubectl get pods -A":       "enter /tmp/podlane-cluster 127.0.0.1:8080 [kubectl get pods -A]",
		"enter -dir /x kubectl -n y logs": "enter /x 127.0.0.1:8080 [kubectl -n y logs]",
	} {
		t.Setenv("TMPDIR", "/tmp")
		c, err := parse(strings.Fields(line))
		if got := fmt.Sprint(c.verb, " ", c.dir, " ", c.http, " ", c.rest); err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", line, got, err, want)
		}
	}
	for _, line := range []string{"", "up -nothing"} {
		if _, err := parse(strings.Fields(line)); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v, want help", line, err)
		}
	}
	for _, line := range []string{"sideways", "up more", "down more", "run"} {
		if _, err := outside(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), "cannot follow") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// A folder belongs to one cluster at a time; what one that was killed has left goes.
func TestOccupy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cluster")
	if err := os.MkdirAll(filepath.Join(dir, "left"), 0o755); err != nil {
		t.Fatal(err)
	}
	release, err := occupy(dir)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the folder has %v %v", entries, err)
	}
	if _, err := occupy(dir); err == nil || !strings.Contains(err.Error(), "make cluster-down") {
		t.Errorf("a second cluster in it: %v", err)
	}
	release()
	if _, err := os.Stat(dir + ".lock"); err == nil {
		t.Error("the lock is left")
	}
	if err := down(dir); err != nil {
		t.Errorf("down without a cluster: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("down leaves the folder")
	}
	if _, err := enter(commandLine{dir: dir}); err == nil || !strings.Contains(err.Error(), "no cluster runs") {
		t.Errorf("enter without a cluster: %v", err)
	}
}

// Bytes and the end of each direction go all the way; before the cluster is there a client sees its connection end.
func TestReach(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r, err := reachFrom(commandLine{dir: dir, http: taken.Addr().String(), https: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	reached, err := parseReach(strings.Join(r.addresses(), ","))
	if err != nil || reached[1] == taken.Addr().String() {
		t.Fatalf("reached at %v, %v", reached, err)
	}
	if answer := ask(t, reached[1], "early"); answer != "" {
		t.Errorf("before there is a cluster: %q", answer)
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			question, _ := io.ReadAll(c) // until the client has said all
			fmt.Fprintf(c, "you said %s", question)
			c.Close()
		}
	}()
	address := server.Addr().String()
	if err := openWays(dir, [len(ways)]string{address, address, address}); err != nil {
		t.Fatal(err)
	}
	for _, at := range reached {
		if answer := ask(t, at, "hello"); answer != "you said hello" {
			t.Errorf("%s: %q", at, answer)
		}
	}
	if _, err := parseReach("a,b"); err == nil {
		t.Error("two addresses are taken for three")
	}
}

// ask says something, and that it was all, and returns the answer.
func ask(t *testing.T, address, question string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, question) // the other side may be gone already,
	_ = conn.(*net.TCPConn).CloseWrite()  // which is what the answer
	answer, _ := io.ReadAll(conn)         // then shows
	return string(answer)
}
