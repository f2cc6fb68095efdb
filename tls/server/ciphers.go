package server

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"podlane.dev/podlane/router"
)

// maxList is how long a list may be, in bytes. All names that there are take less than half of it, and each word is looked for among all suites: tenants
// write such lists, too.
const maxList = 4096

// ParseCipherSuites reads a list in the form of nginx's ssl_ciphers: names of OpenSSL ("ECDHE-RSA-AES128-GCM-SHA256") or
// of IANA ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), between colons, commas or spaces; OpenSSL's words for sets
// ("ECDHE+AESGCM", "HIGH") and "!" or "-" before what shall not be in the list. Empty text is the default. Words that only
// order the list ("+", "@STRENGTH") are accepted and mean nothing, because crypto/tls orders by itself, and so
// are suites of TLS 1.3, which are always on. It fails when nothing that can be offered is left, and where the
// list has more than 4,096 bytes.
func ParseCipherSuites(text string) (List[uint16], error) {
	var l List[uint16]
	if len(text) > maxList {
		return l, fmt.Errorf("a list of cipher suites has at most %d bytes, and this has %d", maxList, len(text))
	}
	var banned []uint16
	given, known13 := words(text, " \t,:"), false
	for _, word := range given {
		sign := word[0]
		switch {
		case sign == '@' || sign == '+':
			continue
		case isTLS13Suite(word):
			known13 = true
			continue
		}
		ids, ok := suitesMeant(word)
		if !ok {
			l.Unknown = append(l.Unknown, word)
		}
		switch sign {
		case '!':
			banned = append(banned, ids...)
		case '-':
			l.remove(ids)
		default:
			l.add(ids...)
		}
	}
	// As with OpenSSL, "!" counts wherever it stands.
	l.remove(banned)
	switch {
	case len(given) == 0 || len(l.Values) > 0:
		return l, nil
	case known13 && len(l.Unknown) == 0:
		return l, fmt.Errorf("only suites of TLS 1.3 in %q: they are always on; for TLS 1.3 alone set the versions", text)
	}
	return l, fmt.Errorf("no cipher suite that can be offered in %q", text)
}

// offered returns what may be configured: the suites of TLS 1.2 and below that crypto/tls implements, without RC4 (RFC 7465
// forbids it) and 3DES (Sweet32), which OpenSSL, and so ingress-nginx, no longer builds either.
func offered() []*tls.CipherSuite {
	return slices.DeleteFunc(append(tls.CipherSuites(), tls.InsecureCipherSuites()...), func(s *tls.CipherSuite) bool {
		return !slices.Contains(s.SupportedVersions, tls.VersionTLS12) || strings.Contains(s.Name, "RC4") || strings.Contains(s.Name, "3DES")
	})
}

// suitesOf returns the suites that a name or a word for a set means. ok is false for what is no name here.
func suitesOf(word string) (ids []uint16, ok bool) {
	if word == "" {
		return nil, false
	}
	switch strings.ToUpper(word) {
	case "DEFAULT", "HIGH", "ALL":
		return DefaultCipherSuites(), true
	}
	for _, s := range offered() {
		if strings.EqualFold(word, s.Name) || strings.EqualFold(word, router.OpenSSLName(s.Name)) {
			return []uint16{s.ID}, true
		}
	}
	// A set: all suites that have every property. A property that no suite has is an unknown word.
	properties := strings.Split(word, "+")
	for _, p := range properties {
		if !slices.ContainsFunc(offered(), func(s *tls.CipherSuite) bool { return hasProperty(s, p) }) {
			return nil, false
		}
	}
	for _, s := range offered() {
		if !slices.ContainsFunc(properties, func(p string) bool { return !hasProperty(s, p) }) {
			ids = append(ids, s.ID)
		}
	}
	return ids, true
}

// suitesMeant is suitesOf without the sign that a word may have. With one, nothing is meant by what is never offered anyway.
func suitesMeant(word string) (ids []uint16, ok bool) {
	unsigned := strings.TrimLeft(word[:1], "!-") + word[1:]
	if len(unsigned) < len(word) && neverOffered(unsigned) {
		return nil, true
	}
	return suitesOf(unsigned)
}

// hasProperty reports whether OpenSSL's cipher string p (openssl-ciphers(1)) covers s.
func hasProperty(s *tls.CipherSuite, p string) bool {
	exchange, cipher, _ := strings.Cut(strings.TrimPrefix(s.Name, "TLS_"), "_WITH_")
	switch strings.ToUpper(p) {
	case "ECDHE", "EECDH", "KECDHE", "KEECDH", "ECDH":
		return strings.HasPrefix(exchange, "ECDHE")
	case "RSA", "KRSA":
		return exchange == "RSA"
	case "ARSA":
		return strings.HasSuffix(exchange, "RSA")
	case "ECDSA", "AECDSA":
		return exchange == "ECDHE_ECDSA"
	case "AES":
		return strings.HasPrefix(cipher, "AES")
	case "AES128":
		return strings.HasPrefix(cipher, "AES_128")
	case "AES256":
		return strings.HasPrefix(cipher, "AES_256")
	case "AESGCM":
		return strings.HasPrefix(cipher, "AES") && strings.Contains(cipher, "GCM")
	case "CHACHA20":
		return strings.HasPrefix(cipher, "CHACHA20")
	case "SHA", "SHA1":
		return strings.HasSuffix(cipher, "_SHA")
	case "SHA256":
		return strings.HasSuffix(cipher, "CBC_SHA256") // as a MAC, not as the hash of an AEAD suite
	case "TLSV1.2":
		return !slices.Contains(s.SupportedVersions, tls.VersionTLS11)
	case "TLSV1", "SSLV3":
		return slices.Contains(s.SupportedVersions, tls.VersionTLS11)
	}
	return false
}

// neverOffered reports whether word names what Podlane never offers, so that to exclude it changes nothing.
func neverOffered(word string) bool {
	switch strings.ToUpper(word) {
	case "ANULL", "ENULL", "NULL", "EXPORT", "EXP", "LOW", "MEDIUM", "WEAK", "MD5", "RC2", "RC4", "DES", "3DES", "IDEA", "SEED", "CAMELLIA", "ARIA",
		"PSK", "SRP", "DSS", "ADSS", "KRB5", "ADH", "AECDH", "DH", "DHE", "EDH", "KDHE", "KEDH", "GOST", "SHA384", "AESCCM", "AESCCM8":
		return true
	}
	return false
}

func isTLS13Suite(word string) bool {
	return slices.ContainsFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool {
		return strings.EqualFold(s.Name, word) && !slices.Contains(s.SupportedVersions, tls.VersionTLS12)
	})
}
