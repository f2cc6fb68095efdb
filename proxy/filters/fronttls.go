package filters

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// FrontTLS says how TLS is spoken with clients. Where a field is zero the proxy's own setting holds.
type FrontTLS struct {
	// Lowest and Highest are versions, Ciphers and Curves what is offered, all in crypto/tls's numbers.
	Lowest, Highest uint16
	Ciphers, Curves []uint16
	// HTTP2 offers HTTP/2, Tickets lets clients resume sessions, Reject refuses names that nobody has a certificate for.
	HTTP2, Tickets, Reject Say
	// TicketKeys are the keys of session tickets.
	TicketKeys *router.TicketKeys
	omitted    []policy.Omission
}

// Omitted returns what in the lists has no effect.
func (v FrontTLS) Omitted() []policy.Omission { return v.omitted }

// String returns v for the text of a Table. Of keys it tells only whether they are the same.
func (v FrontTLS) String() string {
	keys := "-"
	if v.TicketKeys != nil {
		h := sha256.New()
		for _, k := range v.TicketKeys.Keys() {
			h.Write(k[:])
		}
		keys = fmt.Sprintf("%x", h.Sum(nil)[:4])
	}
	return fmt.Sprintf("versions %#x-%#x ciphers %v curves %v http2 %v tickets %v reject %v keys %s", v.Lowest, v.Highest, v.Ciphers, v.Curves, v.HTTP2, v.Tickets, v.Reject, keys)
}

// ClientTLS returns the family of how TLS is spoken with clients.
func ClientTLS(w TLSWords) Policy {
	return &Of[FrontTLS]{
		Of: policy.Of[FrontTLS]{
			Name: "client-tls",
			Doc: "How TLS is spoken with clients. What is not said here is as the flags of the same names say. Handshakes that begin later obey. Where one of TLS 1.2 " +
				"would come to a suite that HTTP/2 forbids (RFC 9113 section 9.2.2), HTTP/1.1 is spoken.",
			Keys: append(clientTLSKeys(), ticketSettings()...), IfInvalid: policy.Ignore, Global: true, Parse: w.parseFront,
		},
		Global: func(s *Settings, v FrontTLS) { s.TLS = v },
	}
}

func clientTLSKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "ssl-protocols", Kind: policy.String, Where: policy.ConfigMap, Default: "as --ssl-protocols says (TLSv1.2 TLSv1.3)", Example: "TLSv1.3",
			Doc:     "The versions of TLS, without a gap.",
			Differs: "TLSv1 and TLSv1.1, which RFC 8996 forbids, are accepted only in --ssl-protocols, with --ssl-allow-legacy-protocols",
		},
		{
			Name: "ssl-ciphers", Kind: policy.String, Where: policy.ConfigMap, Default: "as --ssl-ciphers says", Example: "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
			Doc: "Cipher suites up to TLS 1.2, by OpenSSL's or IANA's names, or OpenSSL's words for sets of them. Names that Go's TLS does not have, such as " +
				"DHE's, are passed over with a Problem where others are left; a list of them alone has no effect.",
			Differs: "what Go's TLS does not have, such as DHE's suites, is not offered; which suite is used of those that both sides have is Go's choice",
		},
		{
			Name: "ssl-ecdh-curve", Kind: policy.String, Where: policy.ConfigMap, Default: "as --ssl-ecdh-curve says (auto)", Example: "X25519:prime256v1",
			Doc:     "Key exchanges, or \"auto\". Names that Go's TLS does not have are passed over as in ssl-ciphers.",
			Differs: "what Go's TLS does not have is not offered",
		},
		{
			Name: "ssl-reject-handshake", Kind: policy.Bool, Where: policy.ConfigMap, Default: "as --ssl-reject-handshake says (false)", Example: "true",
			Doc: "Refuses handshakes for names that no Ingress has a certificate for, instead of showing the default certificate.",
		},
		{
			Name: "use-http2", Kind: policy.Bool, Where: policy.ConfigMap, Default: "as --use-http2 says (true)", Example: "false",
			Doc: "Offers HTTP/2 over TLS.",
		},
	}
}

func ticketSettings() []policy.Key {
	return []policy.Key{
		{
			Name: "ssl-session-tickets", Kind: policy.Bool, Where: policy.ConfigMap, Default: "as --ssl-session-tickets says (true)", Example: "false",
			Doc:     "Lets clients resume sessions by tickets.",
			Differs: "the default is \"true\": there is no other way to resume a session, because there is no cache of them",
		},
		{
			Name: "ssl-session-ticket-key", Kind: policy.String, Where: policy.ConfigMap, Default: "random ones, or those of the Secret that a flag names", Example: exampleTicketKey(),
			Doc: "The key of session tickets that all replicas share: 48 or 80 random bytes in base64. Several lines are several keys, of which the first encrypts " +
				"and all decrypt. A Secret is a better place for it: --ssl-session-ticket-key-secret.",
		},
	}
}

// exampleTicketKey is of the right length, and of no use.
func exampleTicketKey() string { return strings.Repeat("QUJD", 16) }

func (w TLSWords) parseFront(v policy.Values) (FrontTLS, error) {
	var f FrontTLS
	var errs []error
	refuse := func(key, want string) {
		errs = append(errs, &policy.ValueError{Key: key, Value: v[key], Want: want})
	}
	var err error
	if f.Lowest, f.Highest, err = w.Versions(v.Text("ssl-protocols", "")); err != nil || f.Lowest != 0 && f.Lowest < leastVersion {
		f.Lowest, f.Highest = 0, 0
		refuse("ssl-protocols", `"TLSv1.2 TLSv1.3", or one of the two; older ones are for the flag --ssl-protocols alone`)
	}
	for _, list := range []struct {
		key, example string
		parse        func(string) ([]uint16, []string, error)
		into         *[]uint16
	}{
		{"ssl-ciphers", "ECDHE-RSA-AES128-GCM-SHA256", w.Ciphers, &f.Ciphers},
		{"ssl-ecdh-curve", "X25519:prime256v1", w.Curves, &f.Curves},
	} {
		values, unknown, err := list.parse(v.Text(list.key, ""))
		if err != nil {
			refuse(list.key, `names that Go's TLS has, between colons, as in "`+list.example+`"`)
			continue
		}
		*list.into = values
		if len(unknown) > 0 {
			f.omitted = append(f.omitted, policy.Omission{Key: list.key, Message: fmt.Sprintf("Go's TLS has no %.200q: the others are offered", strings.Join(unknown, ":"))})
		}
	}
	for _, one := range []struct {
		key string
		say *Say
	}{{"ssl-reject-handshake", &f.Reject}, {"use-http2", &f.HTTP2}, {"ssl-session-tickets", &f.Tickets}} {
		if *one.say, err = say(v, one.key); err != nil {
			errs = append(errs, err)
		}
	}
	if text := v.Text("ssl-session-ticket-key", ""); v.Has("ssl-session-ticket-key") {
		if f.TicketKeys, err = router.ParseTicketKeys([]byte(text)); err != nil {
			errs = append(errs, fmt.Errorf("ssl-session-ticket-key: %w", err)) // the value stays unsaid
		}
	}
	return f, errors.Join(errs...)
}

// leastVersion is TLS 1.2, in crypto/tls's numbers.
const leastVersion = 0x0303
