package proxy_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"

	"podlane.dev/podlane/proxy"
)

// The settings turn codings on one by one, brotli goes first, and what was compressed is the Pod's answer.
func TestCompressionBySettings(t *testing.T) {
	text := strings.Repeat("the same again and again, ", 100)
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = io.WriteString(w, text)
	})
	gzipped := map[string]string{"use-gzip": "true"}
	both := map[string]string{"use-gzip": "true", "enable-brotli": "true"}
	for _, row := range []struct {
		say          map[string]string
		accept, want string
	}{
		{gzipped, "gzip, br", "gzip"}, {gzipped, "br", ""}, {both, "gzip, br", "br"}, {both, "gzip", "gzip"}, {both, "", ""},
		{map[string]string{"gzip-level": "9"}, "gzip", ""},
		{map[string]string{"use-gzip": "true", "gzip-types": "text/css"}, "gzip", ""},
		{map[string]string{"use-gzip": "true", "gzip-types": "*"}, "gzip", "gzip"},
		{map[string]string{"use-gzip": "true", "gzip-min-length": "100000"}, "gzip", ""},
		{map[string]string{"use-gzip": "true", "gzip-disable": "old"}, "gzip", ""},
	} {
		r := policyRig(t, proxy.Options{})
		r.routeSaying(row.say, pod)
		req, err := http.NewRequest(http.MethodGet, "http://a.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", row.accept)
		req.Header.Set("User-Agent", "a very OLD browser")
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = res.Body
		switch res.Header.Get("Content-Encoding") {
		case "gzip":
			if body, err = gzip.NewReader(res.Body); err != nil {
				t.Fatal(err)
			}
		case "br":
			body = brotli.NewReader(res.Body)
		}
		got, err := io.ReadAll(body)
		_ = res.Body.Close()
		if res.Header.Get("Content-Encoding") != row.want || string(got) != text || err != nil {
			t.Errorf("%v, %q: %q, %d bytes, %v; want %q", row.say, row.accept, res.Header.Get("Content-Encoding"), len(got), err, row.want)
		}
	}
}

// An answer never has more bytes than its time allows, which here is 4 KiB at once and 2 KiB each second.
func TestLimitRate(t *testing.T) {
	const size = 7 << 10
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) })
	r := policyRig(t, proxy.Options{})
	r.routeSaying(map[string]string{"limit-rate": "2", "limit-rate-after": "2"}, pod)
	start := time.Now()
	res, err := r.client.Get("http://a.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	buf := make([]byte, 512)
	got := 0
	for {
		n, err := res.Body.Read(buf)
		got += n
		if most := 4<<10 + int(2048*time.Since(start).Seconds()) + 1; got > most {
			t.Fatalf("%d bytes came in the time of %d", got, most)
		}
		if err != nil {
			break
		}
	}
	if got != size {
		t.Errorf("%d bytes of %d", got, size)
	}
	// 0 takes the operator's limit off: the same answer without one is not looked at by its time.
	r.routeSaying(map[string]string{"limit-rate": "0", "limit-rate-after": "2"}, pod)
	if _, body := r.do(http.MethodGet, "http://a.test/", nil); len(body) != size {
		t.Errorf("%d bytes of %d", len(body), size)
	}
}

// A higher level makes answers shorter, and they are still what the Pod said.
func TestCompressionLevels(t *testing.T) {
	var text strings.Builder
	words := strings.Fields("a long text that is made of few words in an order which nobody can foresee repeats itself here and there")
	for i, random := 0, uint32(1); i < 20_000; i++ {
		random = random*1664525 + 1013904223
		text.WriteString(words[random>>16%uint32(len(words))] + " ")
	}
	pod := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text.String())
	})
	for coding, levels := range map[string][2]map[string]string{
		"gzip": {{"use-gzip": "true", "gzip-level": "1"}, {"use-gzip": "true", "gzip-level": "9"}},
		"br":   {{"enable-brotli": "true", "brotli-level": "1"}, {"enable-brotli": "true", "brotli-level": "9"}},
	} {
		var sizes [2]int
		for i, say := range levels {
			r := policyRig(t, proxy.Options{})
			r.routeSaying(say, pod)
			res := fetch(t, r.client, http.MethodGet, "http://a.test/", "Accept-Encoding", coding)
			short, err := io.ReadAll(res.Body)
			if err != nil || res.Header.Get("Content-Encoding") != coding {
				t.Fatalf("%v: %v, %v", say, err, res.Header)
			}
			sizes[i] = len(short)
			long := io.Reader(brotli.NewReader(bytes.NewReader(short)))
			if coding == "gzip" {
				if long, err = gzip.NewReader(bytes.NewReader(short)); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := io.ReadAll(long); err != nil || string(got) != text.String() {
				t.Errorf("%v: %d bytes, %v", say, len(got), err)
			}
		}
		if sizes[1] >= sizes[0] {
			t.Errorf("%s: %d bytes at a low level, %d at a high one", coding, sizes[0], sizes[1])
		}
	}
}
