package nginxcompat

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/router/policy"
)

// gzipText is what ingress-nginx writes for use-gzip.
const gzipText = "gzip on; gzip_comp_level 1; gzip_http_version 1.1; gzip_min_length 256; gzip_types text/plain application/json; gzip_proxied any; gzip_vary on;"

// TestCompression: which answers are compressed for whom, and what becomes of the fields that describe them. Not compared are
// clients that accept x-gzip or * alone: use-gzip names that difference.
func TestCompression(t *testing.T) {
	values := policy.Values{"use-gzip": "true", "gzip-types": "text/plain application/json"}
	for _, status := range []string{"200 OK", "403 Forbidden", "404 Not Found", "201 Created", "500 Oops", "206 Partial Content"} {
		comparePods(t, setup{values: values, http: gzipText, status: status}, "Content-Type: text/plain\r\nContent-Length: 300\r\nETag: \"x\"", 300)
	}
	for _, head := range []string{
		"Content-Type: text/plain\r\nContent-Length: 255", "Content-Type: text/plain\r\nContent-Length: 256", "Content-Type: text/plain",
		"Content-Type: text/plain; charset=utf-8\r\nETag: W/\"x\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT", "Content-Type: TEXT/PLAIN",
		"Content-Type: text/html", "Content-Type: image/png", "Content-Type: application/json\r\nVary: Origin", "", "Content-Type: text/plain\r\nVary: Accept-Encoding",
		"Content-Type: text/plain\r\nContent-Encoding: gzip", "Content-Type: text/plain\r\nContent-Encoding: identity", "Content-Type: text/plain\r\nAccept-Ranges: bytes",
		"Content-Type: text/plain\r\nETag: x",
	} {
		size := 300
		if _, after, found := strings.Cut(head, "Content-Length: "); found {
			_, _ = fmt.Sscan(after, &size)
		}
		comparePods(t, setup{values: values, http: gzipText}, head, size)
	}
}

// comparePods sends requests of all kinds of clients where the Pod answers with a head and a body of a size.
func comparePods(t *testing.T, s setup, head string, size int) {
	t.Helper()
	if s.pod = strings.Repeat("x", size); head != "" {
		s.pod = "\r\n" + s.pod
	}
	s.pod = head + "\r\n" + s.pod
	t.Run(s.status+" "+strings.ReplaceAll(head, "\r\n", ", "), func(t *testing.T) {
		p := newPair(t, s)
		for _, accept := range []string{
			"", "gzip", "gzip;q=0", "gzip;q=0.001", "deflate, gzip;q=1.0, *;q=0.5", "identity", "GZIP", "gzip;q=0.0001", "gzip ; q=1", "br", "gzip;q=2",
		} {
			p.sameUnpacked(t, get("/", "Accept-Encoding: "+accept))
			p.sameUnpacked(t, message("HEAD", "/", "Accept-Encoding: "+accept))
		}
		p.sameUnpacked(t, strings.Replace(get("/", "Accept-Encoding: gzip"), "HTTP/1.1", "HTTP/1.0", 1))
		p.sameUnpacked(t, get("/", "Accept-Encoding: gzip", "Via: 1.1 cache"))
	})
}

// sameUnpacked compares answers whose bodies may be compressed: each side has a compressor of its own.
func (p *pair) sameUnpacked(t *testing.T, request string) {
	t.Helper()
	theirs := replyOf(t, ask(t, "unix", p.nginx, request), nil)
	ours := replyOf(t, ask(t, "tcp", p.podlane, request), nil)
	theirs.body, ours.body = unpacked(theirs.body), unpacked(ours.body)
	for _, r := range []*reply{&theirs, &ours} { // in what order the names in Vary come, and how often, means nothing
		slices.Sort(r.fields)
		r.fields = slices.Compact(r.fields)
	}
	if theirs.String() != ours.String() {
		t.Errorf("%q\nnginx says\n%.300s\nPodlane says\n%.300s", request, theirs, ours)
	}
	p.pod.forget()
}

// unpacked returns what a body is before compression.
func unpacked(body string) string {
	r, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		return body
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, r); err != nil { //nolint:gosec // bodies of this test
		return "cut short: " + err.Error()
	}
	return "compressed: " + b.String()
}
