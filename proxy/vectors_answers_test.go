package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/test/vectors"
)

const okHead = "HTTP/1.1 200 OK\r\n"

// knownAnswers are those of answers.txt that fail today, by ID, with the reason.
var knownAnswers = map[string]string{}

// answerWay is one way of getting a Pod's answer.
type answerWay struct {
	name, scheme string
	// write sends the Pod's bytes.
	write func(c net.Conn, raw string) error
	// request is what the client sends, nil where it cannot be sent so; before are the texts of the answers in front of that in question.
	request func(a vectors.PodAnswer, host string) (text string, before []string)
}

func wholeAnswer(c net.Conn, raw string) error {
	_, err := io.WriteString(c, raw)
	return err
}

// answerInBytes sends each byte in a segment of its own. The codec's own tests cut every answer at every byte, for certain.
func answerInBytes(c net.Conn, raw string) error {
	if len(raw) > 2000 {
		return wholeAnswer(c, raw)
	}
	for i := range len(raw) {
		if _, err := io.WriteString(c, raw[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func askFor(a vectors.PodAnswer, host string) (string, []string) {
	return a.Method + " /s HTTP/" + a.Version + "\r\nHost: " + host + "\r\n" + a.Fields + "\r\n", nil
}

var answerWays = []answerWay{
	{"whole", "http", wholeAnswer, askFor},
	{"byte by byte", "http", answerInBytes, askFor},
	{"encrypted", "https", wholeAnswer, askFor},
	{"behind another request", "http", wholeAnswer, func(a vectors.PodAnswer, host string) (string, []string) {
		text, _ := askFor(a, host)
		return "GET /first HTTP/1.1\r\nHost: other\r\n\r\n" + text, []string{ownAnswer("other", "/first")}
	}},
	{"with keep-alive", "http", wholeAnswer, func(a vectors.PodAnswer, host string) (string, []string) {
		if a.Version != "1.1" || strings.Contains(a.Fields, "Connection: ") {
			return "", nil
		}
		a.Fields += "Connection: keep-alive\r\n"
		return askFor(a, host)
	}},
}

// TestPodAnswers lets a Pod answer byte for byte as each example says, looks at what the client gets of it, and at whether the Pod's
// connection is used again. After each, a clean request gets its own answer.
func TestPodAnswers(t *testing.T) {
	all, err := vectors.PodAnswers()
	if err != nil {
		t.Fatal(err)
	}
	var runs atomic.Int64
	for _, w := range answerWays {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			b := newAnswerBench(t, w, all)
			for i, a := range all {
				host := "s" + strconv.Itoa(i)
				text, before := w.request(a, host)
				if text == "" {
					continue
				}
				runs.Add(1)
				t.Run(a.ID, func(t *testing.T) {
					err := b.ask(a, text, before)
					if err == nil {
						err = b.reuse(a, host)
					}
					switch reason := knownAnswers[a.ID]; {
					case reason != "" && err == nil:
						t.Errorf("does not fail any more (%s): take it off the list", reason)
					case reason != "":
						t.Skipf("known: %s: %v", reason, err)
					case err != nil:
						t.Error(err)
					}
				})
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d examples, %d runs", len(all), runs.Load()) })
}

// newAnswerBench starts a Pod and a route for each example, so that each begins with a fresh connection.
func newAnswerBench(t *testing.T, w answerWay, all []vectors.PodAnswer) *bench {
	t.Helper()
	r := &record{}
	places := []place{{host: "other", path: "/", pod: r.pod(t, "other", nil)}}
	for i, a := range all {
		host := "s" + strconv.Itoa(i)
		places = append(places, place{host: host, path: "/", pod: r.pod(t, host, func(c net.Conn, q got) bool {
			if q.Target() != "/s" {
				return plainAnswer(c, q)
			}
			err := w.write(c, a.Raw)
			if a.After == vectors.Resets {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			return err == nil && a.After == vectors.Stays
		})})
	}
	b := newBench(t, proxy.Options{}, r, places...)
	if w.scheme == "https" {
		b.encrypted()
	}
	return b
}

// ask makes the request and judges the client's side.
func (b *bench) ask(a vectors.PodAnswer, text string, before []string) error {
	b.take()
	c := b.dial()
	defer func() { _ = c.Close() }()
	b.send(c, []string{text})
	raw := new(bytes.Buffer)
	br := bufio.NewReader(io.TeeReader(c, raw))
	for _, want := range before {
		_, body, err := readAnswer(br, "GET")
		if err != nil || body != want {
			return fmt.Errorf("the answer before it: %q, error %s; want %q", body, cause(err), want)
		}
	}
	from := raw.Len() - br.Buffered()
	res, err := finalAnswer(br, a)
	if err != nil && a.Cut {
		return nil // its head is not whole
	}
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if a.Cut {
		if res.StatusCode == 502 && err == nil || err != nil && strings.HasPrefix(a.Body, string(body)) {
			return nil
		}
		return fmt.Errorf("the client took %d %q, error %s for whole", res.StatusCode, body, cause(err))
	}
	if err != nil || res.StatusCode != a.Status || a.Status != 502 && string(body) != a.Body {
		return fmt.Errorf("%d %.100q, error %s; want %d %.100q", res.StatusCode, body, cause(err), a.Status, a.Body)
	}
	if err := judgeHead(raw.String()[from:], a); err != nil {
		return err
	}
	if err := judgeTrailers(res.Trailer, a.Trailers); err != nil {
		return err
	}
	if a.Closes {
		return ended(br, res)
	}
	return b.goesOn(c, br, res)
}

// finalAnswer reads the head of the final answer, and the interim ones before it, which must be as a says.
func finalAnswer(br *bufio.Reader, a vectors.PodAnswer) (*http.Response, error) {
	var interim []int
	for {
		res, err := http.ReadResponse(br, &http.Request{Method: a.Method})
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == 101 {
			if !slices.Equal(interim, a.Interim) {
				return nil, fmt.Errorf("interim answers %v, want %v", interim, a.Interim)
			}
			return res, nil
		}
		interim = append(interim, res.StatusCode)
	}
}

var statusLine = regexp.MustCompile("^HTTP/1\\.1 [1-9][0-9][0-9] [\t -~\u0080-\u00ff]*$")
var fieldLine = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+: ([!-~\u0080-\u00ff]([\t -~\u0080-\u00ff]*[!-~\u0080-\u00ff])?)?$")

// judgeHead looks at the heads in what the client got, byte for byte: strict lines, nothing that ends at this hop, and in the last one
// what a says.
func judgeHead(raw string, a vectors.PodAnswer) error {
	for range a.Interim {
		head, rest, _ := strings.Cut(raw, "\r\n\r\n")
		if err := judgeLines(head); err != nil {
			return fmt.Errorf("interim: %w", err)
		}
		if lines := strings.ToLower(head) + "\r\n"; !strings.Contains(lines, "\r\nlink: x\r\n") || strings.Contains(lines, "\r\nconnection:") ||
			strings.Contains(lines, "\r\ncontent-length:") || strings.Contains(lines, "\r\ntransfer-encoding:") || strings.Contains(lines, "\r\nlink-extra:") {
			return fmt.Errorf("interim head %q", head)
		}
		raw = rest
	}
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	if err := judgeLines(head); err != nil {
		return err
	}
	lines := strings.Split(head, "\r\n")[1:]
	for _, name := range []string{"date", "server"} {
		if n := strings.Count("\r\n"+strings.ToLower(head), "\r\n"+name+":"); n != 1 {
			return fmt.Errorf("%s comes %d times in %q", name, n, head)
		}
	}
	return matchFields(lines, vectors.Seen{Has: a.Has, Lacks: a.Lacks})
}

// judgeLines wants a head as strict peers do.
func judgeLines(head string) error {
	names := map[string]int{}
	for i, l := range strings.Split(head, "\r\n") {
		// Regular expressions of Go are about text: bytes become the characters of the same number.
		latin := make([]rune, 0, len(l))
		for _, c := range []byte(l) {
			latin = append(latin, rune(c))
		}
		want := fieldLine
		if i == 0 {
			want = statusLine
		}
		if !want.MatchString(string(latin)) {
			return fmt.Errorf("line %.200q", l)
		}
		name, value, _ := strings.Cut(strings.ToLower(l), ": ")
		names[name]++
		switch name {
		case "keep-alive", "proxy-connection", "proxy-authenticate", "te", "http2-settings", "upgrade":
			return fmt.Errorf("field %q", l)
		case "connection":
			if value != "close" && value != "keep-alive" {
				return fmt.Errorf("field %q", l)
			}
		case "transfer-encoding":
			if value != "chunked" {
				return fmt.Errorf("field %q", l)
			}
		}
	}
	if names["content-length"]+names["transfer-encoding"] > 1 || names["connection"] > 1 {
		return fmt.Errorf("framing in %.300q", head)
	}
	return nil
}

func judgeTrailers(got http.Header, want []string) error {
	all := http.Header{}
	for _, f := range want {
		name, value, _ := strings.Cut(f, ": ")
		all.Add(name, value)
	}
	if fmt.Sprint(got) != fmt.Sprint(all) && len(got)+len(all) > 0 {
		return fmt.Errorf("trailers %v, want %v", got, all)
	}
	return nil
}

// goesOn makes one more request on the client's connection.
func (b *bench) goesOn(c client, br *bufio.Reader, res *http.Response) error {
	if res.Close {
		return errors.New("the answer says Connection: close")
	}
	b.send(c, []string{"GET /next HTTP/1.1\r\nHost: other\r\n\r\n"})
	next, body, err := readAnswer(br, "GET")
	if err != nil {
		return fmt.Errorf("the next answer: %w", err)
	}
	if body != ownAnswer("other", "/next") {
		return fmt.Errorf("the next answer is %d %q", next.StatusCode, body)
	}
	return nil
}

// reuse makes a clean request to the same Pod, and compares the Pod's connections.
func (b *bench) reuse(a vectors.PodAnswer, host string) error {
	// What comes late on an idle connection can meet the next request; no proxy can tell. Here it does not come late.
	if !b.written() {
		return errors.New("the Pod does not come to an end")
	}
	first, _, _ := b.take()
	first = slices.DeleteFunc(first, func(q got) bool { return q.pod != host })
	c := b.dialTo("http")
	defer func() { _ = c.Close() }()
	b.send(c, []string{"GET /clean HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"})
	res, body, err := readAnswer(bufio.NewReader(c), "GET")
	if err != nil {
		return fmt.Errorf("the clean request: %w", err)
	}
	if body != ownAnswer(host, "/clean") {
		return fmt.Errorf("the clean request got %d %q", res.StatusCode, body)
	}
	second, extra, problems := b.take()
	switch {
	case len(problems) > 0 || len(second) != 1 || extra != 0 || len(first) != 1:
		return fmt.Errorf("the Pod got %v, %v and %d more bytes; %v", first, second, extra, problems)
	case first[0].Line != a.Method+" /s HTTP/1.1":
		return fmt.Errorf("the Pod got %v", first)
	}
	if reused := second[0].conn == first[0].conn; reused != a.Reused {
		return fmt.Errorf("the Pod's connection is reused: %v, want %v", reused, a.Reused)
	}
	return nil
}

// TestUnsolicitedAnswer: what a Pod sends on an idle connection must not become the answer to somebody's request.
func TestUnsolicitedAnswer(t *testing.T) {
	for name, evil := range map[string]string{
		"an answer": okHead + "Content-Length: 4\r\n\r\nevil", "half an answer": okHead, "a byte": "\n", "the end": "",
	} {
		t.Run(name, func(t *testing.T) {
			r := &record{}
			sent := make(chan struct{})
			pod := r.pod(t, "a", func(c net.Conn, q got) bool {
				if !plainAnswer(c, q) {
					return false
				}
				if q.Target() == "/first" {
					// The answer has left for the client before this is written: it comes on an idle connection.
					<-sent
					_, err := io.WriteString(c, evil)
					if evil == "" {
						err = c.Close()
					}
					sent <- struct{}{}
					return err == nil && evil != ""
				}
				return true
			})
			b := newBench(t, proxy.Options{}, r, place{host: "a", path: "/", pod: pod})
			c := b.dial()
			defer func() { _ = c.Close() }()
			br := bufio.NewReader(c)
			for _, target := range []string{"/first", "/second", "/third"} {
				b.send(c, []string{"POST " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"})
				res, body, err := readAnswer(br, "POST")
				if err != nil {
					t.Fatal(err)
				}
				if body != ownAnswer("a", target) {
					t.Fatalf("%s got %d %q", target, res.StatusCode, body)
				}
				if target == "/first" {
					sent <- struct{}{}
					<-sent
				}
			}
			if n := connections(r); n != 2 {
				t.Errorf("%d connections to the Pod, want 2", n)
			}
		})
	}
}
