package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/certs"
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
	engine   *proxy.Engine
	certs    *certs.Store
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

// certificates takes in what a handshake chooses from. Where it is refused nothing else happens.
func (x *explained) certificates(list []certs.Info) {
	if len(list) == 0 {
		refused := &proxy.Answer{Reason: refusedHandshake}
		x.Outcomes, x.Steps = []proxy.Outcome{{Weight: 1, Total: 1, Answer: refused}}, nil
	}
	for i := range list {
		c := &list[i]
		x.Certificates = append(x.Certificates, certificateServed{
			Namespace: c.Namespace, Secret: c.Secret, Owner: c.Owner, Default: c.Default, State: string(c.State), NotAfter: c.NotAfter,
		})
	}
}

// refusedHandshake is the reason of an answer that is none.
const refusedHandshake = "handshake-refused"

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

// page is /debug/explain?url=…&method=…&header=…&client=…&sni=…
func (e *explainer) page(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	q, err := questionOf(values.Get("url"), &config.Question{
		Headers: values["header"], Method: values.Get("method"), Client: values.Get("client"), ServerName: values.Get("sni"),
	})
	if err != nil {
		writeText(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
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

// pageOf returns the query of the page for a question.
func pageOf(address string, o *config.Question) string {
	values := url.Values{"url": {address}, "method": {o.Method}, "header": o.Headers}
	for key, value := range map[string]string{"client": o.Client, "sni": o.ServerName} {
		if value != "" {
			values.Set(key, value)
		}
	}
	return explainPath + "?" + values.Encode()
}

// questionOf returns the question that a user has written.
func questionOf(address string, o *config.Question) (proxy.Question, error) {
	q := proxy.Question{URL: address, Method: o.Method, ServerName: o.ServerName}
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
	return q, nil
}
