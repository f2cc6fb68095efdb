package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/idna"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/certs"
	"podlane.dev/podlane/tls/server"
)

// explainPath is the page that explains.
const explainPath = "/debug/explain"

// explained is what would become of a request, with what the engine does not know: certificates, and what Build said of Ingresses. It is the JSON of
// /debug/explain; fields may be added, not renamed.
type explained struct {
	// Summary says in a line each what may happen.
	Summary []string `json:"summary"`
	proxy.Explanation
	// Certificates are those that the handshake chooses from; none where it is refused, or there is none.
	Certificates []certificateServed `json:"certificates,omitempty"`
	// Problems are those of the Ingresses that decide.
	Problems []problemJSON `json:"problems,omitempty"`
}

// certificateServed is a certificate that a client may get.
type certificateServed struct {
	Namespace string    `json:"namespace,omitempty"`
	Secret    string    `json:"secret,omitempty"`
	Owner     string    `json:"owner,omitempty"`
	Default   bool      `json:"default,omitempty"`
	State     string    `json:"state"`
	NotAfter  time.Time `json:"notAfter"`
}

// explainer explains requests by what is live. Its methods may be called concurrently.
type explainer struct {
	engine *proxy.Engine
	certs  *certs.Store
	// tls is the listeners' own.
	tls      *tls.Config
	problems func() []ingress.Problem
}

// explain answers a question. The error says what is wrong with it.
func (e *explainer) explain(q proxy.Question) (explained, error) {
	said, err := e.engine.Explain(q)
	if err != nil {
		return explained{}, fmt.Errorf("explain: %w", err)
	}
	x := explained{Explanation: said}
	if h := said.Handshake; h != nil && !h.Passthrough {
		x.certificates(e.certs.Lookup(h.ServerName))
	}
	x.look(e.problems())
	x.Summary = summarize(&x)
	return x, nil
}

// certificates takes in what a handshake chooses from.
func (x *explained) certificates(list []certs.Info) {
	for i := range list {
		c := &list[i]
		x.Certificates = append(x.Certificates, certificateServed{
			Namespace: c.Namespace, Secret: c.Secret, Owner: c.Owner, Default: c.Default, State: string(c.State), NotAfter: c.NotAfter,
		})
	}
}

// look takes in what Build said: conflicts about the path, and Problems of the Ingresses that decide.
func (x *explained) look(problems []ingress.Problem) {
	for _, p := range problems {
		if x.lost(&p) {
			x.Candidates = append(x.Candidates, proxy.Candidate{
				RouteSeen: proxy.RouteSeen{
					Namespace: p.Route.Namespace, Ingress: p.Route.Ingress, Host: p.Route.Host, Path: p.Route.Path, Type: p.Route.Type.String(),
					Default: p.Reason == ingress.DefaultBackendConflict,
				},
				Matches: true, Why: p.Message,
			})
		} else if x.decides(p.Object) {
			x.Problems = append(x.Problems, describeProblems([]ingress.Problem{p})...)
		}
	}
}

// lost reports whether p is about a path that would match if no other Ingress had it.
func (x *explained) lost(p *ingress.Problem) bool {
	isDefault := p.Reason == ingress.DefaultBackendConflict
	if x.Host == nil || p.Route.Host != x.Host.Name || !isDefault && p.Reason != ingress.PathConflict {
		return false
	}
	if p.Route.Type != router.Regex {
		return (&router.Route{ID: p.Route, IsDefault: isDefault}).Covers(x.Path)
	}
	same := func(r *proxy.RouteSeen) bool {
		return r != nil && r.Path == p.Route.Path && r.Type == p.Route.Type.String()
	}
	for i := range x.Candidates {
		if c := &x.Candidates[i]; c.Matches && same(&c.RouteSeen) {
			return true
		}
	}
	return same(x.Route)
}

// decides reports whether an object is the Ingress of the Route or of its canary.
func (x *explained) decides(o ingress.Object) bool {
	switch {
	case o.Kind != "Ingress":
		return false
	case x.Route != nil && o.Namespace == x.Route.Namespace && o.Name == x.Route.Ingress:
		return true
	}
	return x.Canary != nil && o.Namespace == x.Canary.Namespace && o.Name == x.Canary.Ingress
}

// shake returns what makes the handshake of a question.
func (e *explainer) shake(q *config.Question, shown []*x509.Certificate) func(string) (proxy.Shaken, error) {
	return func(serverName string) (proxy.Shaken, error) {
		hello, err := q.Hello(serverName)
		if err != nil {
			return proxy.Shaken{}, err
		}
		state, err := server.Rehearse(context.Background(), e.tls, hello)
		if err != nil {
			return proxy.Shaken{}, err
		}
		return proxy.Shaken{
			Version: state.Version, CipherSuite: state.CipherSuite, Protocol: state.NegotiatedProtocol,
			Credentials: func(p *router.TLSPolicy) exchange.Credentials { return server.Present(p, shown) },
		}, nil
	}
}

// page is /debug/explain?url=…, with the parameters of pageOf.
func (e *explainer) page(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	o := &config.Question{
		Headers: values["header"], Method: values.Get("method"), Client: values.Get("client"), ServerName: values.Get("sni"),
		HTTPVersion: values.Get("http"), TLSMax: values.Get("tls"), Ciphers: values.Get("ciphers"),
	}
	shown, err := pageCertificates(values)
	if err == nil && values.Has("auth") {
		if o.AuthStatus, err = strconv.Atoi(values.Get("auth")); err != nil {
			err = fmt.Errorf("auth: %q is no status", values.Get("auth"))
		}
	}
	var q proxy.Question
	if err == nil {
		q, err = questionOf(values.Get("url"), o)
	}
	if err != nil {
		writeText(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	q.Shake = e.shake(o, shown)
	x, err := e.explain(q)
	if err != nil {
		writeText(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	if values.Get("format") != "json" {
		var b strings.Builder
		writeExplained(&b, &x)
		writeText(w, http.StatusOK, b.String())
		return
	}
	body, err := json.MarshalIndent(&x, "", "  ")
	if err != nil {
		writeText(w, http.StatusInternalServerError, err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // the client is gone
}

// pageCertificates returns what the client shows by the query of the page: DER in base64, the client's own first.
func pageCertificates(values url.Values) ([]*x509.Certificate, error) {
	list := make([]*x509.Certificate, 0, len(values["cert"]))
	for _, text := range values["cert"] {
		der, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		list = append(list, c)
	}
	return list, nil
}

// pageOf returns the query of the page for a question.
func pageOf(address string, o *config.Question, shown []*x509.Certificate) string {
	values := url.Values{"url": {address}, "header": o.Headers}
	for key, value := range map[string]string{
		"method": o.Method, "client": o.Client, "sni": o.ServerName, "http": o.HTTPVersion, "tls": o.TLSMax, "ciphers": o.Ciphers,
	} {
		if value != "" {
			values.Set(key, value)
		}
	}
	if o.AuthStatus != 0 {
		values.Set("auth", strconv.Itoa(o.AuthStatus))
	}
	for _, c := range shown {
		values.Add("cert", base64.RawURLEncoding.EncodeToString(c.Raw))
	}
	return explainPath + "?" + values.Encode()
}

// questionOf returns the question that a user has written, but for its handshake.
func questionOf(address string, o *config.Question) (proxy.Question, error) {
	versions := map[string]exchange.Version{"1.0": exchange.HTTP10, "1.1": exchange.HTTP11, "2": exchange.HTTP2}
	q := proxy.Question{URL: asSent(address), Method: o.Method, ServerName: o.ServerName, Version: versions[o.HTTPVersion], AuthStatus: o.AuthStatus}
	if err := o.Validate(); err != nil {
		return q, err
	}
	if o.Client != "" {
		q.Client = netip.MustParseAddr(o.Client) // Validate has parsed it
	}
	for _, h := range o.Headers {
		name, value, _ := strings.Cut(h, ":")
		q.Fields = append(q.Fields, exchange.Field{Name: strings.TrimSpace(name), Value: strings.Trim(value, " \t")})
	}
	err := q.Check()
	return q, err
}

// asSent returns a URL with its host as clients send it: names in other letters than ASCII's as A-labels (RFC 5890). What is no such name stays, and is judged
// by who serves it.
func asSent(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, _, _ := strings.Cut(rest[:end], ":")
	if !ok || strings.HasPrefix(host, "[") || isASCII(host) {
		return address
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return address
	}
	return scheme + "://" + ascii + rest[len(host):]
}

func isASCII(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}
