package server

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// attribute is an attribute of a distinguished name, its value as it is encoded.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// attributeSET is a relative distinguished name; encoding/asn1 takes a type for a SET by the end of its name.
type attributeSET []attribute

// shortNames are OpenSSL's short names of the attributes that are in certificates.
var shortNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.13": "description", "2.5.4.15": "businessCategory",
	"2.5.4.17": "postalCode", "2.5.4.41": "name", "2.5.4.42": "GN", "2.5.4.43": "initials", "2.5.4.44": "generationQualifier",
	"2.5.4.46": "dnQualifier", "2.5.4.65": "pseudonym", "2.5.4.97": "organizationIdentifier",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC", "1.2.840.113549.1.9.1": "emailAddress",
	"1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL", "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST", "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}

// distinguishedName returns a DER-encoded name as text, as OpenSSL and so nginx's $ssl_client_s_dn do it (RFC 2253): the last attribute first,
// everything that is not printable ASCII escaped. fallback is the same name as crypto/x509 has read it.
func distinguishedName(der []byte, fallback pkix.Name) string {
	var names []attributeSET
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return fallback.String()
	}
	var b strings.Builder
	for _, set := range slices.Backward(names) {
		for i, a := range slices.Backward(set) {
			switch {
			case i < len(set)-1:
				b.WriteByte('+')
			case b.Len() > 0:
				b.WriteByte(',')
			}
			writeAttribute(&b, &a)
		}
	}
	return b.String()
}

func writeAttribute(b *strings.Builder, a *attribute) {
	oid := a.Type.String()
	name, known := shortNames[oid]
	text, isText := textOf(&a.Value)
	switch {
	case !known:
		b.WriteString(oid)
	default:
		b.WriteString(name)
	}
	b.WriteByte('=')
	if !known || !isText {
		b.WriteByte('#')
		b.WriteString(strings.ToUpper(hex.EncodeToString(a.Value.FullBytes)))
		return
	}
	writeEscaped(b, text)
}

// textOf returns a string of one of ASN.1's types as UTF-8; ok is false for what is no string.
func textOf(v *asn1.RawValue) (text string, ok bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return "", false
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString:
		return string(v.Bytes), true
	case asn1.TagT61String:
		// Nobody encodes T.61; what is in there is Latin-1.
		var b strings.Builder
		for _, c := range v.Bytes {
			b.WriteRune(rune(c))
		}
		return b.String(), true
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return "", false
		}
		units := make([]uint16, 0, len(v.Bytes)/2)
		for i := 0; i < len(v.Bytes); i += 2 {
			units = append(units, uint16(v.Bytes[i])<<8|uint16(v.Bytes[i+1]))
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// writeEscaped writes the value of an attribute as RFC 2253 section 2.4 has it, bytes beyond ASCII in hexadecimal.
func writeEscaped(b *strings.Builder, text string) {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		c := text[i]
		switch {
		case c < ' ' || c == 0x7f || c >= utf8.RuneSelf:
			b.WriteByte('\\')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&0xf])
			continue
		case strings.IndexByte(`,+"\<>;`, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(text)-1):
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
}
