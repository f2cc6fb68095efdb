package filters

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// Believed says whose word about clients is taken: by fields that proxies in front set, and by the header of the PROXY protocol.
type Believed struct {
	// Forwarded, RealIP and Announced say that forwarding fields are believed, that only the address in them is, and that connections begin with
	// a header of the PROXY protocol: each from the peers in From.
	Forwarded, RealIP, Announced Say
	From                         []netip.Prefix
	// HeaderTimeout is how long the header of the PROXY protocol may take; 0 is what the proxy's own setting says.
	HeaderTimeout time.Duration
	// For and Host are the names of the fields with the addresses and the host; "" is X-Forwarded-For and X-Forwarded-Host.
	For, Host string
	// Short has X-Forwarded-For say the client's address alone; what came goes on as X-Original-Forwarded-For.
	Short bool
}

// ClientAddress returns the family that says whose word about clients is taken.
func ClientAddress() Policy {
	return &Of[Believed]{
		Of: policy.Of[Believed]{
			Name: "client-address",
			Doc: "From whom it is believed who the client is. Fields of any other peer that say so are removed before Podlane sets its own: nobody can speak " +
				"for a proxy who is none. What is not said here is as --trusted-proxies and --use-proxy-protocol say.",
			Keys:      append(beliefKeys(), forwardedKeys()...),
			IfInvalid: policy.Ignore,
			Global:    true,
			Parse:     parseBelieved,
		},
		Global: func(s *Settings, v Believed) { s.Believed = v },
	}
}

const nobody = "without proxy-real-ip-cidr nobody is believed because of it, where ingress-nginx believes everyone"

func beliefKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "use-forwarded-headers", Kind: policy.Bool, Where: policy.ConfigMap, Default: "as --trusted-proxies says", Example: "true",
			Doc:     "\"true\" believes the X-Forwarded-* fields of the peers in proxy-real-ip-cidr, \"false\" nobody's.",
			Differs: nobody + "; X-Forwarded-Scheme is Podlane's own in any case",
		},
		{
			Name: "enable-real-ip", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "false",
			Doc:     "Takes the client's address, and nothing else, from what the peers in proxy-real-ip-cidr say.",
			Differs: nobody,
		},
		{
			Name: "use-proxy-protocol", Kind: policy.Bool, Where: policy.ConfigMap, Default: "as --use-proxy-protocol says", Example: "true",
			Doc:     "New connections from the peers in proxy-real-ip-cidr begin with a header of the PROXY protocol, version 1 or 2; those from others do not.",
			Differs: "only the connections of those peers begin with one; in ingress-nginx all must, and connections without are refused",
		},
		{
			Name: "proxy-real-ip-cidr", Kind: policy.List, Where: policy.ConfigMap, Default: "none", Example: "10.0.0.0/8, 2001:db8::/32",
			Doc:     "Addresses and ranges of the proxies and load balancers in front, with commas between them, in place of those of --trusted-proxies and --proxy-protocol-trusted.",
			Differs: "the default is nobody, not 0.0.0.0/0",
		},
		{
			Name: "proxy-protocol-header-timeout", Kind: policy.Duration, Where: policy.ConfigMap, Default: "as --proxy-protocol-header-timeout says", Example: "5s",
			Doc: "How long the header of the PROXY protocol may take.",
		},
	}
}

func forwardedKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "forwarded-for-header", Kind: policy.String, Where: policy.ConfigMap, Default: "X-Forwarded-For", Example: "CF-Connecting-IP",
			Doc:     "The field in which trusted peers say who the client is: an address, or several of which the last that is no trusted peer's counts.",
			Differs: "the field is removed from requests of peers that are not trusted",
		},
		{
			Name: "forwarded-host-header", Kind: policy.String, Where: policy.ConfigMap, Default: "X-Forwarded-Host", Example: "X-Original-Host",
			Doc:     "The field in which trusted peers say the host that the client asked for; Pods get it as X-Forwarded-Host.",
			Differs: "the field is removed from requests of peers that are not trusted",
		},
		{
			Name: "compute-full-forwarded-for", Kind: policy.Bool, Where: policy.ConfigMap, Default: "true", Example: "false",
			Doc: "Pods get the X-Forwarded-For of a trusted peer with that peer's address at its end. \"false\" gives them the client's address alone, and " +
				"what came as X-Original-Forwarded-For.",
			Differs: "the default is \"true\"; X-Original-Forwarded-For is never what an untrusted peer has sent",
		},
	}
}

func parseBelieved(v policy.Values) (Believed, error) {
	var b Believed
	var errs []error
	fail := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, text := range v.List("proxy-real-ip-cidr") {
		p, ok := parsePeers(text)
		if !ok {
			fail(&policy.ValueError{Key: "proxy-real-ip-cidr", Value: text, Want: `addresses and ranges with commas between them, as in "10.0.0.0/8"`})
			break
		}
		b.From = append(b.From, p)
	}
	for _, one := range []struct {
		key string
		say *Say
	}{{"use-forwarded-headers", &b.Forwarded}, {"enable-real-ip", &b.RealIP}, {"use-proxy-protocol", &b.Announced}} {
		var err error
		if *one.say, err = say(v, one.key); *one.say == Yes && !v.Has("proxy-real-ip-cidr") {
			err = &policy.ValueError{Key: one.key, Value: v[one.key], Want: `proxy-real-ip-cidr beside it, with the addresses of your load balancers, as in "10.0.0.0/8": ` +
				"without it everyone could say to be anyone"}
		}
		fail(err)
	}
	var err error
	b.HeaderTimeout, err = positive(v, "proxy-protocol-header-timeout")
	fail(err)
	b.For, err = fieldOfProxies(v, "forwarded-for-header", exchange.XForwardedFor, exchange.XRealIP)
	fail(err)
	b.Host, err = fieldOfProxies(v, "forwarded-host-header", exchange.XForwardedHost, exchange.XOriginalHost)
	fail(err)
	full, err := v.Bool("compute-full-forwarded-for", true)
	fail(err)
	b.Short = !full
	return b, errors.Join(errs...)
}

// parsePeers reads an address or a range.
func parsePeers(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, false
	}
	return p.Masked(), true
}

// positive reads a duration that is not 0; absent is 0.
func positive(v policy.Values, key string) (time.Duration, error) {
	d, err := v.Duration(key, 0)
	if err == nil && d == 0 && v.Has(key) {
		err = &policy.ValueError{Key: key, Value: v[key], Want: `a number of seconds above 0, as in "60", or a duration with units, as in "1m30s"`}
	}
	return d, err
}

// fieldOfProxies reads the name of a field that proxies set: one of known, or any that means nothing to Podlane.
func fieldOfProxies(v policy.Values, key string, known ...exchange.ID) (string, error) {
	name := v.Text(key, "")
	if !v.Has(key) || isToken(name) && (exchange.IDOf(name) == exchange.Unknown || slices.Contains(known, exchange.IDOf(name))) {
		if strings.EqualFold(name, known[0].Name()) {
			name = ""
		}
		return name, nil
	}
	return "", &policy.ValueError{Key: key, Value: v[key], Want: `the name of a field that only proxies set, as in "` + known[0].Name() + `"`}
}
