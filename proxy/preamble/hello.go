package preamble

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// Hello is what a ClientHello says about where its connection is to go.
type Hello struct {
	// ServerName is the name of the extension server_name as the client spelled it, "" where there is none.
	ServerName string
	// Protocols are those that ALPN offers, best first.
	Protocols []string
}

// The limits of a ClientHello. Browsers send 0.5 to 2 KiB.
const (
	// maxMessage is the length of the handshake message with its header, and maxRecord that of a record's content (RFC 8446 section 5.1).
	maxMessage = 16 << 10
	maxRecord  = 1 << 14
	// MaxHello is the length on the wire, the headers of records included: a record may hold a single byte of the message.
	MaxHello = 64 << 10
)

const (
	recordHeader   = 5
	messageHeader  = 4
	handshake      = 22 // the type of records
	clientHello    = 1  // the type of messages
	extServerName  = 0
	extALPN        = 16
	nameTypeHost   = 0
	lenRandom      = 32
	lenVersion     = 2
	majorOfRecords = 3
)

// The errors of Sniffer.Hello beside ErrShort.
var (
	errNotTLS     = errors.New("tls: the connection does not begin with a handshake")
	errRecord     = errors.New("tls: a record of the ClientHello is empty or too long")
	errNotHello   = errors.New("tls: the handshake does not begin with a ClientHello")
	errHelloLong  = errors.New("tls: the ClientHello is too long")
	errHello      = errors.New("tls: malformed ClientHello")
	errTwice      = errors.New("tls: an extension of the ClientHello is there twice")
	errExtensions = errors.New("tls: too many extensions in the ClientHello")
	errServerName = errors.New("tls: malformed server name")
	errALPN       = errors.New("tls: malformed list of protocols")
)

// Sniffer puts a ClientHello together from the records in which it comes. The zero value is ready for one connection.
type Sniffer struct {
	next    int    // where the first record lies that was not looked at
	message []byte // what came in the records before, where there is more than one
}

// Hello reads the ClientHello that b begins with. b is all that has come on the connection: of a further call's the beginning must be
// this one's. The error is ErrShort where b is the beginning of a ClientHello, which no more than MaxHello bytes make whole, and another
// where it is none, or a malformed one. A name that Hello returns is the one that crypto/tls would read of the same bytes, if it took them.
func (s *Sniffer) Hello(b []byte) (Hello, error) {
	for {
		rest := b[s.next:]
		n, err := recordLength(rest)
		switch {
		case err != nil:
			return Hello{}, err
		case s.next+recordHeader+n > MaxHello:
			return Hello{}, errHelloLong
		case len(rest) < recordHeader+n:
			return Hello{}, ErrShort
		}
		s.next += recordHeader + n
		whole, err := s.add(rest[recordHeader : recordHeader+n])
		if whole != nil || err != nil {
			if err != nil {
				return Hello{}, err
			}
			return parseHello(whole)
		}
	}
}

// recordLength returns the length of the content of the record that b begins with. It refuses what is no handshake at the first byte
// that tells.
func recordLength(b []byte) (int, error) {
	switch {
	case len(b) > 0 && b[0] != handshake, len(b) > 1 && b[1] != majorOfRecords:
		return 0, errNotTLS
	case len(b) < recordHeader:
		return 0, ErrShort
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	if n == 0 || n > maxRecord {
		return 0, errRecord
	}
	return n, nil
}

// add takes the content of one more record, and returns the message where it is whole then. What lies behind it is left to whoever
// does the handshake.
func (s *Sniffer) add(fragment []byte) (whole []byte, err error) {
	m := fragment
	if s.message != nil {
		s.message = append(s.message, fragment...)
		m = s.message
	}
	if m[0] != clientHello {
		return nil, errNotHello
	}
	n := maxMessage
	if len(m) >= messageHeader {
		n = messageHeader + int(m[1])<<16 + int(m[2])<<8 + int(m[3])
	}
	switch {
	case n > maxMessage:
		return nil, errHelloLong
	case len(m) >= messageHeader && len(m) >= n:
		return m[messageHeader:n], nil
	case s.message == nil:
		// Most messages come in one record, and are read where they lie.
		s.message = slices.Clone(m)
	}
	return nil, nil
}

// cursor reads what is left of a message. After a read that went beyond its end, failed is set, and all reads return nothing.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) take(n int) []byte {
	if c.failed || len(c.b) < n {
		c.b, c.failed = nil, true
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) byte() int {
	p := c.take(1)
	if p == nil {
		return 0
	}
	return int(p[0])
}

func (c *cursor) uint16() int {
	p := c.take(2)
	if p == nil {
		return 0
	}
	return int(binary.BigEndian.Uint16(p))
}

// within returns a cursor on the next n bytes.
func (c *cursor) within(n int) cursor {
	p := c.take(n)
	return cursor{p, c.failed}
}

// parseHello reads the body of a ClientHello (RFC 8446 section 4.1.2). It is as strict as crypto/tls about what it reads, and about the
// shape of the rest: two parties that read different names of the same bytes could be played off against each other.
func parseHello(b []byte) (Hello, error) {
	c := cursor{b: b}
	c.take(lenVersion + lenRandom)
	c.take(c.byte()) // session
	suites := c.uint16()
	c.take(suites)
	c.take(c.byte()) // compression methods
	if c.failed || suites%2 != 0 {
		return Hello{}, errHello
	}
	if len(c.b) == 0 {
		return Hello{}, nil
	}
	extensions := c.within(c.uint16())
	if c.failed || len(c.b) > 0 {
		return Hello{}, errHello
	}
	return parseExtensions(extensions)
}

func parseExtensions(c cursor) (h Hello, err error) {
	var seen [64]uint16
	kinds := seen[:0]
	for len(c.b) > 0 {
		kind := c.uint16()
		data := c.within(c.uint16())
		switch {
		case c.failed:
			return Hello{}, errHello
		case slices.Contains(kinds, uint16(kind)):
			return Hello{}, errTwice
		case len(kinds) == maxExtensions:
			return Hello{}, errExtensions
		}
		kinds = append(kinds, uint16(kind))
		switch kind {
		case extServerName:
			h.ServerName, err = parseServerName(data)
		case extALPN:
			h.Protocols, err = parseProtocols(data)
		}
		if err != nil {
			return Hello{}, err
		}
	}
	return h, nil
}

// maxExtensions bounds the search for extensions that are there twice. Browsers send under 20.
const maxExtensions = 256

// parseServerName reads the extension of RFC 6066 section 3. Names of other types than a host's, which nobody has defined, mean nothing.
func parseServerName(c cursor) (name string, err error) {
	list := c.within(c.uint16())
	if c.failed || len(c.b) > 0 || len(list.b) == 0 {
		return "", errServerName
	}
	for len(list.b) > 0 {
		kind := list.byte()
		p := list.take(list.uint16())
		switch {
		case list.failed || len(p) == 0:
			return "", errServerName
		case kind != nameTypeHost:
			continue
		case name != "":
			return "", errServerName
		}
		if name = string(p); strings.HasSuffix(name, ".") {
			return "", errServerName
		}
	}
	return name, nil
}

// parseProtocols reads the extension of RFC 7301 section 3.1.
func parseProtocols(c cursor) (protocols []string, err error) {
	list := c.within(c.uint16())
	if c.failed || len(c.b) > 0 || len(list.b) == 0 {
		return nil, errALPN
	}
	for len(list.b) > 0 {
		p := list.take(list.byte())
		if list.failed || len(p) == 0 {
			return nil, errALPN
		}
		protocols = append(protocols, string(p))
	}
	return protocols, nil
}
