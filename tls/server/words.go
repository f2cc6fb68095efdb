package server

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// List is what a list of words was understood as.
type List[T comparable] struct {
	// Values are what the known words stand for, each once. nil means the default.
	Values []T
	// Unknown are the words that mean nothing here, as they were written, for a report to who wrote them.
	Unknown []string
}

// ParseVersions reads TLS versions in nginx's words (ssl_protocols): "TLSv1.2 TLSv1.3". It returns crypto/tls's numbers of
// the lowest and the highest, 0 for empty text. Unlike nginx it refuses SSLv2 and SSLv3, which crypto/tls does not
// speak, and sets with a gap, which clients cannot be offered.
func ParseVersions(text string) (lowest, highest uint16, err error) {
	var listed [tls.VersionTLS13 + 1 - tls.VersionTLS10]bool
	for _, word := range words(text, " \t,") {
		v, ok := versionOf(word)
		if !ok {
			return 0, 0, fmt.Errorf("unknown TLS version %q: use TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3", word)
		}
		listed[v-tls.VersionTLS10] = true
		if lowest == 0 || v < lowest {
			lowest = v
		}
		highest = max(highest, v)
	}
	for v := lowest; v < highest; v++ {
		if !listed[v-tls.VersionTLS10] {
			return 0, 0, fmt.Errorf("%s is missing between %s and %s", tls.VersionName(v), tls.VersionName(lowest), tls.VersionName(highest))
		}
	}
	return lowest, highest, nil
}

func versionOf(word string) (uint16, bool) {
	switch strings.ToLower(word) {
	case "tlsv1", "tlsv1.0":
		return tls.VersionTLS10, true
	case "tlsv1.1":
		return tls.VersionTLS11, true
	case "tlsv1.2":
		return tls.VersionTLS12, true
	case "tlsv1.3":
		return tls.VersionTLS13, true
	}
	return 0, false
}

// ParseCurves reads key exchanges by OpenSSL's, NIST's or Go's names: "X25519:prime256v1". "auto" and empty text are the
// default. It fails when no name is known.
func ParseCurves(text string) (List[tls.CurveID], error) {
	var l List[tls.CurveID]
	if len(text) > maxList {
		return l, fmt.Errorf("a list of key exchanges has at most %d bytes, and this has %d", maxList, len(text))
	}
	for _, word := range words(text, " \t,:") {
		if strings.EqualFold(word, "auto") {
			return List[tls.CurveID]{}, nil
		}
		if id, ok := curveOf(word); ok {
			l.add(id)
		} else {
			l.Unknown = append(l.Unknown, word)
		}
	}
	if len(l.Values) == 0 && len(l.Unknown) > 0 {
		return l, fmt.Errorf("no known curve in %q", text)
	}
	return l, nil
}

func curveOf(word string) (tls.CurveID, bool) {
	switch strings.ToLower(word) {
	case "x25519":
		return tls.X25519, true
	case "prime256v1", "secp256r1", "p-256", "curvep256":
		return tls.CurveP256, true
	case "secp384r1", "p-384", "curvep384":
		return tls.CurveP384, true
	case "secp521r1", "p-521", "curvep521":
		return tls.CurveP521, true
	case "x25519mlkem768":
		return tls.X25519MLKEM768, true
	case "secp256r1mlkem768":
		return tls.SecP256r1MLKEM768, true
	case "secp384r1mlkem1024":
		return tls.SecP384r1MLKEM1024, true
	}
	return 0, false
}

// add appends those of vs that l does not have.
func (l *List[T]) add(vs ...T) {
	for _, v := range vs {
		if !slices.Contains(l.Values, v) {
			l.Values = append(l.Values, v)
		}
	}
}

// remove takes vs out of l.
func (l *List[T]) remove(vs []T) {
	l.Values = slices.DeleteFunc(l.Values, func(v T) bool { return slices.Contains(vs, v) })
}

// words splits text at any of the separators and drops empty parts.
func words(text, separators string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(separators, r) })
}
