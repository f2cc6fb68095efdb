// Package mutate changes HTTP/1.1 messages in the ways in which parsers come to disagree: a byte deleted, replaced or inserted; CR, LF,
// NUL, a colon or white space where none belongs; lines doubled, merged, split, moved; messages joined; bodies chunked anew. What to
// change comes as a script of bytes, so that a fuzzer can steer it, and a generator of random numbers can replay it.
package mutate

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
)

// StepSize is the number of bytes of one step of a script: what to do, where (two bytes, relative to the message's length), and with
// what.
const StepSize = 4

// maxSize bounds what mutations can make of a message.
const maxSize = 64 << 10

// Apply returns message changed by every whole step of script. It changes neither.
func Apply(message, script []byte) []byte {
	m := bytes.Clone(message)
	for ; len(script) >= StepSize && len(m) > 0; script = script[StepSize:] {
		at := (int(script[1])<<8 | int(script[2])) * len(m) >> 16
		next := operators[int(script[0])%len(operators)](m, at, script[3])
		if len(next) <= maxSize {
			m = next
		}
	}
	return m
}

// Random returns a message of corpus, changed by one to four random steps.
func Random(rnd *rand.Rand, corpus []string) string {
	script := make([]byte, StepSize*(1+rnd.IntN(4)))
	for i := range script {
		script[i] = byte(rnd.Uint32())
	}
	return string(Apply([]byte(corpus[rnd.IntN(len(corpus))]), script))
}

// operators change m at an offset, which is inside it.
var operators = [...]func(m []byte, at int, with byte) []byte{
	func(m []byte, at int, _ byte) []byte { return slices.Delete(m, at, at+1) },
	func(m []byte, at int, with byte) []byte { m[at] = with; return m },
	func(m []byte, at int, with byte) []byte { return slices.Insert(m, at, with) },
	func(m []byte, at int, with byte) []byte { return insert(m, at, pick(separators, with)) },
	func(m []byte, at int, with byte) []byte { return insert(m, lineStart(m, at), pick(separators, with)) },
	func(m []byte, at int, with byte) []byte { return insert(m, contentEnd(m, at), pick(separators, with)) },
	func(m []byte, at int, with byte) []byte { return insert(m, afterColon(m, at), pick(separators, with)) },
	replaceEnd,
	doubleLine,
	moveLine,
	mergeLines,
	func(m []byte, at int, _ byte) []byte { return slices.Delete(m, lineStart(m, at), lineEnd(m, at)) },
	func(m []byte, at int, with byte) []byte { return insert(m, lineStart(m, at), pick(fields, with)) },
	changeCase,
	func(m []byte, _ int, _ byte) []byte { return slices.Concat(m, m) },
	func(m []byte, at int, with byte) []byte {
		return slices.Insert(m, at, m[at:min(at+int(with), len(m))]...)
	},
	rechunk,
	replaceNumber,
	replaceWord,
}

// separators are what tells the parts of a message apart, and what looks like it.
var separators = []string{
	"\r\n", "\r", "\n", "\x00", ":", "\t", " ", "\r\n ", "\r\n\t", "\n\r", "\r\r\n", "\n\n", "\r\n\r\n", ",", ";", "\x0b", "\x0c", "\x85", "\xa0",
	"\xc2\xa0", "\x7f", "\"", "\\", "=", "#", "?", "%", "%0d%0a", "\x1f", "\xff", "/", "*", "@",
}

// fields are lines that change what the message is.
var fields = []string{
	"Content-Length: 5\r\n", "Content-Length: 0\r\n", "Content-Length: 05\r\n", "Content-Length: +5\r\n", "Content-Length: 5, 5\r\n",
	"Content-Length:\r\n", "content-length: 6\r\n", "Content_Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "transfer-encoding: CHUNKED\r\n",
	"Transfer-Encoding: identity\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, \r\n", "Transfer-Encoding : chunked\r\n",
	"Transfer-Encoding:\r\n chunked\r\n", "Transfer_Encoding: chunked\r\n", "Host: a\r\n", "Host: b\r\n", "Host:\r\n", "Host : a\r\n",
	"Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: Host\r\n", "Connection: X\r\nX: y\r\n", "Connection: upgrade\r\nUpgrade: echo\r\n",
	"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n", "Expect: 100-continue\r\n", "Expect: x\r\n", "TE: trailers\r\n",
	"Trailer: X\r\n", "X: y\r\n", " folded\r\n", "\tfolded\r\n", ": y\r\n", "X\r\n", "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", "0\r\n\r\n", "5\r\nhello\r\n",
}

// words take the place of others.
var words = []string{
	"GET", "POST", "HEAD", "OPTIONS", "CONNECT", "TRACE", "get", "PRI", "/", "*", "//", "/..", "/%2e%2e/", "/a/../b", "http://a/", "https://a/", "a:80",
	"HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1.", "chunked", "Chunked", "identity", "close", "a", "[::1]", "a.example.com", "",
}

func pick(list []string, with byte) string { return list[int(with)%len(list)] }

func insert(m []byte, at int, s string) []byte { return slices.Insert(m, at, []byte(s)...) }

// lineStart is the offset of the first byte of the line that holds at, lineEnd that behind its LF.
func lineStart(m []byte, at int) int { return bytes.LastIndexByte(m[:at], '\n') + 1 }

func lineEnd(m []byte, at int) int {
	if i := bytes.IndexByte(m[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(m)
}

// contentEnd is the offset of the CR LF of the line that holds at.
func contentEnd(m []byte, at int) int {
	end := lineEnd(m, at)
	start := lineStart(m, at)
	return start + len(bytes.TrimRight(m[start:end], "\r\n"))
}

// afterColon is the offset behind the first colon of the line, or of its end.
func afterColon(m []byte, at int) int {
	start := lineStart(m, at)
	if i := bytes.IndexByte(m[start:lineEnd(m, at)], ':'); i >= 0 {
		return start + i + 1
	}
	return contentEnd(m, at)
}

// replaceEnd gives the line another end.
func replaceEnd(m []byte, at int, with byte) []byte {
	ends := []string{"\n", "\r", "", "\r\r\n", "\n\r", " \r\n", "\t\r\n", "\x00\r\n", "\r\n\r\n", "\x0b\r\n"}
	return slices.Replace(m, contentEnd(m, at), lineEnd(m, at), []byte(pick(ends, with))...)
}

// doubleLine writes the line twice.
func doubleLine(m []byte, at int, _ byte) []byte {
	start, end := lineStart(m, at), lineEnd(m, at)
	return slices.Insert(m, end, bytes.Clone(m[start:end])...)
}

// moveLine moves the line behind others.
func moveLine(m []byte, at int, with byte) []byte {
	start, end := lineStart(m, at), lineEnd(m, at)
	moved := bytes.Clone(m[start:end])
	m = slices.Delete(m, start, end)
	to := start
	for range with % 4 {
		if to < len(m) {
			to = lineEnd(m, to)
		}
	}
	return slices.Insert(m, to, moved...)
}

// mergeLines removes the line's end, or makes it a space or a fold.
func mergeLines(m []byte, at int, with byte) []byte {
	between := []string{"", " ", "\r\n ", "\r\n\t", ", "}
	return slices.Replace(m, contentEnd(m, at), lineEnd(m, at), []byte(pick(between, with))...)
}

// changeCase turns over the case of letters in the line: of one, or of all.
func changeCase(m []byte, at int, with byte) []byte {
	start, end := lineStart(m, at), lineEnd(m, at)
	if with%2 == 0 {
		start, end = at, at+1
	}
	for i := start; i < end; i++ {
		if c := m[i] | 0x20; 'a' <= c && c <= 'z' {
			m[i] ^= 0x20
		}
	}
	return m
}

// body returns what is behind the first empty line.
func body(m []byte) (head, rest []byte, ok bool) {
	i := bytes.Index(m, []byte("\r\n\r\n"))
	if i < 0 {
		return m, nil, false
	}
	return m[:i+2], m[i+4:], true
}

// rechunk frames the body by chunks, in one of several spellings, and drops the fields that framed it before.
func rechunk(m []byte, at int, with byte) []byte {
	head, rest, ok := body(m)
	if !ok {
		return m
	}
	var out []byte
	for l := range bytes.Lines(head) {
		if name, _, _ := bytes.Cut(bytes.ToLower(l), []byte(":")); string(name) != "content-length" && string(name) != "transfer-encoding" {
			out = append(out, l...)
		}
	}
	out = append(out, "Transfer-Encoding: chunked\r\n\r\n"...)
	size := 1 + at%16
	for len(rest) > 0 && len(out) < maxSize {
		n := min(size, len(rest))
		out = append(out, pick([]string{"", "0", "000000000000000", "0x", "+", " "}, with%8)...)
		out = strconv.AppendInt(out, int64(n), 16)
		out = append(out, pick([]string{"", "", ";a", ";a=b", ";a=\"b;c\"", " ;a", ";", ";a=\"\n\""}, with/8)...)
		out = append(out, "\r\n"...)
		out = append(out, rest[:n]...)
		out = append(out, "\r\n"...)
		rest = rest[n:]
	}
	return append(out, pick([]string{"0\r\n\r\n", "000\r\n\r\n", "0;a\r\n\r\n", "0\r\nX: y\r\n\r\n", "0\r\n", "0\n\n", "", "0\r\nContent-Length: 5\r\n\r\n"}, with/32)...)
}

// replaceNumber changes the first run of digits at or behind at.
func replaceNumber(m []byte, at int, with byte) []byte {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	for at < len(m) && !digit(m[at]) {
		at++
	}
	end := at
	for end < len(m) && digit(m[end]) {
		end++
	}
	if at == end {
		return m
	}
	n := pick([]string{
		"0", "1", "5", "00", "05", "9", "99", "-1", "+5", "0x5", "9223372036854775807", "9223372036854775808", "18446744073709551621", "5 5", "5,5",
		"ffffffffffffffff", "a", "1048577",
	}, with)
	return slices.Replace(m, at, end, []byte(n)...)
}

// replaceWord changes the word around at.
func replaceWord(m []byte, at int, with byte) []byte {
	space := func(c byte) bool { return c == ' ' || c == '\r' || c == '\n' }
	start, end := at, at
	for start > 0 && !space(m[start-1]) {
		start--
	}
	for end < len(m) && !space(m[end]) {
		end++
	}
	return slices.Replace(m, start, end, []byte(pick(words, with))...)
}

// TransferEncodings returns spellings of the field line "Transfer-Encoding: chunked", of which exactly the first is right: every byte at
// every place where parsers have overlooked one.
func TransferEncodings() []string {
	const name, value = "Transfer-Encoding", "chunked"
	good := name + ": " + value
	all := []string{good}
	seen := map[string]bool{good: true, name + ":" + value: true, name + ":\t" + value: true}
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	for c := range 256 {
		b := string([]byte{byte(c)})
		for _, s := range []string{
			b + good,
			name + b + ": " + value,
			"Transfer" + b + "Encoding: " + value,
			name + b + " " + value,
			name + ":" + b + value,
			name + ": chun" + b + "ked",
			name + ": " + value + b,
			name + ": " + value + b + "x",
		} {
			// Optional white space around the value, and the value's own letters in another case, are right.
			if v, ok := bytes.CutPrefix([]byte(s), []byte(name+":")); !ok || !bytes.EqualFold(bytes.Trim(v, " \t"), []byte(value)) {
				add(s)
			}
		}
	}
	for _, s := range []string{
		name + ": " + value + "\r\n" + good, name + ": identity\r\n" + good, good + "\r\n" + name + ": identity", name + ":\r\n " + value,
		"X: y\r\n " + good, name + ": gzip, " + value, name + ": " + value + ", gzip", name + ": " + value + "," + value, name + ":," + value,
		name + ": \"" + value + "\"", name + ": '" + value + "'", name + ": [" + value + "]", name + ": x" + value, name + ": " + value + "x",
		"transfer-encoding: Chunked;q=1", "Transfer_Encoding: " + value, "TE: " + value, "Content-Encoding: " + value,
	} {
		add(s)
	}
	return all
}
