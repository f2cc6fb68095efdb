package main

import (
	"crypto/tls"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// followTLS has handshakes obey what the live table says of TLS.
func (f *front) followTLS() {
	s := f.engine.Settings().TLS
	unknown := certs.ServeUnknown
	if s.Reject == filters.Yes || s.Reject == filters.Unsaid && f.options.tls.RejectHandshake {
		unknown = certs.RejectUnknown
	}
	f.certs.Treat(unknown)
	if said := s.String(); said != f.saidOfTLS {
		f.saidOfTLS = said
		f.terms.Store(termsOf(&s))
	}
}

// termsOf returns what s says as tls/server takes it.
func termsOf(s *filters.FrontTLS) *server.Terms {
	t := &server.Terms{MinVersion: s.Lowest, MaxVersion: s.Highest, CipherSuites: s.Ciphers, TicketKeys: s.TicketKeys, TicketsSaid: s.Tickets != filters.Unsaid}
	for _, c := range s.Curves {
		t.Curves = append(t.Curves, tls.CurveID(c))
	}
	if s.HTTP2 != filters.Unsaid {
		t.Protocols = (&config.HTTP2{On: s.HTTP2 == filters.Yes}).Protocols()
	}
	if s.Tickets == filters.No {
		t.Tickets = server.TicketsOff
	}
	return t
}
