package filters

import (
	"net/url"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/subrequest"
	"podlane.dev/podlane/router/policy"
)

const (
	mirrorTargetKey = "mirror-target"
	mirrorBodyKey   = "mirror-request-body"
	mirrorHostKey   = "mirror-host"
)

// mirrored is the parsed value of the family.
type mirrored struct {
	target *expr.Expr // nil for none
	host   *expr.Expr // nil is that of the target
	body   bool
}

// String returns the value for the text of a Table.
func (v mirrored) String() string {
	if v.target == nil {
		return "off"
	}
	text := v.target.String()
	if v.host != nil {
		text += " as " + v.host.String()
	}
	if !v.body {
		text += ", without bodies"
	}
	return text
}

// Mirrors returns the family of copies of requests.
func Mirrors() Policy {
	return &Of[mirrored]{
		Of: policy.Of[mirrored]{
			Name: "mirror",
			Doc: "Sends a copy of each request that goes to a Pod to another server, whose answer is ignored. The request never waits for it. Where 256 copies are " +
				"under way, or bodies of copies need more than 32 MiB, further ones are dropped; a copy may take 10 seconds. The certificate of the " +
				"server is not verified, as nginx does not, and it may not be at a loopback or link-local address unless --external-name-allow has it. " +
				"The metric podlane_mirrored_requests_total counts what became of copies.",
			Keys: []policy.Key{
				{
					Name: mirrorTargetKey, Kind: policy.String, Default: "none", Example: "https://staging.example.com$request_uri",
					Doc:     "The URL of copies, which may hold variables. Without a path the path is /.",
					Differs: "copies have the fields that the Pod gets; requests that no Pod can take are not copied; addresses of this machine and link-local ones are refused unless --external-name-allow has them",
				},
				{
					Name: mirrorBodyKey, Kind: policy.Switch, Default: "on", Example: "off",
					Doc:     "\"off\" leaves bodies out of copies.",
					Differs: "the Pod gets the body as it comes, and not only when all of it has come; a copy leaves when the Pod has all of the body, and one whose body is longer than 1 MiB never does; copies of POST without bodies say Content-Length: 0",
				},
				{
					Name: mirrorHostKey, Kind: policy.String, Default: "the host of mirror-target", Example: "staging.example.com",
					Doc: "The Host field of copies. It may hold variables.",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseMirror,
		},
		Extend: func(c *Chain, v mirrored) {
			if v.target != nil {
				c.Forwarding.Mirror = &Mirror{v, c.Runtime}
			}
		},
	}
}

func parseMirror(v policy.Values) (mirrored, error) {
	var m mirrored
	var err error
	if m.body, err = v.Switch(mirrorBodyKey, true); err != nil {
		return mirrored{}, err
	}
	if v.Text(mirrorHostKey, "") != "" {
		if m.host, err = parseExpr(v, mirrorHostKey, ""); err != nil {
			return mirrored{}, err
		}
	}
	if !v.Has(mirrorTargetKey) {
		return m, nil
	}
	text := v.Text(mirrorTargetKey, "")
	// A variable may follow the port without a slash, which is no URL yet.
	before, _, _ := strings.Cut(withScheme(text), "$")
	if u, err := url.Parse(before); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" && before == text {
		return mirrored{}, &policy.ValueError{Key: mirrorTargetKey, Value: v[mirrorTargetKey], Want: `an absolute URL, as in "https://staging.example.com$request_uri"`}
	}
	m.target, err = parseExpr(v, mirrorTargetKey, "")
	return m, err
}

// Mirror copies requests of one Route. It is used concurrently.
type Mirror struct {
	mirrored
	runtime *Runtime
}

// Bodies says that copies have the bodies of their requests.
func (m *Mirror) Bodies() bool { return m.body }

// Copy returns a copy of x's request, without its body, or nil where there is room for none.
func (m *Mirror) Copy(x *exchange.Exchange) *subrequest.Copy {
	at := len(x.Scratch)
	if x.Rehearsal != nil {
		x.Rehearsal.Watch("mirror", x, func() exchange.Verdict {
			x.Rehearsal.Note("a copy would go to %s", m.target.AppendEscaped(nil, x, expr.EscapeURL))
			return exchange.Continue
		})
		return nil
	}
	if m.runtime.Subrequests.Busy() {
		return nil
	}
	x.Scratch = m.target.AppendEscaped(x.Scratch, x, expr.EscapeURL)
	r := &subrequest.Request{Method: string(x.Request.Method), URL: string(x.Scratch[at:])}
	r.Forward(&x.Request.Fields)
	if m.host != nil {
		x.Scratch = m.host.AppendEscaped(x.Scratch[:at], x, expr.EscapeURL)
		r.Host = string(x.Scratch[at:])
	} else if u, err := url.Parse(r.URL); err == nil {
		r.Host = hostname(u)
	}
	x.Scratch = x.Scratch[:at]
	return m.runtime.Subrequests.Copy(r)
}
