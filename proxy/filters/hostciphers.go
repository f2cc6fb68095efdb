package filters

import (
	"errors"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// The keys. The first is also the family's name.
const (
	hostCiphersKey   = router.CiphersFamily
	preferCiphersKey = "ssl-prefer-server-ciphers"
)

// HostCiphers returns the family of hosts that offer cipher suites of their own. It has no filters: Build decides for the whole host, and Routes carry
// it as Ciphers, which tls/server obeys before there is a request.
//
// A list of which nothing can be offered is ignored, as in the ConfigMap: suites keep nobody out, what is offered then is what the operator lets all
// hosts offer, and to offer nothing would shut out clients of TLS 1.2 for a name that is misspelt.
func HostCiphers(w TLSWords) Policy {
	return &Of[router.CipherChoice]{
		Of: policy.Of[router.CipherChoice]{
			Name: router.CiphersFamily,
			Doc: "Chooses the cipher suites up to TLS 1.2 that the hosts of the Ingress offer, in place of those of the ConfigMap, or of --ssl-ciphers. It holds " +
				"for the whole host: what the oldest Ingress of the owner's namespace says that has the annotation. Those of TLS 1.3 are always offered. " +
				"Handshakes that begin later obey. A request on a connection that was made for another host, with a suite that this one does not offer, gets 421.",
			Keys: []policy.Key{
				{
					Name: hostCiphersKey, Kind: policy.String, Default: "as the ConfigMap says", Example: "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
					Doc: "Cipher suites up to TLS 1.2, by OpenSSL's or IANA's names, or OpenSSL's words for sets of them, between colons. Names that Go's TLS " +
						"does not have, such as DHE's, are passed over with a Problem where others are left; a list of them alone has no effect.",
					Differs: "what Go's TLS does not have, such as DHE's suites, is not offered; which suite is used of those that both sides have is Go's choice; Ingresses of " +
						"namespaces that do not own the host have no say; a request over another host's connection, with a suite that is not offered, gets 421",
				},
				{
					Name: preferCiphersKey, Kind: policy.Bool, Where: policy.Everywhere, Default: "true", Example: "true",
					Doc:     "That the server chooses among the suites that both sides have, which it does in any case.",
					Differs: "Go's TLS chooses by what is secure first, and then by what is fast on both sides, not by the order of the list; \"false\" has no effect",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     w.parseHostCiphers,
		},
	}
}

func (w TLSWords) parseHostCiphers(v policy.Values) (router.CipherChoice, error) {
	var choice router.CipherChoice
	var errs []error
	suites, unknown, err := w.Ciphers(v.Text(hostCiphersKey, ""))
	if err != nil {
		errs = append(errs, &policy.ValueError{
			Key: hostCiphersKey, Value: v[hostCiphersKey],
			Want: `names of suites up to TLS 1.2 that Go's TLS has, between colons, as in "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"`,
		})
	} else {
		choice = router.CipherChoice{Suites: suites, Unknown: unknown}
	}
	prefer, err := v.Bool(preferCiphersKey, true)
	if err == nil && !prefer {
		err = policy.RefusedError{Refusal: &policy.Refusal{
			Name: preferCiphersKey, Harmless: true, Why: "Go's TLS chooses among the ciphers that both sides have by what is fast on both, in any case",
		}}
	}
	return choice, errors.Join(append(errs, err)...)
}
