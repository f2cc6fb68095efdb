package preamble

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// AppendHeader appends the header of the given version that says h. Addresses of different families are both written as IPv6 ones. Where h
// has not both addresses, the header says that nothing is known of them.
func AppendHeader(dst []byte, v Version, h Header) []byte {
	if !h.Source.IsValid() || !h.Destination.IsValid() {
		if v == V1 {
			return append(dst, signatureV1+"UNKNOWN\r\n"...)
		}
		return append(append(dst, signatureV2...), local, unspecified, 0, 0)
	}
	source, destination := h.Source.Addr().Unmap().WithZone(""), h.Destination.Addr().Unmap().WithZone("")
	if source.Is4() != destination.Is4() {
		source, destination = netip.AddrFrom16(source.As16()), netip.AddrFrom16(destination.As16())
	}
	h = Header{netip.AddrPortFrom(source, h.Source.Port()), netip.AddrPortFrom(destination, h.Destination.Port())}
	if v == V1 {
		return appendV1(dst, h)
	}
	return appendV2(dst, h)
}

func appendV1(dst []byte, h Header) []byte {
	family := "TCP6 "
	if h.Source.Addr().Is4() {
		family = "TCP4 "
	}
	dst = append(append(dst, signatureV1...), family...)
	dst = append(h.Source.Addr().AppendTo(dst), ' ')
	dst = append(h.Destination.Addr().AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(h.Source.Port()), 10), ' ')
	dst = strconv.AppendUint(dst, uint64(h.Destination.Port()), 10)
	return append(dst, "\r\n"...)
}

func appendV2(dst []byte, h Header) []byte {
	dst = append(append(dst, signatureV2...), proxied)
	if h.Source.Addr().Is4() {
		dst = append(dst, tcp4, 0, lenTCP4)
	} else {
		dst = append(dst, tcp6, 0, lenTCP6)
	}
	dst = append(dst, h.Source.Addr().AsSlice()...)
	dst = append(dst, h.Destination.Addr().AsSlice()...)
	dst = binary.BigEndian.AppendUint16(dst, h.Source.Port())
	return binary.BigEndian.AppendUint16(dst, h.Destination.Port())
}
