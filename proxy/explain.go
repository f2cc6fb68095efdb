package proxy

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// Explanation says what would become of the request of a Question, and why. It is plain data, the caller's own, and holds no credentials.
type Explanation struct {
	Question Question `json:"question"`
	// Generation is that of the table that decided.
	Generation uint64 `json:"generation"`
	// Client is who the client would be taken for.
	Client ClientSeen `json:"client"`
	// Handshake is what TLS says about the host, nil for requests in clear.
	Handshake *Handshake `json:"handshake,omitempty"`
	// Path is the canonical path, on which everything is decided; "" where the request was refused before.
	Path string `json:"path,omitempty"`
	// Host is the entry of the table that owns the request, nil where nobody looked.
	Host *HostSeen `json:"host,omitempty"`
	// Route is where the request belongs, nil for nowhere.
	Route *RouteSeen `json:"route,omitempty"`
	// Candidates are other Routes, and why they did not get the request.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Policies are what holds for the Route.
	Policies []PolicySeen `json:"policies,omitempty"`
	// Steps are what policies did to the request, in order.
	Steps []exchange.Step `json:"steps,omitempty"`
	// Canary shares the requests of the Route, nil for none.
	Canary *CanarySeen `json:"canary,omitempty"`
	// Conditions are what had to be assumed.
	Conditions []string `json:"conditions,omitempty"`
	// Outcomes are what may happen: one, or as many as there are Backends that chance decides between.
	Outcomes []Outcome `json:"outcomes"`
}

// ClientSeen is who a client is taken for.
type ClientSeen struct {
	// Address is the address that is believed, Scheme and Port are what the client used.
	Address netip.Addr `json:"address"`
	Scheme  string     `json:"scheme"`
	Port    uint16     `json:"port"`
	// Protocol is the version of HTTP that is spoken; "" where nothing of it is seen.
	Protocol string `json:"protocol,omitempty"`
}

// Handshake is what TLS says about a request.
type Handshake struct {
	ServerName string `json:"serverName"`
	// Version and Cipher are the names of what the two agree on; "" where they do not, or nobody has shaken hands.
	Version string `json:"version,omitempty"`
	Cipher  string `json:"cipher,omitempty"`
	// Passthrough says that TLS ends at the Pods: nothing of the request is seen here.
	Passthrough bool `json:"passthrough,omitempty"`
	// Verify says which client certificates the host of the server name asks for, and Owner which Ingress says so; "" for none.
	Verify string `json:"clientCertificate,omitempty"`
	Owner  string `json:"clientCertificateBy,omitempty"`
	// Shown is the subject of the certificate that the client shows, and Verdict what it is worth there, in the words of nginx's $ssl_client_verify; "" where the
	// host asks for none.
	Shown   string `json:"clientCertificateShown,omitempty"`
	Verdict string `json:"clientCertificateVerdict,omitempty"`
}

// HostSeen is the host entry that owns a request.
type HostSeen struct {
	// Name is the host as rules write it, "" for rules without a host; Found says how it was found.
	Name  string `json:"name"`
	Found string `json:"found"`
	// Compat says that the host is read as ingress-nginx reads it.
	Compat bool `json:"compat,omitempty"`
}

// RouteSeen names a Route.
type RouteSeen struct {
	Namespace string `json:"namespace"`
	Ingress   string `json:"ingress"`
	Host      string `json:"host"`
	Path      string `json:"path"`
	Type      string `json:"type"`
	Default   bool   `json:"default,omitempty"`
	// Denied is the family that closes the Route, "" where it is open.
	Denied string `json:"denied,omitempty"`
}

// Candidate is a Route that did not get the request.
type Candidate struct {
	RouteSeen
	// Matches says that its path covers the request's.
	Matches bool   `json:"matches"`
	Why     string `json:"why"`
}

// PolicySeen is a policy value that holds.
type PolicySeen struct {
	Family string `json:"family"`
	Value  string `json:"value"`
	// Given are the keys that say so; none where it is the family's default.
	Given []GivenSeen `json:"given,omitempty"`
	// Acted says that it did something to the request.
	Acted bool `json:"acted,omitempty"`
}

// GivenSeen is a key and the object that it is in.
type GivenSeen struct {
	By     policy.Layer `json:"by"`
	Object string       `json:"object,omitempty"`
	Name   string       `json:"name"`
	Value  string       `json:"value"`
}

// CanarySeen is the canary of a Route.
type CanarySeen struct {
	Namespace string `json:"namespace"`
	Ingress   string `json:"ingress"`
	Rules     string `json:"rules"`
	// Decided is what decided, "" for the weight.
	Decided string `json:"decided,omitempty"`
}

// Outcome is one thing that may happen.
type Outcome struct {
	// Weight of Total requests come to it; both are 1 where nothing is left to chance.
	Weight int `json:"weight"`
	Total  int `json:"total"`
	// Answer is the proxy's own, nil where a Pod answers.
	Answer *Answer `json:"answer,omitempty"`
	// Forward is where the request goes, nil where the proxy answers.
	Forward *Forward `json:"forward,omitempty"`
	// Service is the Backend that was chosen, "" where nothing was.
	Service string `json:"service,omitempty"`
	Canary  bool   `json:"canary,omitempty"`
}

// Answer is one that the proxy makes itself.
type Answer struct {
	// Status is that of HTTP; 0 is that the connection, or the stream, ends without one.
	Status int    `json:"status"`
	Reason string `json:"reason"`
	// Detail says more where Reason is of many kinds: which rule of HTTP is broken, or why a handshake fails.
	Detail string `json:"detail,omitempty"`
	// GRPC is the status that a client of gRPC is told, and Logged that of HTTP which is counted and logged for it; 0 for others.
	GRPC     int    `json:"grpcStatus,omitempty"`
	Logged   int    `json:"loggedStatus,omitempty"`
	Location string `json:"location,omitempty"`
	// By is the policy family that answers, "" where it is no policy.
	By string `json:"by,omitempty"`
	// Fields are those of the answer, but for Date and Server.
	Fields []exchange.Field `json:"fields,omitempty"`
}

// Explain says what would become of the request of q now. It takes the way of every request, with the same code, up to the Pod; nothing is counted, logged,
// kept or sent, and no Pod or other service is asked. It may be called concurrently with everything. The error says what is wrong with q.
func (e *Engine) Explain(q Question) (Explanation, error) {
	if err := q.Check(); err != nil {
		return Explanation{}, err
	}
	x := Explanation{Question: q}
	l := e.live.Load()
	if l.through && q.secure() {
		if c := l.passesThrough(q.ServerName); c != nil {
			return e.explainThrough(x, l, c), nil
		}
	}
	if err := q.shake(); err != nil {
		return x.refused(l, err), nil
	}
	inClear := exchange.HTTP11
	if e.opts.H2C {
		inClear = exchange.HTTP2
	}
	if err := q.agree(inClear); err != nil {
		return Explanation{}, err
	}
	var starts []int
	err := e.rehearse(&q, 0, func(s *session) {
		x.read(s)
		starts = s.draws()
		x.Outcomes = []Outcome{outcomeOf(s, starts)}
	})
	for i := 1; i < len(starts)-1 && err == nil; i++ {
		err = e.rehearse(&q, starts[i], func(s *session) { x.Outcomes = append(x.Outcomes, outcomeOf(s, starts)) })
	}
	return x, err
}

// HandshakeRefused is the Reason of the Answer to a client whose handshake fails: it is none.
const HandshakeRefused = "handshake-refused"

// refused explains a connection that ends in its handshake.
func (x Explanation) refused(l *live, err error) Explanation {
	x.Generation = l.generation
	x.Client = ClientSeen{Address: x.Question.Client, Scheme: "https", Port: x.Question.client(l.table).Port}
	x.Handshake = &Handshake{ServerName: x.Question.ServerName}
	x.Outcomes = []Outcome{{Weight: 1, Total: 1, Answer: &Answer{Reason: HandshakeRefused, Detail: err.Error()}}}
	return x
}

// draws returns where the draws begin that lead to each of the Backends between which chance decides, and their number at the end; nil where it decides
// nothing.
func (s *session) draws() []int {
	total := s.rehearsal.drawn
	if total == 0 {
		return nil
	}
	starts := []int{0}
	if a := s.chain.route.Alternative; a != nil {
		starts = append(starts, min(a.Weight, total))
	} else {
		for i, sum := 0, 0; i < len(s.chain.lanes)-1; i++ {
			if sum += s.chain.lanes[i].weight; s.chain.lanes[i+1].weight > 0 && sum > 0 {
				starts = append(starts, sum)
			}
		}
	}
	if starts[len(starts)-1] == total {
		return starts
	}
	return append(starts, total)
}

// read takes in what all outcomes have in common.
func (x *Explanation) read(s *session) {
	q, r := s.x, s.rehearsal
	x.Generation = s.generation
	x.Client = ClientSeen{q.Client.Addr, q.Client.Proto, q.Client.Port, q.Request.Version.String()}
	x.Steps, x.Conditions = q.Rehearsal.Steps, q.Rehearsal.Conditions
	x.Handshake = handshakeOf(&q.Client, q.Timing.Start)
	if r.live == nil {
		return // nobody has looked for a Route
	}
	x.Path = string(q.Request.Path)
	x.Host = hostSeen(r.live.table, &r.trace)
	x.Candidates = (&rivals{table: r.live.table, host: x.Host, name: string(q.Request.Hostname), path: x.Path, chosen: q.Route}).list()
	if q.Route == nil {
		return
	}
	route := routeSeen(q.Route)
	x.Route = &route
	x.Policies = s.e.policiesOf(q.Route, x.Steps)
	if a := q.Route.Alternative; a != nil {
		x.Canary = &CanarySeen{Namespace: a.Namespace, Ingress: a.Ingress, Rules: a.Canary.String(), Decided: r.by}
	}
}

// handshakeOf returns what the handshake of a client came to, nil where there is none.
func handshakeOf(c *exchange.Client, now time.Time) *Handshake {
	if !c.TLS {
		return nil
	}
	h := &Handshake{ServerName: c.ServerName, Version: tls.VersionName(c.TLSVersion)}
	if c.CipherSuite != 0 {
		h.Cipher = tls.CipherSuiteName(c.CipherSuite)
	}
	if c.Credentials != nil {
		p := c.Credentials.Policy()
		h.Verify, h.Owner = p.ClientAuth.String(), p.Owner
		h.Verdict = c.Credentials.Judge(p, now).String()
		h.Shown, _ = c.Credentials.Names()
	}
	return h
}

// outcomeOf returns what became of a rehearsal whose draws have these starts.
func outcomeOf(s *session, starts []int) Outcome {
	r := s.rehearsal
	o := Outcome{Weight: 1, Total: 1}
	for i := 0; i+1 < len(starts); i++ {
		if starts[i] == r.draw {
			o.Weight, o.Total = starts[i+1]-starts[i], r.drawn
		}
	}
	if r.lane != nil {
		o.Service = serviceName(r.lane.backend)
		o.Canary = s.chain.route.Alternative != nil && r.lane != &s.chain.lanes[0]
	}
	if r.asked != nil {
		o.Forward = forwardOf(s)
		return o
	}
	o.Answer = answerOf(s)
	return o
}

// answerOf returns the answer that a rehearsal ended with.
func answerOf(s *session) *Answer {
	x := s.x
	a := &Answer{Status: x.Response.Status, Reason: string(x.Response.Why), Location: string(x.Response.Fields.Get(exchange.Location))}
	if text, ok := x.Response.Body.(*exchange.Text); ok && x.Response.Why == exchange.BadRequest {
		a.Detail = strings.TrimSpace(text.S)
	}
	if s.status != 0 {
		text, _ := x.Response.Fields.Lookup("Grpc-Status")
		a.GRPC, _ = strconv.Atoi(string(text)) // our own
		a.Logged = s.status
	}
	for _, f := range x.Response.Fields.List() {
		if id := exchange.IDOf(f.Name); id != exchange.Date && id != exchange.Server {
			a.Fields = append(a.Fields, exchange.Field{Name: f.Name, Value: f.Shown()})
		}
	}
	if n := len(x.Rehearsal.Steps); n > 0 && x.Rehearsal.Steps[n-1].Answered {
		a.By = x.Rehearsal.Steps[n-1].Family
	}
	return a
}

// explainThrough explains a connection whose TLS ends at the Pods of c.
func (e *Engine) explainThrough(x Explanation, l *live, c *chain) Explanation {
	x.Generation = l.generation
	x.Client = ClientSeen{Address: x.Question.Client, Scheme: "https", Port: x.Question.client(l.table).Port}
	x.Handshake = &Handshake{ServerName: x.Question.ServerName, Passthrough: true}
	var trace router.Trace
	l.table.Match(x.Question.ServerName, "/", &trace)
	x.Host = hostSeen(l.table, &trace)
	route := routeSeen(c.route)
	x.Route = &route
	o := Outcome{Weight: 1, Total: 1}
	unread := exchange.New()
	defer unread.Release()
	switch ln := c.choose(unread, func(int) int { return 0 }); {
	case c.route.Denied != "":
		o.Answer = &Answer{Reason: string(exchange.RouteDenied)}
	case ln == nil || ln.backend.Unavailable != router.Available:
		o.Answer = &Answer{Reason: string(exchange.BackendMissing)}
	case ln.pool.Len() == 0:
		o.Service, o.Answer = serviceName(ln.backend), &Answer{Reason: string(exchange.NoEndpoint)}
	default:
		o.Service, o.Forward = serviceName(ln.backend), &Forward{Backend: backendSeen(ln, "TLS of the client's own")}
	}
	x.Outcomes = []Outcome{o}
	return x
}

// policiesOf returns what holds for r, in order of execution.
func (e *Engine) policiesOf(r *router.Route, steps []exchange.Step) []PolicySeen {
	var list []PolicySeen
	for _, p := range e.opts.Policies {
		v, ok := filters.ValueOf(r, p)
		if !ok {
			continue
		}
		seen := PolicySeen{Family: v.Family, Value: valueText(v)}
		for _, g := range v.Given {
			seen.Given = append(seen.Given, givenSeen(r, g))
		}
		for _, s := range steps {
			seen.Acted = seen.Acted || s.Family == v.Family
		}
		list = append(list, seen)
	}
	return list
}
