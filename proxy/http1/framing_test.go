package http1_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/http1"
)

// everyMutation calls f with every string that differs from s by one byte: removed, replaced, inserted.
func everyMutation(s string, f func(string)) {
	for i := range len(s) + 1 {
		for c := range 256 {
			f(s[:i] + string([]byte{byte(c)}) + s[i:])
			if i < len(s) && s[i] != byte(c) {
				f(s[:i] + string([]byte{byte(c)}) + s[i+1:])
			}
		}
		if i < len(s) {
			f(s[:i] + s[i+1:])
		}
	}
}

var fieldLine = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*((?:[\t\x20-\x7e]|[^\x00-\x7f])*?)[\t ]*$")

// reference says what one more field line of a POST request means, by a second reading of the contract: the framing that it
// gives ("none", "chunked", "length N") or the status of the refusal.
func reference(line string) string {
	if strings.Contains(line, "\r") || strings.Contains(line, "\n") {
		// The line became two, or has a bare terminator. Two good ones are not worth a reference.
		return "?"
	}
	if line == "" {
		return "?" // the head ends here
	}
	m := fieldLine.FindStringSubmatch(latin(line))
	if m == nil || len(m[1]) > 256 {
		return "400"
	}
	name, value := strings.ToLower(m[1]), m[2]
	switch {
	case strings.Contains(name, "_"):
		return "none"
	case name == "content-length":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != value || n < 0 {
			return "400"
		}
		return fmt.Sprint("length ", n)
	case name == "transfer-encoding":
		return codings(value)
	case name == "host":
		return "400"
	}
	return "none"
}

var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func codings(value string) string {
	if strings.EqualFold(value, "chunked") {
		return "chunked"
	}
	members := strings.Split(value, ",")
	for i, m := range members {
		m = strings.Trim(m, " \t")
		if !token.MatchString(m) || strings.EqualFold(m, "chunked") && i < len(members)-1 {
			return "400"
		}
	}
	for _, m := range members {
		if !strings.EqualFold(strings.Trim(m, " \t"), "chunked") {
			return "501"
		}
	}
	return "400"
}

// TestFramingFieldMutations gives every request that differs by one byte in its framing field to the codec and to the reference. The
// invariant behind it: nothing that looks a little like Content-Length or Transfer-Encoding is passed on and not obeyed.
func TestFramingFieldMutations(t *testing.T) {
	for _, base := range []string{"Transfer-Encoding: chunked", "Content-Length: 12", "Transfer-Encoding: gzip, chunked"} {
		n := 0
		everyMutation(base, func(line string) {
			n++
			in := "POST / HTTP/1.1\r\nHost: a\r\n" + line + "\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
			o := readRequests(&piecewise{pieces: split(in), end: errSilent}, 1, http1.Limits{})[0]
			got := "none"
			switch {
			case o.status != 0 && o.head == "":
				got = strconv.Itoa(o.status)
			case strings.Contains(o.head, "length=-1\n"):
				got = "chunked"
			case strings.Contains(o.head, "length=") && !strings.Contains(o.head, "length=-2\n"):
				length := o.head[strings.Index(o.head, "length=")+len("length="):]
				got = "length " + length[:strings.IndexByte(length, '\n')]
			}
			want := reference(line)
			if want == "length 0" {
				want = "none"
			}
			if want != "?" && got != want {
				t.Errorf("%q: %s, want %s", line, got, want)
			}
			// Whatever the reference thinks: what passes must not be readable as other framing by a careless Pod.
			for l := range strings.SplitSeq(o.head, "\r\n") {
				name, _, _ := strings.Cut(l, ":")
				if strings.ToLower(strings.TrimSpace(name)) == "transfer-encoding" {
					t.Errorf("%q: Transfer-Encoding is passed on", line)
				}
			}
		})
		t.Logf("%q: %d mutations", base, n)
	}
}

var chunkSize = regexp.MustCompile("^([0-9A-Fa-f]{1,16})((?:;[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|\"(?:[\t !#-\\[\\]-~]|[^\x00-\x7f]|\\\\(?:[\t -~]|[^\x00-\x7f]))*\"))?)*)\r\n")

// chunkReference decodes chunked framing by a regular expression, strictly. ok is false where in is malformed or does not
// end; rest is what stands behind it.
func chunkReference(in string) (body, rest string, ok bool) {
	for {
		line, _, _ := strings.Cut(in, "\n")
		m := chunkSize.FindStringSubmatch(latin(line) + "\n")
		if m == nil {
			return body, in, false
		}
		in = in[min(len(line)+1, len(in)):]
		n, err := strconv.ParseUint(m[1], 16, 63)
		switch {
		case err != nil:
			return body, in, false
		case n == 0:
			rest, ok := trailersOK(in)
			return body, rest, ok
		case uint64(len(in)) < n+2 || in[n:n+2] != "\r\n":
			return body, in, false
		}
		body += in[:n]
		in = in[n+2:]
	}
}

func trailersOK(in string) (rest string, ok bool) {
	for {
		line, rest, ok := strings.Cut(in, "\r\n")
		if !ok || line == "" {
			return rest, ok
		}
		if strings.ContainsAny(line, "\r\n") || !fieldLine.MatchString(latin(line)) {
			return rest, false
		}
		in = rest
	}
}

// latin makes bytes the characters of the same number: regular expressions are about text.
func latin(s string) string {
	runes := make([]rune, 0, len(s))
	for _, c := range []byte(s) {
		runes = append(runes, rune(c))
	}
	return string(runes)
}

// TestChunkMutations does the same with one byte of a chunked body.
func TestChunkMutations(t *testing.T) {
	n, good := 0, 0
	everyMutation("3;a=\"b\"\r\nabc\r\n0A\r\n0123456789\r\n0;x\r\nT: v\r\n\r\n", func(in string) {
		head := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		o := readRequests(&piecewise{pieces: split(head + in), end: errSilent}, 1, http1.Limits{})[0]
		body, _, ok := chunkReference(in)
		if (o.err == "") != ok || ok && body != "" && o.body != body {
			t.Errorf("%q: %v, want body %q, good %v", in, o, body, ok)
		}
		if n++; ok {
			good++
		}
	})
	t.Logf("%d mutations, %d good", n, good)
	if good == 0 {
		t.Error("no mutation is good: the reference is broken")
	}
}
