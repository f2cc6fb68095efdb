package server_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"podlane.dev/podlane/tls/server"
)

// rdn is an attribute with a value of a given type, or several of one relative distinguished name.
type rdn []attr

type attr struct {
	oid  string
	tag  int
	text string
}

// encodeName returns the DER of a name.
func encodeName(t testing.TB, rdns ...rdn) []byte {
	t.Helper()
	type pair struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type pairSET []pair
	var names []pairSET
	for _, r := range rdns {
		var set pairSET
		for _, a := range r {
			var oid asn1.ObjectIdentifier
			for part := range strings.SplitSeq(a.oid, ".") {
				n := 0
				for _, c := range part {
					n = n*10 + int(c-'0')
				}
				oid = append(oid, n)
			}
			set = append(set, pair{oid, asn1.RawValue{Tag: a.tag, Bytes: []byte(a.text)}})
		}
		names = append(names, set)
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestDistinguishedName: what is wanted is what `openssl x509 -noout -subject -nameopt RFC2253` (3.0.19) prints of such a certificate.
func TestDistinguishedName(t *testing.T) {
	const utf8, printable, ia5, t61, bmp, numeric = asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String, asn1.TagBMPString, asn1.TagNumericString
	const cn, o, c = "2.5.4.3", "2.5.4.10", "2.5.4.6"
	for _, tc := range []struct {
		name []rdn
		want string
	}{
		{nil, ""},
		{[]rdn{{{c, printable, "DE"}}, {{o, utf8, "Acme"}}, {{cn, utf8, "client"}}}, `CN=client,O=Acme,C=DE`},
		{[]rdn{{{c, printable, "DE"}, {o, utf8, "Acme"}}, {{cn, utf8, "a"}, {"0.9.2342.19200300.100.1.1", utf8, "b"}}}, `UID=b+CN=a,O=Acme+C=DE`},
		{[]rdn{{{o, utf8, `Acme, Inc. + "Co" \ <x>; = #`}}}, `O=Acme\, Inc. \+ \"Co\" \\ \<x\>\; = #`},
		{[]rdn{{{cn, utf8, "#7"}}, {{cn, utf8, " a "}}, {{cn, utf8, " "}}, {{cn, utf8, ""}}}, `CN=,CN=\ ,CN=\ a\ ,CN=\#7`},
		{[]rdn{{{cn, utf8, "Söhne\n\x00\x7f"}}}, `CN=S\C3\B6hne\0A\00\7F`},
		{[]rdn{{{cn, t61, "S\xf6hne"}}, {{cn, bmp, "\x00S\x00\xf6\x4e\x2d"}}}, `CN=S\C3\B6\E4\B8\AD,CN=S\C3\B6hne`},
		{[]rdn{{{"1.2.840.113549.1.9.1", ia5, "a@b.example"}}, {{"0.9.2342.19200300.100.1.25", ia5, "example"}}, {{"2.5.4.9", printable, "Weg 1"}}, {{"2.5.4.17", numeric, "123 4"}}, {{"2.5.4.5", printable, "7"}}},
			`serialNumber=7,postalCode=123 4,street=Weg 1,DC=example,emailAddress=a@b.example`},
		{[]rdn{{{"1.2.3.4", utf8, "x"}}, {{cn, asn1.TagOctetString, "x"}}}, `CN=#040178,1.2.3.4=#0C0178`},
		{[]rdn{{{cn, utf8, "a,O=evil"}}, {{o, utf8, "x,CN=admin"}}}, `O=x\,CN=admin,CN=a\,O=evil`},
	} {
		if got := server.DistinguishedName(encodeName(t, tc.name...), pkix.Name{}); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
	if got := server.DistinguishedName([]byte{1, 2, 3}, pkix.Name{CommonName: "fallback"}); got != "CN=fallback" {
		t.Errorf("what does not parse is %q", got)
	}
}

// FuzzDistinguishedName: whatever a name holds, the text is one line of ASCII, and of the same length for a header field.
func FuzzDistinguishedName(f *testing.F) {
	f.Add([]byte("Acme, Inc."), 12, uint8(1))
	f.Add([]byte("\xff\x00\n"), 30, uint8(2))
	f.Fuzz(func(t *testing.T, value []byte, tag int, cut uint8) {
		der := encodeName(t, rdn{{"2.5.4.3", 1 + tag&0x1f%30, string(value)}}, rdn{{"2.5.4.10", 12, "x"}})
		for _, der := range [][]byte{der, der[:len(der)-int(cut)%len(der)], value} {
			got := server.DistinguishedName(der, pkix.Name{})
			for i := range len(got) {
				if got[i] < ' ' || got[i] > '~' {
					t.Fatalf("%q of %x", got, der)
				}
			}
		}
	})
}
