package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"podlane.dev/podlane/tls/server"
)

// Question is a request to be explained, but for its URL.
type Question struct {
	// Headers are header fields as "Name: value", in order.
	Headers []string
	// Method is "" for GET, or POST for gRPC.
	Method string
	// Client is the address at the other end of the socket, "" for one that is nobody's.
	Client string
	// ServerName is that of the handshake, "" for the host of the URL.
	ServerName string
	// HTTPVersion is 1.0, 1.1 or 2, "" for 1.1, or 2 for gRPC.
	HTTPVersion string
	// TLSMax is the highest version of TLS that the client speaks, "" for 1.3, and Ciphers what it offers of TLS 1.2 and below, "" for everything.
	TLSMax, Ciphers string
	// CertificateFile has the certificate that the client shows, in PEM, and those between it and its signer; "" for none.
	CertificateFile string
	// AuthStatus is what authentication services answer, 0 for one of 2xx.
	AuthStatus int
}

// NewQuestion returns the defaults.
func NewQuestion() *Question { return &Question{} }

// Title is the heading in --help.
func (*Question) Title() string { return "Request" }

// AddFlags binds the options to fs.
func (q *Question) AddFlags(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&q.Headers, "header", "H", q.Headers, "header field, as `\"Name: value\"`; may be given several times, and Host too")
	fs.StringVarP(&q.Method, "method", "X", q.Method, "`method`; without it GET, or POST where Content-Type is that of gRPC")
	fs.StringVar(&q.Client, "client-ip", q.Client, "`address` of the client; without it 192.0.2.1, which is nobody's")
	fs.StringVar(&q.ServerName, "sni", q.ServerName, "server `name` of the TLS handshake; without it the host of the URL")
	fs.StringVar(&q.HTTPVersion, "http-version", q.HTTPVersion, "`version` of HTTP: 1.0, 1.1 or 2; without it 1.1, or 2 where Content-Type is that of gRPC")
	fs.StringVar(&q.TLSMax, "tls-max", q.TLSMax, "highest `version` of TLS that the client speaks: 1.0, 1.1, 1.2 or 1.3; without it 1.3")
	fs.StringVar(&q.Ciphers, "ciphers", q.Ciphers, "cipher `suites` that the client offers up to TLS 1.2, by OpenSSL's or IANA's names; without it everything")
	fs.StringVar(&q.CertificateFile, "client-cert", q.CertificateFile,
		"PEM `file` with the certificate that the client shows, and those between it and its signer; its key is not needed")
	fs.IntVar(&q.AuthStatus, "auth-status", q.AuthStatus, "`status` that a service of auth-url answers, as in 401: it is not asked; 0 is one of 2xx")
}

// tlsVersion returns crypto/tls's number of a version as the user writes it.
func tlsVersion(written string) (number uint16, known bool) {
	number, known = map[string]uint16{
		"": tls.VersionTLS13, "1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13,
	}[written]
	return number, known
}

// Validate checks the fields, the address and the versions; files are read later.
func (q *Question) Validate() error {
	for _, h := range q.Headers {
		if name, _, ok := strings.Cut(h, ":"); !ok || strings.TrimSpace(name) == "" {
			return fmt.Errorf("--header: %q is no header field: write \"Name: value\"", h)
		}
	}
	if _, err := netip.ParseAddr(q.Client); err != nil && q.Client != "" {
		return fmt.Errorf("--client-ip: %q is not an IP address: write 203.0.113.7", q.Client)
	}
	switch q.HTTPVersion {
	case "", "1.0", "1.1", "2":
	default:
		return fmt.Errorf("--http-version: %q is not known: write 1.0, 1.1 or 2", q.HTTPVersion)
	}
	if _, known := tlsVersion(q.TLSMax); !known {
		return fmt.Errorf("--tls-max: %q is not known: write 1.0, 1.1, 1.2 or 1.3", q.TLSMax)
	}
	if q.AuthStatus != 0 && (q.AuthStatus < 200 || q.AuthStatus > 599) {
		return fmt.Errorf("--auth-status: %d is not from 200 to 599: write 401", q.AuthStatus)
	}
	_, err := q.Hello("")
	return err
}

// Hello returns what the client says in its handshake for a server name.
func (q *Question) Hello(serverName string) (*server.Hello, error) {
	highest, _ := tlsVersion(q.TLSMax)
	h := &server.Hello{ServerName: serverName, MaxVersion: highest, Protocols: []string{"h2", "http/1.1"}}
	if q.Ciphers == "" {
		return h, nil
	}
	suites, err := server.ParseCipherSuites(q.Ciphers)
	if err == nil && len(suites.Unknown) > 0 {
		err = fmt.Errorf("%s is not known", strings.Join(suites.Unknown, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("--ciphers: %w: write names as in ECDHE-RSA-AES128-GCM-SHA256, with colons between them", err)
	}
	h.CipherSuites = suites.Values
	return h, nil
}

// maxCertificates bounds what a client shows: it goes to the replica in the address of a page.
const maxCertificates = 8 << 10

// Certificates reads CertificateFile.
func (q *Question) Certificates() ([]*x509.Certificate, error) {
	if q.CertificateFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(q.CertificateFile) //nolint:gosec // G304: a file that the user names
	if err != nil {
		return nil, fmt.Errorf("--client-cert: %w", err)
	}
	list, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("--client-cert %s: %w", q.CertificateFile, err)
	}
	return list, nil
}

// ParseCertificates reads what a client shows from PEM: blocks that are no certificates are passed over.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	size := 0
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(list)+1, err)
		}
		list = append(list, c)
		size += len(block.Bytes)
	}
	switch {
	case len(list) == 0:
		return nil, errors.New("there is no certificate in it: write a file with -----BEGIN CERTIFICATE-----")
	case size > maxCertificates:
		return nil, fmt.Errorf("its %d certificates are too large to be sent to a replica: leave out all but the client's own and those that sign it", len(list))
	}
	return list, nil
}
