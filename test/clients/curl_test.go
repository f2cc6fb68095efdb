package clients_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/clients/debian"
)

// A way is how curl is told to come.
type way struct {
	name    string
	args    []string
	secure  bool
	version string // as curl reports it
}

func ways() []way {
	return []way{
		{"HTTP/1.1", []string{"--http1.1"}, false, "1.1"},
		{"h2c", []string{"--http2-prior-knowledge"}, false, "2"},
		{"HTTP/1.1 over TLS 1.2", []string{"--http1.1", "--tls-max", "1.2"}, true, "1.1"},
		{"HTTP/1.1 over TLS 1.3", []string{"--http1.1", "--tlsv1.3"}, true, "1.1"},
		{"HTTP/2 over TLS 1.2", []string{"--http2", "--tls-max", "1.2"}, true, "2"},
		{"HTTP/2 over TLS 1.3", []string{"--http2", "--tlsv1.3"}, true, "2"},
	}
}

// curl runs curl against a rig in one way.
type curl struct {
	t       *testing.T
	rig     *rig
	way     way
	program string
}

// A fetched answer is what curl has made of one.
type fetched struct {
	run
	body []byte
	// heads are the header sections as they came: interim answers, the final one, trailers.
	heads []string
	info  struct {
		Code    int    `json:"response_code"`
		Version string `json:"http_version"`
		Upload  int64  `json:"size_upload"`
		Verify  int    `json:"ssl_verify_result"`
		Connect int    `json:"num_connects"`
	}
}

// everyWay runs a test in each of curl's ways against one podlane.
func everyWay(t *testing.T, p *pod, test func(c curl)) {
	t.Helper()
	program := find(t, debian.Curl)
	r := newRig(t, p.address(), rigOptions{})
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			test(curl{t, r, w, program})
		})
	}
}

func (c curl) url(path string) string {
	if c.way.secure {
		return c.rig.secure(path)
	}
	return c.rig.plain(path)
}

// command is curl with what it always gets.
func (c curl) command(args ...string) command {
	return command{program: c.program, args: append([]string{
		"--disable", "--silent", "--show-error", "--max-time", "60", "--cacert", c.rig.authority.file,
		"--connect-to", ":" + port(c.rig.HTTPS) + ":" + c.rig.HTTPS, "--connect-to", ":" + port(c.rig.HTTP) + ":" + c.rig.HTTP,
	}, append(c.way.args, args...)...)}
}

// get asks for one path.
func (c curl) get(path string, args ...string) fetched {
	c.t.Helper()
	f := c.try(path, args...)
	if f.code != 0 {
		c.t.Fatalf("curl: exit %d: %s", f.code, f.stderr)
	}
	return f
}

// try asks for one path, and curl may fail.
func (c curl) try(path string, args ...string) fetched {
	c.t.Helper()
	dir := c.t.TempDir()
	body, heads := filepath.Join(dir, "body"), filepath.Join(dir, "heads")
	args = append([]string{"--output", body, "--dump-header", heads, "--write-out", "%{json}"}, args...)
	f := fetched{run: c.command(append(args, c.url(path))...).do(c.t)}
	if err := json.Unmarshal([]byte(f.stdout), &f.info); err != nil {
		c.t.Fatalf("curl said %q: %v\n%s", f.stdout, err, f.stderr)
	}
	if f.info.Version != c.way.version || f.info.Verify != 0 {
		c.t.Errorf("HTTP/%s, verification %d; want HTTP/%s, 0", f.info.Version, f.info.Verify, c.way.version)
	}
	f.body, _ = os.ReadFile(body) // there is none without a body
	text, err := os.ReadFile(heads)
	if err != nil {
		c.t.Fatal(err)
	}
	for head := range strings.SplitSeq(string(text), "\r\n\r\n") {
		if head != "" {
			f.heads = append(f.heads, head)
		}
	}
	return f
}

// field is a field of the i-th header section.
func (f fetched) field(i int, name string) string {
	if i >= len(f.heads) {
		return ""
	}
	_, lines, _ := strings.Cut(f.heads[i]+"\r\n\r\n", "\r\n")
	fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(lines))).ReadMIMEHeader()
	if err != nil {
		return err.Error()
	}
	return fields.Get(name)
}

// Ten megabytes go up and come back, of a known length and without one; the Pod's digest and the test's agree with what was sent.
func TestCurlUpload(t *testing.T) {
	p := newPod(t)
	file := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(file, p.content, 0o600); err != nil {
		t.Fatal(err)
	}
	want := digestOf(p.content)
	everyWay(t, p, func(c curl) {
		t := c.t
		for _, upload := range []struct {
			name, length string
			args         []string
		}{
			{"POST", strconv.Itoa(contentSize), []string{"--data-binary", "@" + file}},
			{"PUT", strconv.Itoa(contentSize), []string{"--upload-file", file}},
			{"of unknown length", "-1", []string{"--upload-file", file, "--header", "Transfer-Encoding: chunked"}},
		} {
			t.Run(upload.name, func(t *testing.T) {
				c := c
				c.t = t
				f := c.get("/mirror", upload.args...)
				last := len(f.heads) - 1
				if got := f.field(last, "X-Digest"); f.info.Code != http.StatusOK || got != want || digestOf(f.body) != want {
					t.Errorf("%d: the Pod got %s, curl got %s (%d bytes); sent was %s", f.info.Code, got, digestOf(f.body), len(f.body), want)
				}
				if got := f.field(last, "X-Length"); got != upload.length {
					t.Errorf("the Pod was told a length of %s, want %s", got, upload.length)
				}
				if f.info.Upload < contentSize { // curl counts the heads of chunks
					t.Errorf("curl sent %d bytes", f.info.Upload)
				}
			})
		}
	})
}

// A client that waits for 100 gets it by HTTP/1.1 when its request has been routed, and not one byte of the body is sent where the route
// does not exist.
func TestCurlExpect(t *testing.T) {
	p := newPod(t)
	body := strings.Repeat("x", 100_000)
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	everyWay(t, p, func(c curl) {
		t := c.t
		// A minute: curl must not go on by itself.
		args := []string{"--header", "Expect: 100-continue", "--expect100-timeout", "60", "--data-binary", "@" + file}
		f := c.get("/mirror", args...)
		if c.way.version == "1.1" && (len(f.heads) != 2 || !strings.HasPrefix(f.heads[0], "HTTP/1.1 100 ")) {
			t.Errorf("heads %q; want 100, and the answer", f.heads)
		}
		if f.info.Code != http.StatusOK || string(f.body) != body {
			t.Errorf("%d, %d bytes", f.info.Code, len(f.body))
		}
		before := p.requests.Load()
		f = c.get("/mirror", append(args, "--header", "Host: nobody.test")...)
		if f.info.Code == http.StatusOK || f.info.Code == 0 || p.requests.Load() != before {
			t.Errorf("another host: %d, the Pod saw %d requests", f.info.Code, p.requests.Load()-before)
		}
		if c.way.version == "1.1" && f.info.Upload != 0 {
			t.Errorf("another host: %d bytes were sent without a 100", f.info.Upload)
		}
	})
}

// A Pod that refuses an upload without reading it is heard, whatever is still on its way. Curl 7.88 forgets the answer when the RST_STREAM
// that asks it to stop arrives with it.
func TestCurlEarlyAnswer(t *testing.T) {
	p := newPod(t)
	file := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(file, p.content, 0o600); err != nil {
		t.Fatal(err)
	}
	everyWay(t, p, func(c curl) {
		t := c.t
		f := c.try("/early", "--header", "Expect:", "--data-binary", "@"+file)
		if f.info.Code != http.StatusForbidden || string(f.body) != "not for you" {
			t.Errorf("%d %q: exit %d %s", f.info.Code, f.body, f.code, f.stderr)
		}
	})
}

func TestCurlHeadAndRange(t *testing.T) {
	p := newPod(t)
	everyWay(t, p, func(c curl) {
		t := c.t
		f := c.get("/content", "--head")
		if f.info.Code != http.StatusOK || f.field(0, "Content-Length") != strconv.Itoa(contentSize) || f.field(0, "Accept-Ranges") != "bytes" {
			t.Errorf("HEAD: %d %q", f.info.Code, f.heads)
		}
		f = c.get("/content", "--range", "1000-4999999")
		if f.info.Code != http.StatusPartialContent || !bytes.Equal(f.body, p.content[1000:5_000_000]) {
			t.Errorf("range: %d, %d bytes", f.info.Code, len(f.body))
		}
		if got := f.field(0, "Content-Range"); got != fmt.Sprintf("bytes 1000-4999999/%d", contentSize) {
			t.Errorf("range: %q", got)
		}
		f = c.get("/content", "--range", "0-9,100-199")
		if f.info.Code != http.StatusPartialContent || !bytes.Contains(f.body, p.content[100:200]) || !strings.HasPrefix(f.field(0, "Content-Type"), "multipart/byteranges") {
			t.Errorf("two ranges: %d %q", f.info.Code, f.heads)
		}
		if f = c.get("/content", "--range", "99999999-"); f.info.Code != http.StatusRequestedRangeNotSatisfiable {
			t.Errorf("a range behind the end: %d", f.info.Code)
		}
		if f = c.get("/content", "--header", `If-None-Match: "content-1"`); f.info.Code != http.StatusNotModified || len(f.body) != 0 {
			t.Errorf("what curl has already: %d, %d bytes", f.info.Code, len(f.body))
		}
		if f = c.get("/gzip", "--compressed"); string(f.body) != strings.Repeat("compress me ", 10_000) || f.field(0, "Content-Encoding") != "gzip" {
			t.Errorf("compressed: %q, %d bytes", f.heads, len(f.body))
		}
	})
}

// 103 reaches the client before the answer, with its fields.
func TestCurlEarlyHints(t *testing.T) {
	p := newPod(t)
	everyWay(t, p, func(c curl) {
		t := c.t
		f := c.get("/hints")
		if len(f.heads) != 2 || !strings.HasPrefix(f.heads[0], "HTTP/"+c.way.version+" 103") || f.field(0, "Link") != "</style.css>; rel=preload; as=style" {
			t.Errorf("heads %q; want 103 with Link first", f.heads)
		}
		if f.info.Code != http.StatusOK || string(f.body) != "the page" {
			t.Errorf("%d %q", f.info.Code, f.body)
		}
	})
}

// Server-sent events reach the client one by one: the Pod sends the next when the test has seen the last.
func TestCurlEvents(t *testing.T) {
	const n = 20
	p := newPod(t)
	everyWay(t, p, func(c curl) {
		t := c.t
		out, in := io.Pipe()
		cmd := c.command("--no-buffer", c.url("/events?n="+strconv.Itoa(n)))
		done := make(chan run, 1)
		lines := bufio.NewReader(out)
		client := cmd.start(t, in)
		go func() {
			r := client()
			_ = in.Close()
			done <- r
		}()
		for i := range n {
			p.allow(t)
			want := fmt.Sprintf("id: %d\ndata: event %d\n\n", i, i)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(lines, got); err != nil || string(got) != want {
				t.Fatalf("event %d: %q %v", i, got, err)
			}
		}
		if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
			t.Errorf("after the last event: %q %v", rest, err)
		}
		if r := receive(t, "the end of curl", done); r.code != 0 {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
	})
}

// allow lets the Pod send the next piece.
func (p *pod) allow(t *testing.T) {
	t.Helper()
	select {
	case p.next <- struct{}{}:
	case <-time.After(patience):
		t.Fatal("the Pod does not ask for more")
	}
}

// Trailers reach HTTP/2 clients always, and HTTP/1.1 clients that say that they want them.
func TestCurlTrailers(t *testing.T) {
	p := newPod(t)
	everyWay(t, p, func(c curl) {
		t := c.t
		want := digestOf([]byte("first second"))
		for _, wanted := range []bool{true, false} {
			args := []string{}
			if wanted {
				args = []string{"--header", "TE: trailers", "--header", "Connection: TE"}
				if c.way.version == "2" {
					args = args[:2]
				}
			}
			f := c.get("/trailers", args...)
			if string(f.body) != "first second" {
				t.Errorf("body %q", f.body)
			}
			got := strings.Contains(strings.ToLower(strings.Join(f.heads, "\n")), "x-digest: "+want)
			if got != (wanted || c.way.version == "2") {
				t.Errorf("TE: trailers sent: %v; heads %q", wanted, f.heads)
			}
		}
	})
}

// A hundred transfers at a time share one connection of HTTP/2.
func TestCurlParallel(t *testing.T) {
	const n = 100
	p := newPod(t)
	everyWay(t, p, func(c curl) {
		t := c.t
		if c.way.name == "h2c" {
			t.Skip("curl 7.88 fails with prior knowledge in parallel, whatever the server")
		}
		dir := t.TempDir()
		before := c.rig.connections()
		c.command("--parallel", "--parallel-max", "50", "--create-dirs", "--output", filepath.Join(dir, "#1"),
			c.url("/content")+"?n=[1-"+strconv.Itoa(n)+"]", "--range", "0-99999").must(t)
		for i := range n {
			body, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i+1)))
			if err != nil || !bytes.Equal(body, p.content[:100_000]) {
				t.Errorf("transfer %d: %d bytes, %v", i+1, len(body), err)
			}
		}
		if made := c.rig.connections() - before; c.way.version == "2" && made != 1 {
			t.Errorf("%d transfers over HTTP/2 took %d connections", n, made)
		}
	})
}

// A client that offers to change to HTTP/2 on a plain connection (RFC 7540's h2c, which RFC 9113 gave up) is answered by HTTP/1.1.
func TestCurlUpgradeToHTTP2(t *testing.T) {
	p := newPod(t)
	r := newRig(t, p.address(), rigOptions{})
	c := curl{t, r, way{"upgrade", []string{"--http2"}, false, "1.1"}, find(t, debian.Curl)}
	f := c.get("/head", "--data", "body")
	if f.info.Code != http.StatusOK || !strings.HasPrefix(string(f.body), "POST /head HTTP/1.1\nHost: plain.test") {
		t.Errorf("%d %q", f.info.Code, f.body)
	}
	for _, name := range []string{"Upgrade", "Http2-Settings"} {
		if strings.Contains(string(f.body), "\n"+name+":") {
			t.Errorf("the Pod was sent %s:\n%s", name, f.body)
		}
	}
}

// A certificate that is not of the authority is refused: that nothing was refused above means something.
func TestCurlVerifies(t *testing.T) {
	p := newPod(t)
	r := newRig(t, p.address(), rigOptions{})
	c := curl{t, r, way{"", []string{"--http2"}, true, "2"}, find(t, debian.Curl)}
	const untrusted = 60 // CURLE_PEER_FAILED_VERIFICATION
	if got := c.command("--cacert", newAuthority(t).file, c.url("/hello")).do(t); got.code != untrusted {
		t.Errorf("exit %d, want %d: %s", got.code, untrusted, got.stderr)
	}
	if got := c.command(c.url("/hello")).must(t); got.stdout != "hello\n" {
		t.Errorf("%q", got.stdout)
	}
}
