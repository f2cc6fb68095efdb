package router

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
)

// This file is what is spoken with Pods: the version of HTTP, and TLS. The values here only say so; proxy/upstream does the handshakes.

// The names of the families of annotations whose parsed values are a PodScheme, a PodTLSOptions, and whether the Service's own address is used. Build knows them, because what they say is
// part of a Backend: a Service's appProtocol may say the same.
const (
	PodSchemeFamily = "backend-protocol"
	PodTLSFamily    = "proxy-ssl"
	ServiceFamily   = "service-upstream"
)

// PodProtocol is the version of HTTP that Pods speak.
type PodProtocol uint8

// The versions.
const (
	PodHTTP1 PodProtocol = iota
	PodHTTP2
)

// PodScheme is what Pods speak, in the words of ingress-nginx's backend-protocol.
type PodScheme uint8

// The schemes.
const (
	// PodDefault says nothing: the Service's appProtocol counts, and HTTP without one.
	PodDefault PodScheme = iota
	// PodPlain is HTTP/1.1 in clear, PodSecure over TLS.
	PodPlain
	PodSecure
	// PodLikeClient is PodSecure for requests that came over TLS, and PodPlain for others.
	PodLikeClient
	// PodH2C is HTTP/2 in clear, PodH2 over TLS: what gRPC servers speak.
	PodH2C
	PodH2
)

var podSchemeNames = [...]string{"", "HTTP", "HTTPS", "AUTO_HTTP", "GRPC", "GRPCS"}

// String returns the annotation's word for s, "" for PodDefault.
func (s PodScheme) String() string { return podSchemeNames[s] }

// ParsePodScheme returns the PodScheme of an annotation's word, in any case; ok is false for other words.
func ParsePodScheme(word string) (s PodScheme, ok bool) {
	for i, name := range podSchemeNames {
		if i > 0 && strings.EqualFold(word, name) {
			return PodScheme(i), true
		}
	}
	return PodDefault, false
}

// PodSchemeOf returns what the appProtocol of a Service's port says: the names of Kubernetes and of IANA, and those that meshes use. known is
// false for names that mean nothing here.
func PodSchemeOf(appProtocol string) (s PodScheme, known bool) {
	switch strings.ToLower(appProtocol) {
	case "":
		return PodDefault, true
	case "http", "ws", "kubernetes.io/ws", "tcp":
		return PodPlain, true
	case "https", "wss", "kubernetes.io/wss", "tls":
		return PodSecure, true
	case "h2c", "kubernetes.io/h2c", "http2", "grpc":
		return PodH2C, true
	case "h2", "grpcs":
		return PodH2, true
	}
	return PodDefault, false
}

// Protocol is the version of HTTP.
func (s PodScheme) Protocol() PodProtocol {
	if s == PodH2C || s == PodH2 {
		return PodHTTP2
	}
	return PodHTTP1
}

// Encrypted says whether TLS is spoken, to some clients' requests at least.
func (s PodScheme) Encrypted() bool { return s == PodSecure || s == PodLikeClient || s == PodH2 }

// PodTLSOptions are what the annotations of one Ingress say about TLS with its Pods.
type PodTLSOptions struct {
	// Secret is namespace/name or name, as written, of the Secret with ca.crt and, optionally, tls.crt and tls.key; "" for none.
	Secret string
	// Verify asks for a certificate that ca.crt has signed, with at most Depth others in between.
	Verify bool
	Depth  int
	// Name is what the certificate must be for, and what is asked for with SendName (SNI); "" is the Service's own name in the cluster.
	Name     string
	SendName bool
	// Lowest and Highest are the versions of TLS, in crypto/tls's numbers; 0 is the default.
	Lowest, Highest uint16
	// Ciphers are the suites of TLS 1.2 and below; nil is the default.
	Ciphers []uint16
}

// String returns the options for the text of a Table.
func (o PodTLSOptions) String() string {
	var parts []string
	if o.Verify {
		parts = append(parts, fmt.Sprintf("verified, depth %d", o.Depth))
	} else {
		parts = append(parts, "not verified")
	}
	if o.Secret != "" {
		parts = append(parts, "Secret "+o.Secret)
	}
	if o.Name != "" {
		parts = append(parts, "name "+o.Name)
	}
	if o.SendName {
		parts = append(parts, "SNI")
	}
	if o.Lowest != 0 {
		parts = append(parts, tls.VersionName(o.Lowest)+" to "+tls.VersionName(o.Highest))
	}
	if len(o.Ciphers) > 0 {
		parts = append(parts, fmt.Sprintf("%d cipher suites", len(o.Ciphers)))
	}
	return strings.Join(parts, ", ")
}

// PodTLSID identifies settings of TLS with Pods: two with equal IDs are the same. It is comparable.
type PodTLSID [sha256.Size]byte

// PodTLS is the settings of TLS with the Pods of some Backends. It is immutable.
type PodTLS struct {
	PodTLSOptions
	// Authorities sign the certificates of the Pods. There is at least one where Verify is set.
	Authorities []*x509.Certificate
	// Certificate is shown to Pods that ask for one; nil for none.
	Certificate *tls.Certificate

	id PodTLSID
	attachment
}

// NewPodTLS returns the settings that o and the content of its Secret come to. The caller must not change the slice any more.
func NewPodTLS(o PodTLSOptions, authorities []*x509.Certificate, certificate *tls.Certificate) *PodTLS {
	p := &PodTLS{PodTLSOptions: o, Authorities: authorities, Certificate: certificate}
	var text bytes.Buffer
	put := func(parts ...[]byte) {
		_ = binary.Write(&text, binary.BigEndian, int64(len(parts))) // a Buffer never fails
		for _, part := range parts {
			_ = binary.Write(&text, binary.BigEndian, int64(len(part)))
			text.Write(part)
		}
	}
	put([]byte(fmt.Sprintf("%t %d %t %d %d %v", o.Verify, o.Depth, o.SendName, o.Lowest, o.Highest, o.Ciphers)), []byte(o.Name))
	for _, c := range authorities {
		put(c.Raw)
	}
	if certificate != nil {
		put(certificate.Certificate...)
	}
	p.id = sha256.Sum256(text.Bytes())
	return p
}

// ID identifies the settings.
func (p *PodTLS) ID() PodTLSID { return p.id }

// Same says whether p and q are the same settings. Both may be nil.
func (p *PodTLS) Same(q *PodTLS) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p == q || p.id == q.id
}

// ServerName is the name of b's Pods for TLS: what the settings say, else that of the Service.
func (b *Backend) ServerName() string {
	switch {
	case b.TLS == nil:
		return ""
	case b.TLS.Name != "":
		return b.TLS.Name
	case b.ExternalName != "":
		return b.ExternalName
	}
	return b.Service.Name + "." + b.Service.Namespace + ".svc"
}
