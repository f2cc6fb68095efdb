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
// is longer than limit is tooLong, and so is any where limit is negative. A CR inside a complete line is left to the caller (see bareCR).
func (l *lines) next(buf []byte, limit int, tooLong *exchange.Reject) (line []byte, more bool, err error) {
	if limit < 0 {
		return nil, false, tooLong
	}
	i := bytes.IndexByte(buf[l.scan:], '\n')
	if i < 0 {
		// What was searched before holds no CR but perhaps its last byte: a line that comes byte by byte costs no more than its length.
		from := max(l.scan-l.start-1, 0)
		l.scan = len(buf)
		return nil, true, judge(buf[l.start:], from, limit, tooLong)
	}
	end := l.scan + i
	content := end
	if end > l.start && buf[end-1] == '\r' {
		content--
	}
	if content-l.start > limit {
		return nil, false, judge(buf[l.start:end+1], 0, limit, tooLong)
	}
	if content == end {
		return nil, false, errLineEnding
	}
	line = buf[l.start:content]
	l.start, l.scan = end+1, end+1
	return line, false, nil
}

// judge refuses the beginning of a line that can not become a good one: a CR that no LF follows, or more than limit bytes of content.
// The first limit+1 bytes decide, with one more where the last of them is a CR, so that what comes later can not change the verdict.
// part[:from] is known to hold no CR.
func judge(part []byte, from, limit int, tooLong *exchange.Reject) error {
	window := part[min(from, limit+1, len(part)):min(len(part), limit+1)]
	if cr := bytes.IndexByte(window, '\r'); cr >= 0 {
		if cr += from; cr+1 < len(part) && part[cr+1] != '\n' {
			return errLineEnding
		}
	}
	if len(part) > limit && part[limit] != '\r' {
		return tooLong
	}
	return nil
}

// bareCR returns what is wrong with a complete line that was refused for why: a CR inside it, where there is one, because that is what
// judge says when the line arrives in pieces. No rule accepts a CR, so only refused lines need be looked at.
func bareCR(line []byte, why error) error {
	if bytes.IndexByte(line, '\r') >= 0 {
		return errLineEnding
	}
	return why
}
