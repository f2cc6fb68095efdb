package filters

import (
	"errors"
	"fmt"
	"strings"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// The families of this file have no filters: Build makes them part of the Backends of a Route, and the engine speaks accordingly.

// BackendProtocol returns the family that says what Pods speak. Its value is a router.PodScheme.
func BackendProtocol() Policy {
	const key = router.PodSchemeFamily
	return &Of[router.PodScheme]{
		Of: policy.Of[router.PodScheme]{
			Name: key,
			Doc: "Says what the Pods of the Ingress's backends speak. Without it the appProtocol of the Service's port says so: kubernetes.io/h2c, " +
				"h2c, http2 or grpc (HTTP/2 in clear), grpcs or h2 (HTTP/2 over TLS), https, tls or kubernetes.io/wss (HTTP/1.1 over TLS), and " +
				"anything else HTTP/1.1 in clear. Over HTTP/2 many requests share few connections, trailers pass both ways, and messages of gRPC " +
				"are passed on as they come; Pods that speak it get no WebSockets (501).",
			Keys: []policy.Key{{
				Name: key, Kind: policy.String, Default: "HTTP", Example: "GRPC",
				Doc:   "HTTP or HTTPS (HTTP/1.1), AUTO_HTTP (what the client used: HTTP or HTTPS), GRPC or GRPCS (HTTP/2, in clear or over TLS).",
				Lacks: "FCGI is refused: FastCGI is not HTTP",
			}},
			IfInvalid: policy.Deny,
			Parse: func(v policy.Values) (router.PodScheme, error) {
				s, ok := router.ParsePodScheme(v.Text(key, ""))
				if strings.EqualFold(v.Text(key, ""), "FCGI") {
					return s, errors.New(key + ": FastCGI is not HTTP: put a server that speaks HTTP beside the application, and write what it speaks")
				}
				if !ok {
					return s, &policy.ValueError{Key: key, Value: v[key], Want: `"HTTP", "HTTPS", "AUTO_HTTP", "GRPC" or "GRPCS"`}
				}
				return s, nil
			},
		},
	}
}

// ServiceUpstream returns the family that sends requests to a Service's own address. Its value is a bool.
func ServiceUpstream() Policy {
	const key = router.ServiceFamily
	return &Of[bool]{
		Of: policy.Of[bool]{
			Name: key,
			Doc: "Sends requests to the address of the Service (its clusterIP) instead of to its Pods, so that the cluster's own network balances them, by " +
				"connection: for service meshes, and for Pods that must be reached like this. What needs to know the Pods, such as affinity and hashes, " +
				"has no effect then.",
			Keys: []policy.Key{{
				Name: key, Kind: policy.Bool, Where: policy.Everywhere, Default: "false", Example: "true",
				Doc:     "Where the Service has no such address, because it is headless or an ExternalName, its Pods or its name are used, with a Problem.",
				Differs: "a Service without endpoints is not told apart from one whose Pods refuse: 502 instead of 503",
			}},
			IfInvalid: policy.Ignore,
			Parse:     func(v policy.Values) (bool, error) { return v.Bool(key, false) },
		},
	}
}

// TLSWords reads lists of TLS versions and cipher suites in nginx's words.
type TLSWords struct {
	// Versions returns the lowest and the highest, in crypto/tls's numbers.
	Versions func(text string) (lowest, highest uint16, err error)
	// Ciphers returns the suites, nil for the default, and the words that it does not know.
	Ciphers func(text string) (suites []uint16, unknown []string, err error)
	// Curves does so for key exchanges.
	Curves func(text string) (curves []uint16, unknown []string, err error)
}

// ProxySSL returns the family of TLS with Pods. Its value is a router.PodTLSOptions.
func ProxySSL(words TLSWords) Policy {
	return &Of[router.PodTLSOptions]{
		Of: policy.Of[router.PodTLSOptions]{
			Name: router.PodTLSFamily,
			Doc: "Says how TLS is spoken with the Pods of the Ingress's backends, where it is: see backend-protocol. Without verification TLS keeps " +
				"those out who only listen. While the Secret is missing or broken the routes that need it answer 503: nothing is sent to Pods " +
				"that are not verified although they should be. A Pod that does not pass is passed over for the next one, as one that refuses to " +
				"connect; where none passes the answer is 502. Unlike ingress-nginx's, the settings are for the routes of their own Ingress only.",
			Keys:      proxySSLKeys(),
			IfInvalid: policy.Deny,
			Parse:     words.parse,
		},
	}
}

func proxySSLKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "proxy-ssl-secret", Kind: policy.SecretName, Default: "none", Example: "default/pods-ca",
			Doc: "The Secret, as namespace/name or name, of the Ingress's own namespace: ca.crt has the certificates that sign those of Pods, " +
				"tls.crt and tls.key, if they are there, are shown to Pods that ask for a certificate.",
		},
		{
			Name: "proxy-ssl-verify", Kind: policy.String, Default: "off", Example: "on",
			Doc: "\"on\" verifies the Pods' certificates: who signed them, until when, and for which name (subjectAltName).",
		},
		{
			Name: "proxy-ssl-verify-depth", Kind: policy.Int, Default: "1", Example: "2",
			Doc: "How many certificates may be between the Pod's and the one in the Secret.",
		},
		{
			Name: "proxy-ssl-name", Kind: policy.String, Default: "the Service's", Example: "app.internal.example",
			Doc: "The name that the certificate must be for. Without it that is SERVICE.NAMESPACE.svc, or the name of an ExternalName Service.",
		},
		{
			Name: "proxy-ssl-server-name", Kind: policy.String, Default: "off", Example: "on",
			Doc: "\"on\" tells Pods that name in the handshake (SNI).",
		},
		{
			Name: "proxy-ssl-protocols", Kind: policy.String, Default: "TLSv1.2 TLSv1.3", Example: "TLSv1.3",
			Doc: "The versions that may be spoken, from TLSv1 to TLSv1.3, without a gap.",
		},
		{
			Name: "proxy-ssl-ciphers", Kind: policy.String, Default: "DEFAULT", Example: "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256",
			Doc: "The cipher suites of TLS 1.2 and below, by their names of OpenSSL or IANA. Those of TLS 1.3 are always on.",
		},
	}
}

// maxTLSName is the length of the longest name that proxy-ssl-name may be.
const maxTLSName = 253

func (w TLSWords) parse(v policy.Values) (router.PodTLSOptions, error) {
	o := router.PodTLSOptions{Secret: v.Text("proxy-ssl-secret", ""), Name: v.Text("proxy-ssl-name", "")}
	var err error
	if o.Verify, err = parseSwitch(v, "proxy-ssl-verify"); err != nil {
		return router.PodTLSOptions{}, err
	}
	if o.SendName, err = parseSwitch(v, "proxy-ssl-server-name"); err != nil {
		return router.PodTLSOptions{}, err
	}
	if o.Depth, err = v.IntRange("proxy-ssl-verify-depth", defaultDepth, 0, maxDepth); err != nil {
		return router.PodTLSOptions{}, err
	}
	if !isServerName(o.Name) {
		return router.PodTLSOptions{}, &policy.ValueError{Key: "proxy-ssl-name", Value: v["proxy-ssl-name"], Want: `a host name or an IP address, as in "app.internal.example"`}
	}
	if o.Verify && o.Secret == "" {
		return router.PodTLSOptions{}, fmt.Errorf("proxy-ssl-verify: there is no proxy-ssl-secret: write the Secret with the ca.crt that signs the certificates of the Pods")
	}
	if o.Lowest, o.Highest, err = w.Versions(v.Text("proxy-ssl-protocols", "")); err != nil {
		return router.PodTLSOptions{}, &policy.ValueError{Key: "proxy-ssl-protocols", Value: v["proxy-ssl-protocols"], Want: `versions without a gap, as in "TLSv1.2 TLSv1.3"`}
	}
	suites, unknown, err := w.Ciphers(v.Text("proxy-ssl-ciphers", ""))
	if err != nil || len(unknown) > 0 {
		return router.PodTLSOptions{}, &policy.ValueError{Key: "proxy-ssl-ciphers", Value: v["proxy-ssl-ciphers"], Want: `names of cipher suites between colons, as in "ECDHE-RSA-AES128-GCM-SHA256", or "DEFAULT"`}
	}
	o.Ciphers = suites
	return o, nil
}

// parseSwitch parses nginx's on and off, and what other annotations take for them.
func parseSwitch(v policy.Values, key string) (bool, error) {
	switch v.Text(key, "off") {
	case "on", "true":
		return true, nil
	case "off", "false":
		return false, nil
	}
	return false, &policy.ValueError{Key: key, Value: v[key], Want: `"on" or "off"`}
}

// isServerName reports whether name, which may be empty, has only what names and addresses are made of.
func isServerName(name string) bool {
	if len(name) > maxTLSName {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == ':':
		default:
			return false
		}
	}
	return true
}
