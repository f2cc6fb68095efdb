package server

import (
	"crypto/tls"
	"slices"
)

const http2 = "h2"

// withoutHTTP2 returns config, or where its handshake with hello would end below what HTTP/2 asks of TLS (RFC 9113 section 9.2) a copy that does not
// offer HTTP/2. crypto/tls chooses the protocol before the cipher suite and looks at neither for the other's sake, and a client that is given HTTP/2
// with a suite of its appendix A gives up with INADEQUATE_SECURITY, where over HTTP/1.1 it is served.
//
// A copy has no ticket keys of its own where config has none: crypto/tls then takes the listener's.
func withoutHTTP2(config *tls.Config, hello *tls.ClientHelloInfo) *tls.Config {
	if !slices.Contains(hello.SupportedProtos, http2) || !slices.Contains(config.NextProtos, http2) || bearsHTTP2(config, hello) {
		return config
	}
	config = config.Clone()
	config.NextProtos = slices.DeleteFunc(slices.Clone(config.NextProtos), func(p string) bool { return p == http2 })
	return config
}

// bearsHTTP2 says whether the handshake of config with hello ends in what HTTP/2 may be spoken over. Which certificate it will be is not known
// yet, so of those for RSA keys and those for ECDSA keys each must do.
func bearsHTTP2(config *tls.Config, hello *tls.ClientHelloInfo) bool {
	var version uint16
	for _, v := range hello.SupportedVersions {
		if v <= config.MaxVersion {
			version = max(version, v)
		}
	}
	if version != tls.VersionTLS12 {
		return version > tls.VersionTLS12
	}
	var rsa, ecdsa standing
	for _, id := range suitesUnder(config) {
		if !slices.Contains(hello.CipherSuites, id) {
			continue
		}
		switch id {
		case tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256: // of TLS 1.3 alone
		case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
			rsa.good = true
		case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
			ecdsa.good = true
		case tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256:
			ecdsa.bad = true
		default:
			rsa.bad = true
		}
	}
	return rsa.does() && ecdsa.does()
}

// standing is which suites both sides have for one kind of key: crypto/tls takes the good ones first.
type standing struct{ good, bad bool }

func (s standing) does() bool { return s.good || !s.bad }

// suitesUnder returns the suites that config offers, in its list or, without one, as crypto/tls has it.
func suitesUnder(config *tls.Config) []uint16 {
	if config.CipherSuites != nil {
		return config.CipherSuites
	}
	var ids []uint16
	for _, s := range tls.CipherSuites() {
		ids = append(ids, s.ID)
	}
	return ids
}
