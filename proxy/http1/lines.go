package http1

import (
	"bytes"

	"podlane.dev/podlane/proxy/exchange"
)

// lines cuts the head of a message into lines as its bytes arrive. Offsets are absolute in the connection's buffer, in which
// the message starts at 0. Because every line is judged when its end has come, or as soon as no end can make it good, the verdict is the
// same for any split of the input.
type lines struct {
	start int // of the current line
	scan  int // everything before it was searched for LF
}

// next returns the next complete line of buf without its CRLF. more is true where its end has not arrived. A line whose content
// is longer than limit is tooLong.
func (l *lines) next(buf []byte, limit int, tooLong *exchange.Reject) (line []byte, more bool, err error) {
	i := bytes.IndexByte(buf[l.scan:], '\n')
	if i < 0 {
		l.scan = len(buf)
		return nil, true, l.judge(buf[l.start:], limit, tooLong)
	}
	end := l.scan + i
	if end-1-l.start > limit {
		return nil, false, l.judge(buf[l.start:end+1], limit, tooLong)
	}
	if end == l.start || buf[end-1] != '\r' {
		return nil, false, errLineEnding
	}
	line = buf[l.start : end-1]
	l.start, l.scan = end+1, end+1
	return line, false, nil
}

// judge refuses the beginning of a line that can not become a good one: a CR that no LF follows, or more than limit bytes. Only
// the first limit bytes and a line end count, so that what comes later can not change the verdict.
func (l *lines) judge(part []byte, limit int, tooLong *exchange.Reject) error {
	window := part[:min(len(part), limit+2)]
	if cr := bytes.IndexByte(window, '\r'); cr >= 0 && cr+1 < len(window) && window[cr+1] != '\n' {
		return errLineEnding
	}
	if lf := bytes.IndexByte(window, '\n'); lf == 0 || lf > 0 && window[lf-1] != '\r' {
		return errLineEnding
	}
	if len(part) > limit+1 || len(part) == limit+1 && part[limit] != '\r' {
		return tooLong
	}
	return nil
}
