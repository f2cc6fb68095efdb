package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy"
)

// podSays is what a Pod answers to GET /s, and what becomes of it.
type podSays struct {
	method, fields string // of the request; GET and none by default
	version        string // 1.1 by default
	raw            string
	ends           bool // the Pod closes behind it

	status  int
	body    string
	has     string // fields of the client's answer, joined by "|"
	lacks   string // names
	interim string // statuses before it
	cut     bool   // the client sees that the answer is not whole
	closes  bool   // the client's connection ends
	reused  bool   // the Pod's connection carries the next request
}

const okHead = "HTTP/1.1 200 OK\r\n"

// fieldsOf joins n fields.
func fieldsOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X%d: y\r\n", i)
	}
	return b.String()
}

var podAnswers = map[string]podSays{
	"plain":              {raw: okHead + "Content-Length: 2\r\n\r\nhi", status: 200, body: "hi", has: "Content-Length: 2", reused: true},
	"reason":             {raw: "HTTP/1.1 200 Fine, thanks\r\nContent-Length: 0\r\n\r\n", status: 200, reused: true},
	"no reason":          {raw: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", reused: true},
	"its own date":       {raw: okHead + "Date: x\r\nServer: y\r\nContent-Length: 0\r\n\r\n", status: 200, has: "Date: x|Server: y", reused: true},
	"fold":               {raw: okHead + "X: a\r\n\tb\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", has: "X: a b", reused: true},
	"underscore, twice":  {raw: okHead + "X_y: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", status: 200, has: "X_y: 1|Set-Cookie: a", reused: true},
	"256 fields":         {raw: okHead + fieldsOf(255) + "Content-Length: 2\r\n\r\nhi", status: 200, body: "hi", has: "X254: y", reused: true},
	"257 fields":         {raw: okHead + fieldsOf(256) + "Content-Length: 2\r\n\r\nhi", status: 502},
	"head of 70 KB":      {raw: okHead + "X: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", status: 502},
	"head of 60 KB":      {raw: okHead + "Content-Length: 2\r\nX: " + strings.Repeat("x", 60<<10) + "\r\n\r\nhi", status: 200, body: "hi", reused: true},
	"bare LF":            {raw: "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", status: 502},
	"bare LF, one":       {raw: okHead + "Content-Length: 2\n\r\nhi", status: 502},
	"bare CR":            {raw: okHead + "X: a\rb\r\nContent-Length: 2\r\n\r\nhi", status: 502},
	"NUL":                {raw: okHead + "X: a\x00b\r\nContent-Length: 2\r\n\r\nhi", status: 502},
	"status line":        {raw: "HTP/1.1 200 OK\r\n\r\n", status: 502},
	"status line, 2":     {raw: "HTTP/2 200\r\n\r\n", status: 502},
	"status, 2 digits":   {raw: "HTTP/1.1 20\r\n\r\n", status: 502},
	"no answer":          {raw: "", ends: true, status: 502},
	"half a head":        {raw: okHead + "Conte", ends: true, status: 502},
	"space before colon": {raw: okHead + "Content-Length : 2\r\n\r\nhi", status: 502},

	"two lengths":     {raw: okHead + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", status: 502},
	"list of lengths": {raw: okHead + "Content-Length: 2, 2\r\n\r\nhi", status: 502},
	"bad length":      {raw: okHead + "Content-Length: +2\r\n\r\nhi", status: 502},
	"huge length":     {raw: okHead + "Content-Length: 9223372036854775808\r\n\r\nhi", status: 502},
	"coding, length":  {raw: okHead + "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", status: 200, body: "hi", lacks: "Content-Length"},
	"chunks":          {raw: okHead + "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\nh\r\n01\r\ni\r\n0\r\n\r\n", status: 200, body: "hi", lacks: "Content-Length", reused: true},
	"gzip, chunked":   {raw: okHead + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", status: 502},
	"coding, old":     {raw: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 502},
	"bytes behind":    {raw: okHead + "Content-Length: 2\r\n\r\nhi" + okHead + "Content-Length: 4\r\n\r\nevil", status: 200, body: "hi"},
	"bytes behind, 2": {raw: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nX", status: 200, body: "hi"},

	"until close":           {raw: okHead + "\r\nhello", ends: true, status: 200, body: "hello", lacks: "Content-Length"},
	"until close, to old":   {version: "1.0", raw: okHead + "\r\nhello", ends: true, status: 200, body: "hello", lacks: "Content-Length|Transfer-Encoding", closes: true},
	"chunks to old":         {version: "1.0", fields: "Connection: keep-alive\r\n", raw: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", status: 200, body: "hi", lacks: "Transfer-Encoding", closes: true, reused: true},
	"length to old":         {version: "1.0", fields: "Connection: keep-alive\r\n", raw: okHead + "Content-Length: 2\r\n\r\nhi", status: 200, body: "hi", reused: true},
	"short":                 {raw: okHead + "Content-Length: 9\r\n\r\nhello", ends: true, cut: true, status: 200, body: "hello", closes: true},
	"short chunk":           {raw: okHead + "Transfer-Encoding: chunked\r\n\r\n9\r\nhello", ends: true, cut: true, status: 200, body: "hello", closes: true},
	"short chunks":          {raw: okHead + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ends: true, cut: true, status: 200, body: "hello", closes: true},
	"short trailers":        {raw: okHead + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", ends: true, cut: true, status: 200, body: "hello", closes: true},
	"bad chunk":             {raw: okHead + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", cut: true, status: 200, body: "hello", closes: true},
	"close":                 {raw: okHead + "Connection: close\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi"},
	"old":                   {raw: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi"},
	"old that keeps":        {raw: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", reused: true},
	"HEAD":                  {method: "HEAD", raw: okHead + "Content-Length: 9\r\n\r\n", status: 200, has: "Content-Length: 9", reused: true},
	"HEAD, chunked":         {method: "HEAD", raw: okHead + "Transfer-Encoding: chunked\r\n\r\n", status: 200, reused: true},
	"HEAD with a body":      {method: "HEAD", raw: okHead + "Content-Length: 2\r\n\r\nhi", status: 200},
	"204":                   {raw: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, lacks: "Content-Length|Transfer-Encoding", reused: true},
	"204 with a length":     {raw: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", status: 204, lacks: "Content-Length", reused: true},
	"204 with a body":       {raw: "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", status: 204, lacks: "Content-Length"},
	"204 chunked":           {raw: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 204, lacks: "Transfer-Encoding"},
	"304 with a length":     {raw: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status: 304, has: "Content-Length: 9", reused: true},
	"100":                   {raw: "HTTP/1.1 100 Continue\r\n\r\n" + okHead + "Content-Length: 2\r\n\r\nhi", status: 200, body: "hi", reused: true},
	"102 with a length":     {raw: "HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n" + okHead + "Content-Length: 2\r\n\r\nhi", status: 200, body: "hi", reused: true},
	"103":                   {raw: "HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: y\r\nTransfer-Encoding: chunked\r\n\r\n" + okHead + "Content-Length: 2\r\n\r\nhi", interim: "103", status: 200, body: "hi", reused: true},
	"103 to old":            {version: "1.0", raw: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + okHead + "Content-Length: 2\r\n\r\nhi", status: 200, body: "hi", closes: true, reused: true},
	"eight interims":        {raw: strings.Repeat("HTTP/1.1 102 x\r\n\r\n", 8) + okHead + "Content-Length: 2\r\n\r\nhi", status: 200, body: "hi", reused: true},
	"nine interims":         {raw: strings.Repeat("HTTP/1.1 102 x\r\n\r\n", 9) + okHead + "Content-Length: 2\r\n\r\nhi", status: 502},
	"101 without asking":    {raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", status: 502},
	"hop-by-hop":            {raw: okHead + "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nTE: x\r\nUpgrade: h2c\r\nX-Stay: 1\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", has: "X-Stay: 1", lacks: "X-Hop|Keep-Alive|Proxy-Connection|TE|Upgrade|Connection", reused: true},
	"nominated and kept":    {raw: okHead + "Connection: Set-Cookie, Content-Length, Content-Type\r\nSet-Cookie: a\r\nContent-Type: b\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", has: "Set-Cookie: a|Content-Type: b|Content-Length: 2", reused: true},
	"trailers, asked":       {fields: "TE: trailers\r\n", raw: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nSet-Cookie: evil\r\n\r\n", status: 200, body: "hi", has: "trailer X-Sum: 1", lacks: "trailer Set-Cookie", reused: true},
	"trailers, not asked":   {raw: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n", status: 200, body: "hi", lacks: "trailer X-Sum", reused: true},
	"unknown status":        {raw: "HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n", status: 299, reused: true},
	"close, more to follow": {fields: "Connection: close\r\n", raw: okHead + "Content-Length: 2\r\n\r\nhi", status: 200, body: "hi", closes: true, reused: true},
}

// knownAnswers are those of podAnswers that fail today, with the reason.
var knownAnswers = map[string]string{}

// TestPodAnswers sends one request whose answer is given byte for byte, looks at what the client gets of it, and at whether the Pod's
// connection is used again. After each, a clean request gets its own answer.
func TestPodAnswers(t *testing.T) {
	for name, s := range podAnswers {
		t.Run(name, func(t *testing.T) {
			r := &record{}
			pod := r.pod(t, "a", func(c net.Conn, q got) bool {
				if _, target := words(q.line); target != "/s" {
					return plainAnswer(c, q)
				}
				_, err := io.WriteString(c, s.raw)
				return err == nil && !s.ends
			})
			b := newBench(t, proxy.Options{}, r, place{"a", "/", pod})
			err := b.ask(s)
			if err == nil {
				err = b.reuse(s)
			}
			switch reason := knownAnswers[name]; {
			case reason != "" && err == nil:
				t.Errorf("does not fail any more (%s): take it off the list", reason)
			case reason != "":
				t.Skipf("known: %s: %v", reason, err)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

// ask makes the request and judges the client's side.
func (b *bench) ask(s podSays) error {
	c := b.dial()
	defer b.hangUp(c)
	if s.method == "" {
		s.method = "GET"
	}
	if s.version == "" {
		s.version = "1.1"
	}
	b.send(c, []string{s.method + " /s HTTP/" + s.version + "\r\nHost: a\r\n" + s.fields + "\r\n"})
	br := bufio.NewReader(c)
	var interim []string
	res, err := http.ReadResponse(br, &http.Request{Method: s.method})
	for err == nil && res.StatusCode < 200 && res.StatusCode != 101 {
		interim = append(interim, fmt.Sprint(res.StatusCode))
		if res.Header.Get("Link") == "" || res.Header.Get("Connection") != "" || len(res.TransferEncoding) > 0 {
			return fmt.Errorf("interim answer %v", res)
		}
		res, err = http.ReadResponse(br, &http.Request{Method: s.method})
	}
	if err != nil {
		if s.cut {
			return nil
		}
		return err
	}
	body, err := io.ReadAll(res.Body)
	if s.cut {
		if res.StatusCode == 502 && err == nil || err != nil && strings.HasPrefix(s.body, string(body)) {
			return nil
		}
		return fmt.Errorf("the client took %d %q, error %s for whole", res.StatusCode, body, cause(err))
	}
	if err != nil || res.StatusCode != s.status || s.status != 502 && string(body) != s.body || strings.Join(interim, " ") != s.interim {
		return fmt.Errorf("%d %q behind %q, error %s; want %d %q behind %q", res.StatusCode, body, interim, cause(err), s.status, s.body, s.interim)
	}
	if err := s.judgeFields(res); err != nil {
		return err
	}
	if res.Close != s.closes {
		return fmt.Errorf("close is %v, want %v", res.Close, s.closes)
	}
	if s.closes {
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
			return fmt.Errorf("behind the answer: %q, error %s", rest, cause(err))
		}
		return nil
	}
	b.send(c, []string{"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"})
	next, err := http.ReadResponse(br, nil)
	if err != nil {
		return fmt.Errorf("the next answer: %w", err)
	}
	if body, err := io.ReadAll(next.Body); string(body) != ownAnswer("a", "/next") || err != nil {
		return fmt.Errorf("the next answer is %q, error %s", body, cause(err))
	}
	return nil
}

func (s podSays) judgeFields(res *http.Response) error {
	get := func(name string) (string, bool) {
		h := res.Header
		if rest, ok := strings.CutPrefix(name, "trailer "); ok {
			name, h = rest, res.Trailer
		}
		v, ok := h[http.CanonicalHeaderKey(name)]
		if name == "Transfer-Encoding" {
			return "", len(res.TransferEncoding) > 0
		}
		if !ok {
			return "", false
		}
		return v[0], true
	}
	for f := range strings.SplitSeq(s.has, "|") {
		name, value, _ := strings.Cut(f, ": ")
		if v, ok := get(name); name != "" && (!ok || v != value) {
			return fmt.Errorf("%s is %q, want %q", name, v, value)
		}
	}
	for name := range strings.SplitSeq(s.lacks, "|") {
		if v, ok := get(name); ok {
			return fmt.Errorf("there is %s: %q", name, v)
		}
	}
	return nil
}

// reuse makes a clean request, and compares the Pod's connections.
func (b *bench) reuse(s podSays) error {
	first, _, _ := b.take()
	c := b.dial()
	defer b.hangUp(c)
	b.send(c, []string{"GET /clean HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"})
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return fmt.Errorf("the clean request: %w", err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != ownAnswer("a", "/clean") || err != nil {
		return fmt.Errorf("the clean request got %d %q, error %s", res.StatusCode, body, cause(err))
	}
	second, _, problems := b.take()
	if len(problems) > 0 || len(second) != 1 {
		return fmt.Errorf("the Pod got %v, %v", second, problems)
	}
	all := append(first, second...)
	if all[0].line != "GET /s HTTP/1.1" && all[0].line != "HEAD /s HTTP/1.1" {
		return fmt.Errorf("the Pod got %v", all)
	}
	if reused := all[1].conn == all[0].conn; reused != s.reused {
		return fmt.Errorf("reused is %v, want %v: %v", reused, s.reused, all)
	}
	return nil
}

// TestUnsolicitedAnswer: what a Pod sends on an idle connection must not become the answer to somebody's request.
func TestUnsolicitedAnswer(t *testing.T) {
	r := &record{}
	sent := make(chan struct{})
	pod := r.pod(t, "a", func(c net.Conn, q got) bool {
		if !plainAnswer(c, q) {
			return false
		}
		if _, target := words(q.line); target == "/first" {
			// The answer has left for the client before this is written: it comes on an idle connection.
			<-sent
			_, err := io.WriteString(c, okHead+"Content-Length: 4\r\n\r\nevil")
			sent <- struct{}{}
			return err == nil
		}
		return true
	})
	b := newBench(t, proxy.Options{}, r, place{"a", "/", pod})
	c := b.dial()
	defer b.hangUp(c)
	br := bufio.NewReader(c)
	for _, target := range []string{"/first", "/second", "/third"} {
		b.send(c, []string{"GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"})
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != ownAnswer("a", target) || err != nil {
			t.Fatalf("%s got %d %q, %v", target, res.StatusCode, body, err)
		}
		if target == "/first" {
			sent <- struct{}{}
			<-sent
		}
	}
}
