package filters

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// The statuses that this family answers with. nginx's own 495 and 496 are 400 on the wire.
const (
	statusFound        = 302
	statusUnauthorized = 401
	statusForbidden    = 403
	statusUnavailable  = 503
)

// The fields in which the Pod is told about the client, as ingress-nginx spells them. No client may set one: they begin alike, so all are removed.
const (
	clientFields     = "ssl-client-"
	verifyField      = "ssl-client-verify"
	subjectField     = "ssl-client-subject-dn"
	issuerField      = "ssl-client-issuer-dn"
	certificateField = "ssl-client-cert"
)

// The bounds of what is written: a chain of a hundred is no chain.
const (
	defaultDepth = 1
	maxDepth     = 100
)

// ClientCertificate returns the family that admits clients by their certificates. Its value is a router.ClientAuth: what it asks of handshakes Build
// decides for the whole host and Routes carry as TLS; here are the answers.
func ClientCertificate() Policy {
	return &Of[router.ClientAuth]{
		Of: policy.Of[router.ClientAuth]{
			Name: router.ClientAuthFamily,
			Doc: "Admits clients by the certificates that they show in the TLS handshake. It holds for the whole host: what the oldest Ingress of " +
				"the owner's namespace says that has these annotations; an Ingress of the same host that asks for other clients has its routes closed. " +
				"The handshake completes in any case. Then clients without a certificate, or with a bad one, get 400, and those with another name " +
				"403. The Pod is told: ssl-client-verify (NONE, SUCCESS, or FAILED: and why), ssl-client-subject-dn and ssl-client-issuer-dn; " +
				"what a client sends in such fields is removed. Requests in clear have no certificate; routes whose path starts with " +
				acmePath + " answer them nevertheless. A request on a connection that was made for a host with other rules gets 421.",
			Keys:      clientCertificateKeys(),
			IfInvalid: policy.Deny,
			Parse:     parseClientAuth,
		},
		Default: func(r *router.Route) (router.ClientAuth, bool) {
			if r.TLS == nil {
				return router.ClientAuth{}, false
			}
			return r.TLS.ClientAuth, true
		},
		Request: newClientCertificateFilter,
	}
}

func clientCertificateKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "auth-tls-secret", Kind: policy.SecretName, Default: "none", Example: "default/clients-ca",
			Doc: "The Secret, as namespace/name or name, of the Ingress's own namespace, with the certificates in ca.crt that sign those of clients, and " +
				"optionally the revocation lists of all of them in ca.crl. While it is missing or broken the host answers 503.",
		},
		{
			Name: "auth-tls-verify-client", Kind: policy.String, Default: "on", Example: "optional",
			Doc: "\"on\" admits clients with a good certificate, \"optional\" also those without one, \"optional_no_ca\" also those whose issuer is " +
				"not known, \"off\" everyone.",
		},
		{
			Name: "auth-tls-verify-depth", Kind: policy.Int, Default: "1", Example: "2",
			Doc: "How many certificates may be between the client's and the one in the Secret.",
		},
		{
			Name: "auth-tls-match-cn", Kind: policy.String, Default: "none", Example: "CN=client-[0-9]+",
			Doc: "A regular expression (RE2) that begins with CN= and must match the client's name: its distinguished name, from a CN on. " +
				"It may match a part: end it with (,|$) to match all of the CN.",
			Lacks: "regular expressions are RE2",
		},
		{
			Name: "auth-tls-error-page", Kind: policy.URL, Default: "none", Example: "https://www.example.com/no-certificate",
			Doc: "Where clients are sent (302) in place of 400.",
		},
		{
			Name: "auth-tls-pass-certificate-to-upstream", Kind: policy.Bool, Default: "false", Example: "true",
			Doc: "Hands the client's certificate to the Pod: ssl-client-cert is its PEM text, percent-encoded.",
		},
	}
}

// parseClientAuth reads the annotations together. Without a Secret there is nobody to trust, so whatever would keep somebody out is a mistake then.
func parseClientAuth(v policy.Values) (router.ClientAuth, error) {
	a := router.ClientAuth{Secret: v.Text("auth-tls-secret", "")}
	var err error
	if a.Verify, err = parseVerify(v); err != nil {
		return router.ClientAuth{}, err
	}
	if a.Depth, err = v.IntRange("auth-tls-verify-depth", defaultDepth, 0, maxDepth); err != nil {
		return router.ClientAuth{}, err
	}
	if a.PassCertificate, err = v.Bool("auth-tls-pass-certificate-to-upstream", false); err != nil {
		return router.ClientAuth{}, err
	}
	page, err := v.URL("auth-tls-error-page")
	if err != nil {
		return router.ClientAuth{}, err
	}
	if page != nil {
		a.ErrorPage = page.String()
	}
	if a.MatchCN = v.Text("auth-tls-match-cn", ""); v.Has("auth-tls-match-cn") {
		if _, err := compileName(a.MatchCN); err != nil {
			return router.ClientAuth{}, err
		}
	}
	if a.Secret == "" {
		return a, needsSecret(a)
	}
	return a, nil
}

// needsSecret returns the mistake of asking for certificates without saying whose.
func needsSecret(a router.ClientAuth) error {
	var key string
	switch {
	case a.Verify != router.VerifyOff:
		key = "auth-tls-verify-client"
	case a.MatchCN != "":
		key = "auth-tls-match-cn"
	default:
		return nil
	}
	return fmt.Errorf("%s: there is no auth-tls-secret: write the Secret with the ca.crt that signs the certificates of clients", key)
}

// parseVerify returns what auth-tls-verify-client says; without it a Secret says that certificates are wanted.
func parseVerify(v policy.Values) (router.Verify, error) {
	const key = "auth-tls-verify-client"
	switch {
	case v.Has(key):
	case v.Text("auth-tls-secret", "") != "":
		return router.VerifyOn, nil
	default:
		return router.VerifyOff, nil
	}
	word := v.Text(key, "")
	for _, verify := range []router.Verify{router.VerifyOn, router.VerifyOptional, router.VerifyOptionalNoCA, router.VerifyOff} {
		if word == verify.String() {
			return verify, nil
		}
	}
	return router.VerifyOff, &policy.ValueError{Key: key, Value: v[key], Want: `"on", "optional", "optional_no_ca" or "off"`}
}

// compileName compiles auth-tls-match-cn. It is matched where an attribute CN begins, and nowhere else: a name may hold the text "CN=" in any other of
// its attributes.
func compileName(text string) (*regexp.Regexp, error) {
	const key = "auth-tls-match-cn"
	if !strings.HasPrefix(text, "CN=") {
		return nil, &policy.ValueError{Key: key, Value: text, Want: `a regular expression that begins with "CN="`}
	}
	// By itself first: a parenthesis too many must not close ours.
	if _, err := policy.Regexp(text); err != nil {
		return nil, &policy.ValueError{Key: key, Value: text, Why: err, Want: `a regular expression (RE2), as in "CN=(alice|bob)"`}
	}
	return regexp.MustCompile(`\A(?:` + text + `)`), nil
}

func newClientCertificateFilter(r *router.Route, own router.ClientAuth) exchange.RequestFilter {
	if r.TLS == nil {
		if own.Verify != router.VerifyOff {
			return closedFilter{} // Build has closed the Route, and says why
		}
		return untoldFilter{}
	}
	f := &clientCertificateFilter{policy: r.TLS, challenge: strings.HasPrefix(r.ID.Path, acmePath)}
	if r.TLS.MatchCN != "" {
		name, err := compileName(r.TLS.MatchCN)
		if err != nil {
			return closedFilter{}
		}
		f.name = name
	}
	return f
}

// closedFilter is for a Route that asks for something that nobody asks the client for.
type closedFilter struct{}

// FilterRequest answers that the Route is closed.
func (closedFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	x.Answer(statusUnavailable, exchange.RouteDenied, "this route is disabled: a policy of it is not valid\n")
	return exchange.Answered
}

// untoldFilter is for a Route whose host admits everyone: the Pod is told that nothing is known.
type untoldFilter struct{}

// FilterRequest removes what the client says about itself.
func (untoldFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	removeClientFields(&x.Request.Fields)
	x.Request.Fields.AddString(verifyField, router.Verdict{}.String())
	return exchange.Continue
}

// clientCertificateFilter admits clients as the host's policy says.
type clientCertificateFilter struct {
	policy *router.TLSPolicy
	name   *regexp.Regexp // may be nil
	// challenge says that requests in clear are answered: an ACME server has no certificate.
	challenge bool
}

// FilterRequest answers clients that are not admitted, and tells the Pod about the others.
func (f *clientCertificateFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	removeClientFields(&x.Request.Fields)
	if f.challenge && !x.Client.TLS {
		return exchange.Continue
	}
	verdict := x.Client.Verdict(f.policy, x.Timing.Start)
	if !f.policy.Verify.Admits(verdict.Outcome) {
		return f.refuse(x, verdict)
	}
	var subject, issuer string
	if x.Client.Credentials != nil {
		subject, issuer = x.Client.Credentials.Names()
	}
	if f.name != nil && !matchesName(f.name, subject) {
		x.Answer(statusForbidden, exchange.ClientCertificate, "client certificate unauthorized\n")
		return exchange.Answered
	}
	f.tell(x, verdict, subject, issuer)
	return exchange.Continue
}

// refuse answers a client that is not admitted.
func (f *clientCertificateFilter) refuse(x *exchange.Exchange, verdict router.Verdict) exchange.Verdict {
	switch {
	case f.policy.ErrorPage != "":
		x.Answer(statusFound, exchange.ClientCertificate, "302 Found\n")
		x.Response.Fields.SetString(exchange.Location, f.policy.ErrorPage)
	case verdict.Outcome == router.NoCertificate:
		x.Answer(statusBadRequest, exchange.ClientCertificate, "400 Bad Request: no required client certificate was sent\n")
	default:
		x.Answer(statusBadRequest, exchange.ClientCertificate, "400 Bad Request: the client certificate is not valid\n")
	}
	return exchange.Answered
}

// tell sets the fields for the Pod.
func (f *clientCertificateFilter) tell(x *exchange.Exchange, verdict router.Verdict, subject, issuer string) {
	fields := &x.Request.Fields
	fields.AddString(verifyField, verdict.String())
	if x.Client.Credentials == nil {
		return
	}
	certificate := x.Client.Credentials.Certificate()
	if certificate == nil {
		return
	}
	fields.AddString(subjectField, subject)
	fields.AddString(issuerField, issuer)
	if f.policy.PassCertificate {
		at := len(x.Scratch)
		x.Scratch = appendEscapedPEM(x.Scratch, certificate.Raw)
		fields.Add(certificateField, x.Scratch[at:])
		x.Scratch = x.Scratch[:at]
	}
}

// matchesName reports whether pattern matches name, a distinguished name as text, where one of its attributes begins that is a CN. A separator
// that is part of a value has a backslash before it.
func matchesName(pattern *regexp.Regexp, name string) bool {
	begins := true
	for i := 0; i < len(name); i++ {
		if begins && strings.HasPrefix(name[i:], "CN=") && pattern.MatchString(name[i:]) {
			return true
		}
		begins = name[i] == ',' || name[i] == '+'
		if name[i] == '\\' {
			i++
		}
	}
	return false
}

// removeClientFields removes what a client says about its own certificate, with underscores too: applications that get fields as variables of an
// environment take both for the same.
func removeClientFields(fields *exchange.Fields) {
	for i := range fields.Len() {
		if id, name, _, ok := fields.At(i); ok && id == exchange.Unknown && isClientField(name) {
			fields.DelAt(i)
		}
	}
}

func isClientField(name []byte) bool {
	if len(name) < len(clientFields) {
		return false
	}
	for i := range len(clientFields) {
		c := exchange.Lower(name[i])
		if c == '_' {
			c = '-'
		}
		if c != clientFields[i] {
			return false
		}
	}
	return true
}

// appendEscapedPEM appends a certificate as PEM text in which all but unreserved characters (RFC 3986 section 2.3) are percent-encoded: nginx's
// $ssl_client_escaped_cert.
func appendEscapedPEM(dst, der []byte) []byte {
	const line = 48 // bytes of DER on a line of 64 letters
	var letters [64]byte
	dst = append(dst, "-----BEGIN%20CERTIFICATE-----%0A"...)
	for len(der) > 0 {
		n := min(line, len(der))
		encoded := letters[:base64.StdEncoding.EncodedLen(n)]
		base64.StdEncoding.Encode(encoded, der[:n])
		for _, c := range encoded {
			switch c {
			case '+':
				dst = append(dst, "%2B"...)
			case '/':
				dst = append(dst, "%2F"...)
			case '=':
				dst = append(dst, "%3D"...)
			default:
				dst = append(dst, c)
			}
		}
		dst = append(dst, "%0A"...)
		der = der[n:]
	}
	return append(dst, "-----END%20CERTIFICATE-----%0A"...)
}
