package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/test/vectors"
)

// What must be true of every answer and of every request that reaches a Pod, whatever the example is about.

// answers reads the answers that v promises. It returns the text of each that a Pod gave.
func (b *bench) answers(br *bufio.Reader, v vectors.Vector) (texts []string, err error) {
	if len(v.Answers) == 0 {
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
			return nil, fmt.Errorf("%.100q, error %s; want the end of the connection and nothing else", rest, cause(err))
		}
		return nil, nil
	}
	for i, want := range v.Answers {
		method, _ := words(strings.TrimPrefix(v.Input, first))
		if want.End.FromPod() && len(texts) < len(v.Seen) {
			method, _ = words(v.Seen[len(texts)].Line)
		}
		res, body, err := readAnswer(br, method)
		if err == nil && res.StatusCode == 100 && v.Continue {
			res, body, err = readAnswer(br, method)
		}
		if err != nil {
			return texts, fmt.Errorf("answer %d: %w, want %d", i, err, want.Status)
		}
		if err := judgeAnswer(res, body, want); err != nil {
			return texts, fmt.Errorf("answer %d: %w", i, err)
		}
		if want.End.FromPod() {
			texts = append(texts, body)
		} else if len(body) > 200 || len(body) > 0 && method != "HEAD" && strings.Contains(v.Input, body) {
			return texts, fmt.Errorf("answer %d echoes: %.100q", i, body)
		}
		switch {
		case want.End.Closes():
			err := ended(br, res)
			if len(v.Input) > 64<<10 || want.End == vectors.Closed || want.End == vectors.LocalClosed {
				err = unlessReset(err)
			}
			if err != nil {
				return texts, fmt.Errorf("answer %d: %w", i, err)
			}
		case res.Close && !v.HalfClose:
			return texts, fmt.Errorf("answer %d says Connection: close", i)
		}
	}
	return texts, nil
}

// readAnswer reads one answer and its body.
func readAnswer(br *bufio.Reader, method string) (*http.Response, string, error) {
	res, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, "", fmt.Errorf("%d %.100q, %w", res.StatusCode, body, err)
	}
	return res, string(body), nil
}

func judgeAnswer(res *http.Response, body string, want vectors.Answer) error {
	if res.StatusCode != want.Status || res.Proto != "HTTP/1.1" {
		return fmt.Errorf("%s %d %.100q, want %d", res.Proto, res.StatusCode, body, want.Status)
	}
	for _, f := range want.Fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Content-Length" && strconv.FormatInt(res.ContentLength, 10) == value {
			continue
		}
		if res.Header.Get(name) != value && (name != "Connection" || res.Close) {
			return fmt.Errorf("%s is %q, want %q", name, res.Header.Get(name), value)
		}
	}
	if _, err := http.ParseTime(res.Header.Get("Date")); err != nil || !slices.Equal(res.Header["Server"], []string{"podlane"}) {
		return fmt.Errorf("Date %q, Server %q", res.Header["Date"], res.Header["Server"])
	}
	// The proxy's own answers are framed by their length, whatever became of the request.
	if !want.End.FromPod() && res.ContentLength < 0 {
		return fmt.Errorf("%d without a length", res.StatusCode)
	}
	return nil
}

// ended reports whether an answer says that it is the last, and nothing comes behind it but the end of the connection.
func ended(br *bufio.Reader, res *http.Response) error {
	if !res.Close {
		return fmt.Errorf("the answer %d does not say Connection: close", res.StatusCode)
	}
	rest, err := io.ReadAll(br)
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%.100q behind the answer, error %s", rest, cause(err))
	case err != nil:
		return fmt.Errorf("behind the answer: %w", err)
	}
	return nil
}

// unlessReset forgives ended a reset: where unread bytes are to be expected, behind the last request, say.
func unlessReset(err error) error {
	if errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}

// own are the fields that every request to a Pod has exactly once, and that no client decides but for X-Request-ID.
var own = []string{
	"Host", "X-Request-ID", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto",
	"X-Forwarded-Scheme", "X-Scheme",
}

// never are names that never reach a Pod, whoever says what about them.
var never = regexp.MustCompile(`(?i)^(.*_.*|keep-alive|proxy-(connection|authenticate|authorization)|trailer|http2-settings|expect|proxy|forwarded|x-original-.*|x-envoy-.*|x-rewrite-url|x-forwarded-(server|prefix|anything))$`)

// framed are field lines that the proxy may add.
var framed = regexp.MustCompile(`^(Content-Length: 0|Transfer-Encoding: chunked|TE: trailers|Connection: Upgrade|Upgrade: [!-~]+)$`)

var randomID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// invented finds field lines of a request that neither its client sent nor the proxy has to add, and what is wrong with those that it
// has to.
func (b *bench) invented(q got, sent string, port int) error {
	lines := map[string]bool{}
	for l := range strings.SplitSeq(sent, "\n") {
		name, value, _ := strings.Cut(strings.TrimRight(l, "\r"), ":")
		lines[name+": "+strings.Trim(value, " \t")] = true
	}
	values := map[string]string{}
	for _, f := range q.Fields {
		name, value, _ := strings.Cut(f, ": ")
		i := slices.IndexFunc(own, func(o string) bool { return strings.EqualFold(o, name) })
		switch {
		case never.MatchString(name):
			return fmt.Errorf("field %.100q must not leave the proxy", f)
		case i < 0 && !lines[f] && !framed.MatchString(f):
			return fmt.Errorf("field %.100q is not the client's", f)
		case i < 0:
			continue
		}
		if _, twice := values[own[i]]; twice {
			return fmt.Errorf("field %s comes twice", own[i])
		}
		values[own[i]] = value
	}
	for name, want := range map[string]string{
		"X-Real-IP": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Port": strconv.Itoa(port), "X-Forwarded-Proto": b.scheme,
		"X-Forwarded-Scheme": b.scheme, "X-Scheme": b.scheme,
	} {
		if values[name] != want {
			return fmt.Errorf("%s is %q, want %q", name, values[name], want)
		}
	}
	id := values["X-Request-ID"]
	if !randomID.MatchString(id) && (id == "" || !strings.Contains(sent, id)) {
		return fmt.Errorf("X-Request-ID is %q", id)
	}
	if host := values["X-Forwarded-Host"]; host != values["Host"] && host != "" {
		return fmt.Errorf("X-Forwarded-Host is %q, Host %q", host, values["Host"])
	}
	return nil
}
