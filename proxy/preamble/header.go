package preamble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
)

// Version is a version of the PROXY protocol (https://www.haproxy.org/download/3.3/doc/proxy-protocol.txt).
type Version uint8

// The versions: a line of text, and a binary header.
const (
	V1 Version = 1
	V2 Version = 2
)

// Header is what a header of the PROXY protocol says: the two ends of the connection that its sender passes on.
type Header struct {
	// Source is the client and Destination the address that it connected to. Both are invalid where the sender names none: it speaks
	// for itself (LOCAL, as health checks do), or for a connection without IP addresses.
	Source, Destination netip.AddrPort
}

// The limits of headers. That of version 1 is the specification's. That of version 2 is ours: the specification allows 64 KiB, of which
// addresses take 36 bytes and everything that load balancers are known to add (a certificate's subject among it) a few hundred.
const (
	maxV1 = 107
	maxV2 = 4 << 10
	// MaxHeader is the length that no header exceeds.
	MaxHeader = fixedV2 + maxV2
)

const (
	signatureV1 = "PROXY "
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	fixedV2     = len(signatureV2) + 4
)

// The errors of ParseHeader beside ErrShort.
var (
	errNoHeader = errors.New("proxy protocol: the connection does not begin with a header")
	errLong     = errors.New("proxy protocol: the header is too long")
	errLine     = errors.New("proxy protocol: malformed header of version 1")
	errAddress  = errors.New("proxy protocol: malformed address")
	errPort     = errors.New("proxy protocol: malformed port")
	errCommand  = errors.New("proxy protocol: unknown version or command")
	errFamily   = errors.New("proxy protocol: unknown address family or transport")
	errTooShort = errors.New("proxy protocol: no room for the addresses of the family")
	errMixed    = errors.New("proxy protocol: an address is not of the family that is named")
)

// ParseHeader reads the header, of either version, that b begins with, and returns its length in bytes. The error is ErrShort where b is the
// beginning of a header, which no more than MaxHeader bytes make whole, and another where no header can come of b.
func ParseHeader(b []byte) (h Header, n int, err error) {
	switch {
	case begins(b, signatureV2):
		return parseV2(b)
	case begins(b, signatureV1):
		return parseV1(b)
	}
	return Header{}, 0, errNoHeader
}

// begins reports whether b begins with prefix, as far as b goes.
func begins(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

// parseV1 reads "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" and its like.
func parseV1(b []byte) (Header, int, error) {
	line := b[:min(len(b), maxV1)]
	end := bytes.IndexByte(line, '\n')
	switch {
	case end < 0 && len(line) == maxV1:
		return Header{}, 0, errLong
	case end < 0:
		return Header{}, 0, ErrShort
	case end <= len(signatureV1) || line[end-1] != '\r':
		return Header{}, 0, errLine
	}
	h, err := parseLine(string(line[len(signatureV1) : end-1]))
	if err != nil {
		return Header{}, 0, err
	}
	return h, end + 1, nil
}

// parseLine reads what stands between "PROXY " and the end of the line.
func parseLine(line string) (h Header, err error) {
	family, rest, more := strings.Cut(line, " ")
	if family == "UNKNOWN" {
		// Whatever else is in the line is to be ignored, but for the byte that cannot be in it.
		if strings.IndexByte(rest, '\r') >= 0 {
			return Header{}, errLine
		}
		return Header{}, nil
	}
	if family != "TCP4" && family != "TCP6" || !more {
		return Header{}, errLine
	}
	var words [4]string
	for i := range words {
		if words[i], rest, more = strings.Cut(rest, " "); more == (i == len(words)-1) {
			return Header{}, errLine
		}
	}
	source, err := parseText(words[0], words[2], family)
	if err != nil {
		return Header{}, err
	}
	destination, err := parseText(words[1], words[3], family)
	if err != nil {
		return Header{}, err
	}
	return Header{source, destination}, nil
}

// parseText reads an address and its port in the only form that the specification has for each.
func parseText(address, port, family string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(address)
	switch {
	case err != nil || a.Zone() != "":
		return netip.AddrPort{}, errAddress
	case a.Is4() != (family == "TCP4"):
		return netip.AddrPort{}, errMixed
	}
	if port == "" || len(port) > 5 || port[0] == '0' && len(port) > 1 {
		return netip.AddrPort{}, errPort
	}
	n := 0
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return netip.AddrPort{}, errPort
		}
		n = 10*n + int(port[i]-'0')
	}
	if n > 1<<16-1 {
		return netip.AddrPort{}, errPort
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// The bytes 13 and 14 of a header of version 2.
const (
	local       = 0x20
	proxied     = 0x21
	unspecified = 0x00
	tcp4        = 0x11
	tcp6        = 0x21
	unixStream  = 0x31
)

// The lengths of the two addresses, with their ports, in version 2.
const (
	lenTCP4 = 2 * (4 + 2)
	lenTCP6 = 2 * (16 + 2)
	lenUnix = 2 * 108
)

// parseV2 reads a binary header. What follows the addresses (TLVs: certificates, names of virtual networks) is skipped.
func parseV2(b []byte) (Header, int, error) {
	// Each byte is judged as soon as it is there.
	at := len(signatureV2)
	if len(b) > at && b[at] != local && b[at] != proxied {
		return Header{}, 0, errCommand
	}
	if len(b) < fixedV2 {
		return Header{}, 0, ErrShort
	}
	length := int(binary.BigEndian.Uint16(b[at+2:]))
	if length > maxV2 {
		return Header{}, 0, errLong
	}
	need := 0
	if b[at] == proxied {
		switch b[at+1] {
		case unspecified:
		case tcp4:
			need = lenTCP4
		case tcp6:
			need = lenTCP6
		case unixStream:
			need = lenUnix
		default:
			// Datagrams too: they cannot have become this stream.
			return Header{}, 0, errFamily
		}
	}
	// With LOCAL the family means nothing, and the length may be anything.
	end := fixedV2 + length
	switch {
	case length < need:
		return Header{}, 0, errTooShort
	case len(b) < end:
		return Header{}, 0, ErrShort
	}
	var h Header
	switch p := b[fixedV2:end]; need {
	case lenTCP4:
		h.Source = binaryAddr(netip.AddrFrom4([4]byte(p)), p[8:])
		h.Destination = binaryAddr(netip.AddrFrom4([4]byte(p[4:])), p[10:])
	case lenTCP6:
		h.Source = binaryAddr(netip.AddrFrom16([16]byte(p)), p[32:])
		h.Destination = binaryAddr(netip.AddrFrom16([16]byte(p[16:])), p[34:])
	}
	return h, end, nil
}

func binaryAddr(a netip.Addr, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}
