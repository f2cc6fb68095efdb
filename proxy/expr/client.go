package expr

import (
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"strconv"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
)

func remoteAddr(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return address(dst, x.Client.Addr)
}

func peerAddr(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return address(dst, x.Client.Peer.Addr())
}

func serverAddr(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return address(dst, x.Client.Local.Addr())
}

func address(dst []byte, a netip.Addr) ([]byte, bool) { return a.AppendTo(dst), a.IsValid() }

func binaryRemoteAddr(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	switch a := x.Client.Addr; {
	case !a.IsValid():
		return dst, false
	case a.Is4():
		four := a.As4()
		return append(dst, four[:]...), true
	default:
		sixteen := a.As16()
		return append(dst, sixteen[:]...), true
	}
}

func peerPort(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return port(dst, x.Client.Peer.Port())
}

func serverPort(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return port(dst, x.Client.Local.Port())
}

func passPort(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return port(dst, x.Client.Port)
}

func port(dst []byte, p uint16) ([]byte, bool) {
	if p == 0 {
		return dst, false
	}
	return strconv.AppendUint(dst, uint64(p), 10), true
}

func forwardedFor(dst []byte, x *exchange.Exchange, n *name) ([]byte, bool) {
	if chain := x.Request.Fields.Get(exchange.XForwardedFor); chain != nil {
		return append(dst, chain...), true
	}
	return remoteAddr(dst, x, n)
}

func sslProtocol(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	switch x.Client.TLSVersion {
	case tls.VersionTLS10:
		return append(dst, "TLSv1"...), true
	case tls.VersionTLS11:
		return append(dst, "TLSv1.1"...), true
	case tls.VersionTLS12:
		return append(dst, "TLSv1.2"...), true
	case tls.VersionTLS13:
		return append(dst, "TLSv1.3"...), true
	}
	return dst, false
}

func sslCipher(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	suite := opensslNames[x.Client.CipherSuite]
	return append(dst, suite...), suite != ""
}

// opensslNames are OpenSSL's names of suites. It is never written after it is built.
var opensslNames = func() map[uint16]string {
	m := map[uint16]string{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		m[s.ID] = router.OpenSSLName(s.Name)
	}
	return m
}()

func sslSessionReused(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	switch {
	case x.Client.Resumed:
		return append(dst, 'r'), true
	case x.Client.TLSVersion != 0:
		return append(dst, '.'), true
	}
	return dst, false
}

// never is for what nginx has a variable for and Podlane never has a value.
func never(dst []byte, _ *exchange.Exchange, _ *name) ([]byte, bool) { return dst, false }

func connection(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Client.Connection == 0 {
		return dst, false
	}
	return strconv.AppendUint(dst, x.Client.Connection, 10), true
}

func connectionRequests(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Client.Requests == 0 {
		return dst, false
	}
	return strconv.AppendInt(dst, int64(x.Client.Requests), 10), true
}

func sslServerName(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return append(dst, x.Client.ServerName...), x.Client.ServerName != ""
}

// sslClientVerify appends how the client stands under the rules of the request's own host, whatever its handshake was made under.
func sslClientVerify(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if !x.Client.TLS {
		return dst, false
	}
	var verdict router.Verdict
	if x.Route != nil && x.Route.TLS != nil {
		verdict = x.Client.Verdict(x.Route.TLS, x.Timing.Start)
	}
	switch verdict.Outcome {
	case router.NoCertificate:
		return append(dst, "NONE"...), true
	case router.Verified:
		return append(dst, "SUCCESS"...), true
	}
	return append(append(dst, "FAILED:"...), verdict.Reason...), true
}

// certificate returns the client's certificate, nil where it showed none.
func certificate(x *exchange.Exchange) *x509.Certificate {
	if x.Client.Credentials == nil {
		return nil
	}
	return x.Client.Credentials.Certificate()
}

func sslClientSubject(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if certificate(x) == nil {
		return dst, false
	}
	subject, _ := x.Client.Credentials.Names()
	return append(dst, subject...), true
}

func sslClientIssuer(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if certificate(x) == nil {
		return dst, false
	}
	_, issuer := x.Client.Credentials.Names()
	return append(dst, issuer...), true
}

func sslClientSerial(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	c := certificate(x)
	if c == nil || c.SerialNumber == nil {
		return dst, false
	}
	// RFC 5280 section 4.1.2.2 allows 20 bytes; a longer number is not worth memory for each request.
	var digits [32]byte
	n := max(1, (c.SerialNumber.BitLen()+7)/8)
	if n > len(digits) {
		return dst, false
	}
	for _, b := range c.SerialNumber.FillBytes(digits[:n]) {
		const hexDigits = "0123456789ABCDEF"
		dst = append(dst, hexDigits[b>>4], hexDigits[b&0xf])
	}
	return dst, true
}

func sslClientFingerprint(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	c := certificate(x)
	if c == nil {
		return dst, false
	}
	sum := sha1.Sum(c.Raw)
	return hex.AppendEncode(dst, sum[:]), true
}
