package policies_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"golang.org/x/tools/txtar"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router/ingress"
)

var update = flag.Bool("update", false, "write the tables, Problems and answers of testdata from what is so now")

// TestPolicies runs testdata/*.txtar; see the package comment.
func TestPolicies(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, a)
			if *update {
				write(t, file, a, got)
				return
			}
			for _, name := range slices.Sorted(maps.Keys(got)) {
				if want := string(section(a, name)); got[name] != want {
					t.Errorf("%s:\n%swant\n%s", name, got[name], want)
				}
			}
			for _, f := range a.Files {
				if _, ok := got[f.Name]; strings.HasPrefix(f.Name, "< ") && !ok {
					t.Errorf("%q answers no request", f.Name)
				}
			}
		})
	}
}

// run returns what the sections of a should be.
func run(t *testing.T, a *txtar.Archive) map[string]string {
	t.Helper()
	s := read(t, a)
	table, problems := ingress.Build(s, filters.Families(config.Policies()))
	got := map[string]string{"table.txt": table.String()}
	var text strings.Builder
	for _, p := range problems {
		p.Source = ""
		fmt.Fprintln(&text, p)
	}
	got["problems.txt"] = text.String()
	r := start(t, s, table)
	for _, f := range a.Files {
		if name, ok := strings.CutPrefix(f.Name, "> "); ok {
			said := r.explain(t, f.Data)
			got["< "+name] = r.exchange(t, f.Data)
			compareExplained(t, name, said, got["< "+name])
		}
	}
	return got
}

// write puts what is got into the file, answers behind their requests.
func write(t *testing.T, file string, a *txtar.Archive, got map[string]string) {
	t.Helper()
	next := &txtar.Archive{Comment: a.Comment}
	for _, f := range a.Files {
		switch {
		case f.Name == "table.txt" || f.Name == "problems.txt" || strings.HasPrefix(f.Name, "< "):
			continue
		case strings.HasPrefix(f.Name, "> "):
			next.Files = append(next.Files, f, txtar.File{Name: "<" + f.Name[1:], Data: []byte(got["<"+f.Name[1:]])})
			continue
		}
		next.Files = append(next.Files, f)
	}
	// What Build makes of the objects comes behind them.
	at := 1 + slices.IndexFunc(next.Files, func(f txtar.File) bool { return f.Name == "in.yaml" })
	for _, name := range []string{"problems.txt", "table.txt"} {
		if got[name] != "" {
			next.Files = slices.Insert(next.Files, at, txtar.File{Name: name, Data: []byte(got[name])})
		}
	}
	if err := os.WriteFile(file, txtar.Format(next), 0o644); err != nil {
		t.Fatal(err)
	}
}

// exchange sends a request and returns the answer as text.
func (r *rig) exchange(t *testing.T, request []byte) string {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	method, wire := onWire(request)
	if _, err := c.Write(wire); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return fmt.Sprintf("no answer: %v\n", err)
	}
	defer res.Body.Close()
	body, err := plain(res)
	if err != nil {
		return fmt.Sprintf("no whole answer: %v\n", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", res.StatusCode)
	if res.Close {
		res.Header.Set("Connection", "close") // where net/http took it from
	}
	for _, key := range slices.Sorted(maps.Keys(res.Header)) {
		for _, value := range res.Header[key] {
			if key != "Date" {
				fmt.Fprintf(&b, "%s: %s\n", key, steady(key, value))
			}
		}
	}
	if len(body) > 0 {
		fmt.Fprintf(&b, "\n%s\n", bytes.TrimSuffix(body, []byte("\n")))
	}
	if asides := r.takeAsides(); asides != "" {
		fmt.Fprintf(&b, "\nbefore that %s", asides)
	}
	return b.String()
}

// plain returns a body as it was before it was compressed. An answer to HEAD tells how it would be, and has none.
func plain(res *http.Response) ([]byte, error) {
	in := bufio.NewReader(res.Body)
	if _, err := in.Peek(1); errors.Is(err, io.EOF) {
		return nil, nil
	}
	body := io.Reader(in)
	switch res.Header.Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = z
	case "br":
		body = brotli.NewReader(body)
	}
	return io.ReadAll(body)
}

// onWire returns a request's method and its bytes: lines end in CRLF up to the empty one, a body has its length, and there is no line with #.
func onWire(request []byte) (method string, wire []byte) {
	head, body, _ := strings.Cut(string(request), "\n\n")
	body = strings.TrimSuffix(body, "\n")
	var b strings.Builder
	for line := range strings.Lines(head) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != '#' {
			b.WriteString(line + "\r\n")
		}
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	method, _, _ = strings.Cut(b.String(), " ")
	return method, []byte(b.String() + "\r\n" + body)
}
