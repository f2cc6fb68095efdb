package http1_test

import (
	"regexp"
	"strconv"
	"strings"
)

// message is a request as the reference reads it.
type message struct {
	method, target, version string
	names, values           []string
	body                    string
	used                    int
}

var requestHead = regexp.MustCompile("^(?:\r\n){0,2}([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([\u0021-\u007e\u0080-\u00ff]+) HTTP/(1\\.[01])\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}:[\t\u0020-\u007e\u0080-\u00ff]*\r\n)*)\r\n")

// readByReference reads one request by the grammar of RFC 9112 and by what strict parsers such as llhttp add to it, and knows nothing of
// how the codec does it. Everything that the codec accepts, this must accept as the same.
func readByReference(in string) (q message, ok bool) {
	head := in
	if i := strings.Index(in, "\r\n\r\n"); strings.HasPrefix(in, "\r\n\r\n") {
		if i = strings.Index(in[4:], "\r\n\r\n"); i >= 0 {
			head = in[:i+8]
		}
	} else if i >= 0 {
		head = in[:i+4]
	}
	m := requestHead.FindStringSubmatch(latin(head))
	if m == nil || m[0] != latin(head) {
		return q, false
	}
	// A head has as many bytes as its Latin form has characters.
	q.method, q.target, q.version, q.used = m[1], raw(m[2]), m[3], len(head)
	for l := range strings.SplitSeq(strings.TrimSuffix(raw(m[4]), "\r\n"), "\r\n") {
		name, value, _ := strings.Cut(l, ":")
		if name != "" {
			q.names, q.values = append(q.names, name), append(q.values, strings.Trim(value, " \t"))
		}
	}
	return q, q.frame(in[q.used:])
}

// raw undoes latin.
func raw(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// all returns the values of the fields of one name.
func (q *message) all(name string) (values []string) {
	for i, n := range q.names {
		if strings.EqualFold(n, name) {
			values = append(values, q.values[i])
		}
	}
	return values
}

// frame finds the body at the head of rest.
func (q *message) frame(rest string) bool {
	length, coding, hosts := q.all("Content-Length"), q.all("Transfer-Encoding"), q.all("Host")
	switch {
	case len(length) > 1 || len(coding) > 1 || len(length)+len(coding) > 1:
		return false
	case len(hosts) > 1 || len(hosts) == 0 && q.version == "1.1":
		return false
	case len(coding) == 1:
		if !strings.EqualFold(coding[0], "chunked") || q.version != "1.1" {
			return false
		}
		body, left, ok := chunkReference(rest)
		q.body = body
		q.used += len(rest) - len(left)
		return ok
	case len(length) == 1:
		n, err := strconv.ParseUint(length[0], 10, 63)
		if err != nil || strconv.FormatUint(n, 10) != length[0] || uint64(len(rest)) < n {
			return false
		}
		q.body = rest[:n]
		q.used += int(n)
	}
	return true
}
