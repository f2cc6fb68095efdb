package filters

import (
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// ServerNames returns the family that gives hosts further names. Its value is a router.ServerNames: Build makes hosts of them.
func ServerNames() Policy {
	return &Of[router.ServerNames]{
		Of: policy.Of[router.ServerNames]{
			Name: router.ServerNamesFamily,
			Doc: "Gives all hosts of the Ingress further names, for every Ingress that has paths on them. A name that a rule of some Ingress has is that host's " +
				"own, and of two hosts that want one name the one whose Ingress is older gets it.",
			Keys: []policy.Key{
				{
					Name: "server-alias", Kind: policy.List, Default: "none", Example: "shop.example, *.shop.example, ~^shop[0-9]+[.]example$",
					Doc:     "Names, with commas between them, whose requests are answered as those of the host: a host, a wildcard, or, behind a ~, a regular expression (RE2).",
					Differs: "the name has a certificate of its own only where spec.tls lists it; otherwise clients get the default certificate",
					Lacks:   "regular expressions are RE2",
				},
				{
					Name: "from-to-www-redirect", Kind: policy.Bool, Default: "false", Example: "true",
					Doc:     "Sends requests for www.HOST to HOST (308), or, where the host begins with www., the other way round. A \"/\" at the end of the URL is removed.",
					Differs: "the name has a certificate of its own only where spec.tls lists it; otherwise clients get the default certificate",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseServerNames,
		},
	}
}

func parseServerNames(v policy.Values) (router.ServerNames, error) {
	n := router.ServerNames{Aliases: v.List("server-alias")}
	for i, name := range n.Aliases {
		text, isPattern := strings.CutPrefix(name, "~")
		if isPattern {
			if _, err := policy.Regexp(text); err != nil {
				return router.ServerNames{}, &policy.ValueError{Key: "server-alias", Value: name, Why: err, Want: `a regular expression (RE2) behind the ~, as in "~^shop[0-9]+[.]example$"`}
			}
			continue
		}
		n.Aliases[i] = strings.ToLower(name)
		if !isToken(strings.TrimPrefix(name, "*.")) || strings.Contains(name, "_") {
			return router.ServerNames{}, &policy.ValueError{Key: "server-alias", Value: name, Want: `host names with commas between them, as in "shop.example, *.shop.example"`}
		}
	}
	var err error
	n.WWW, err = v.Bool("from-to-www-redirect", false)
	return n, err
}

// SendToHost is the filter of Routes with that name: it sends clients to the same URL on another host.
type SendToHost struct {
	Host string
	Code int
}

// FilterRequest answers with the redirect.
func (f SendToHost) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	at := len(x.Scratch)
	b := append(x.Scratch, x.Client.Proto...)
	b = append(b, "://"...)
	b = append(b, f.Host...)
	b = append(b, x.Request.Authority[len(withoutPort(x.Request.Authority)):]...)
	target := x.Request.Target
	if n := len(target); n > 0 && target[n-1] == '/' {
		target = target[:n-1]
	}
	x.Scratch = appendURI(b, target)
	return answerRedirect(x, f.Code, at)
}
