package config

import (
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// TLS are the options of HTTPS listeners. Names are those of ingress-nginx's ConfigMap where the meaning is the same.
type TLS struct {
	// Protocols, Ciphers and Curves are lists in nginx's words.
	Protocols, Ciphers, Curves string
	// AllowLegacy accepts versions below TLS 1.2 in Protocols.
	AllowLegacy    bool
	SessionTickets bool
	// TicketKeyFiles are files with the keys of session tickets, for replicas that share no Secret. They are read at the start.
	TicketKeyFiles Words
	// RejectHandshake refuses unknown server names instead of serving the default certificate.
	RejectHandshake bool
	// KeepStale is how long the last good certificate of a broken or deleted Secret is served.
	KeepStale time.Duration

	// HandshakeTimeout bounds a handshake, Handshakes how many compute at a time (0: 64 for each processor), QueueTimeout
	// how long the others wait.
	HandshakeTimeout time.Duration
	Handshakes       int
	QueueTimeout     time.Duration
	// HelloTimeout bounds the ClientHello by itself, where it is looked at to see whether TLS passes through to a Pod.
	HelloTimeout time.Duration
}

// NewTLS returns the defaults.
func NewTLS() *TLS {
	return &TLS{
		Protocols: "TLSv1.2 TLSv1.3", Curves: "auto", SessionTickets: true, KeepStale: certs.DefaultKeepStale,
		HandshakeTimeout: server.DefaultHandshakeTimeout, QueueTimeout: server.DefaultHandshakeQueueTimeout,
		HelloTimeout: 5 * time.Second,
	}
}

// Title is the heading in --help.
func (*TLS) Title() string { return "HTTPS" }

// AddFlags binds the options to fs.
func (t *TLS) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&t.Protocols, "ssl-protocols", t.Protocols, "TLS versions: TLSv1, TLSv1.1, TLSv1.2, TLSv1.3, without a gap")
	fs.StringVar(&t.Ciphers, "ssl-ciphers", t.Ciphers,
		"cipher suites up to TLS 1.2, by OpenSSL's or IANA's names; without it those with forward secrecy and authenticated encryption")
	fs.StringVar(&t.Curves, "ssl-ecdh-curve", t.Curves, "key exchanges, as in X25519:P-256, or auto")
	fs.BoolVar(&t.AllowLegacy, "ssl-allow-legacy-protocols", t.AllowLegacy,
		"accept TLSv1 and TLSv1.1 in --ssl-protocols, which RFC 8996 forbids; for clients that nobody can renew")
	fs.BoolVar(&t.SessionTickets, "ssl-session-tickets", t.SessionTickets, "let clients resume sessions by tickets")
	fs.Var(&t.TicketKeyFiles, "ssl-session-ticket-key-file",
		"files with keys of session tickets, comma-separated: 32, 48 or 80 random bytes, or lines of base64; the first key encrypts, all decrypt")
	fs.BoolVar(&t.RejectHandshake, "ssl-reject-handshake", t.RejectHandshake,
		"refuse handshakes for server names that no Ingress lists, instead of showing the default certificate")
	addDuration(fs, &t.KeepStale, "keep-stale-certificate", "how long the last good certificate of a broken or deleted Secret is served")
	addDuration(fs, &t.HandshakeTimeout, "ssl-handshake-timeout", "how long a handshake may take")
	fs.IntVar(&t.Handshakes, "ssl-handshakes", t.Handshakes, "handshakes that compute at a time; 0 for 64 for each processor")
	addDuration(fs, &t.QueueTimeout, "ssl-handshake-queue-timeout", "how long further handshakes wait for their turn")
	addDuration(fs, &t.HelloTimeout, "ssl-client-hello-timeout",
		"with --enable-ssl-passthrough, how long a client may take to say which host it wants")
}

// Validate checks the lists of words: a word that is not understood is refused, because here it is the operator's own.
func (t *TLS) Validate() error {
	if _, err := t.Server(); err != nil {
		return err
	}
	return first(
		atLeast("keep-stale-certificate", t.KeepStale, time.Second, "1s"),
		atLeast("ssl-handshake-timeout", t.HandshakeTimeout, time.Millisecond, "1ms"),
		atLeast("ssl-handshakes", t.Handshakes, 0, "0"),
		atLeast("ssl-handshake-queue-timeout", t.QueueTimeout, time.Millisecond, "1ms"),
		atLeast("ssl-client-hello-timeout", t.HelloTimeout, time.Millisecond, "1ms"),
	)
}

// Server returns the options as tls/server takes them, or the mistake in them.
func (t *TLS) Server() (server.Options, error) {
	lowest, highest, err := server.ParseVersions(t.Protocols)
	if err != nil {
		return server.Options{}, fmt.Errorf("--ssl-protocols: %w", err)
	}
	if lowest != 0 && lowest < tls.VersionTLS12 && !t.AllowLegacy {
		return server.Options{}, fmt.Errorf("--ssl-protocols: %s is broken and below TLS 1.2: write \"TLSv1.2 TLSv1.3\", or --ssl-allow-legacy-protocols too",
			tls.VersionName(lowest))
	}
	ciphers, err := server.ParseCipherSuites(t.Ciphers)
	if err == nil {
		err = refuseUnknown(ciphers)
	}
	if err != nil {
		return server.Options{}, fmt.Errorf("--ssl-ciphers: %w: write names such as ECDHE-RSA-AES128-GCM-SHA256", err)
	}
	curves, err := server.ParseCurves(t.Curves)
	if err == nil {
		err = refuseUnknown(curves)
	}
	if err != nil {
		return server.Options{}, fmt.Errorf("--ssl-ecdh-curve: %w: write auto, or names such as X25519:P-256", err)
	}
	o := server.Options{MinVersion: lowest, MaxVersion: highest, CipherSuites: ciphers.Values, Curves: curves.Values}
	if !t.SessionTickets {
		o.Tickets = server.TicketsOff
	}
	o.TicketKeys, err = t.ticketKeys()
	return o, err
}

// ticketKeys reads the files with keys; without any there are none.
func (t *TLS) ticketKeys() (*router.TicketKeys, error) {
	const flag = "--ssl-session-ticket-key-file"
	switch {
	case len(t.TicketKeyFiles) == 0:
		return nil, nil //nolint:nilnil // no keys are no mistake
	case !t.SessionTickets:
		return nil, fmt.Errorf("%s has no effect with --ssl-session-tickets=false: write only one", flag)
	}
	var texts [][]byte
	for _, name := range t.TicketKeyFiles {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		texts = append(texts, text)
	}
	keys, err := router.ParseTicketKeys(texts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: write one with openssl rand -base64 32", flag, err)
	}
	return keys, nil
}

func refuseUnknown[T comparable](l server.List[T]) error {
	if len(l.Unknown) == 0 {
		return nil
	}
	return fmt.Errorf("%s is unknown", strings.Join(l.Unknown, ", "))
}

// Handshaker returns the limits of handshakes.
func (t *TLS) Handshaker() server.HandshakerOptions {
	return server.HandshakerOptions{Concurrency: t.Handshakes, QueueTimeout: t.QueueTimeout, Timeout: t.HandshakeTimeout}
}

// Store returns the options of the certificate store.
func (t *TLS) Store() certs.Options {
	return certs.Options{RejectUnknown: t.RejectHandshake, KeepStale: t.KeepStale}
}
