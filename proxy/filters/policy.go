package filters

import (
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// Policy is a family of annotations together with what it does to requests. Of[T] implements it. Its methods are called
// at Build and at Publish, never per request; a Policy is immutable and may be used concurrently.
type Policy interface {
	policy.Family
	// DefaultValue returns the value that holds for a Route whose Ingress sets no key of the family, or whose value was
	// ignored; ok is false where nothing holds then.
	DefaultValue(r *router.Route) (v any, ok bool)
	// Compile adds to c what v does to requests of c's Route. v comes from ParseValues or DefaultValue. It is called once per Route; what it
	// adds is used concurrently.
	Compile(c *Chain, v any)
	// Govern changes s, which holds for the whole proxy, as v says. Only global families do.
	Govern(s *Settings, v any)
}

// Of is a Policy whose parsed value is an immutable T. Each of its functions but the one that parses may be nil.
type Of[T any] struct {
	policy.Of[T]
	// Default returns the value of a Route without annotations of this family; nil means that nothing holds then.
	Default func(r *router.Route) (T, bool)
	// Request and Response return a filter, or nil where v asks for nothing on r.
	Request  func(r *router.Route, v T) exchange.RequestFilter
	Response func(r *router.Route, v T) exchange.ResponseFilter
	// Forward changes how requests are sent to Pods.
	Forward func(f *Forwarding, v T)
	// Extend is for what is more than a filter of each kind.
	Extend func(c *Chain, v T)
	// Protects says, as text, how v protects what is behind r, where the text of v does not: see Guard.
	Protects func(r *router.Route, v T) string
	// Global is what a value of a global family says about the whole proxy.
	Global func(s *Settings, v T)
}

// DefaultValue calls Default.
func (p *Of[T]) DefaultValue(r *router.Route) (any, bool) {
	if p.Default == nil {
		return nil, false
	}
	return p.Default(r)
}

// Compile calls Request, Response, Forward and Extend. v must be a T.
func (p *Of[T]) Compile(c *Chain, v any) {
	value := v.(T)
	if p.Request != nil {
		c.OnRequest(p.Request(c.Route, value))
	}
	if p.Response != nil {
		c.OnResponse(p.Response(c.Route, value))
	}
	if p.Forward != nil {
		p.Forward(&c.Forwarding, value)
	}
	if p.Extend != nil {
		p.Extend(c, value)
	}
}

// Govern calls Global. v must be a T.
func (p *Of[T]) Govern(s *Settings, v any) {
	if p.Global != nil {
		p.Global(s, v.(T))
	}
}

// protection calls Protects. v must be a T.
func (p *Of[T]) protection(r *router.Route, v any) string {
	if p.Protects != nil {
		return p.Protects(r, v.(T))
	}
	return policy.Value{Family: p.FamilyName(), Parsed: v}.String()
}

// Families returns the policies as Build takes them, in the same order.
func Families(policies []Policy) []policy.Family {
	families := make([]policy.Family, len(policies))
	for i, p := range policies {
		families[i] = p
	}
	return families
}

// Chain is what the policies of one Route compiled to, in order of execution. Both lists are empty for a Route without
// policies, which is the fast path. A Chain is immutable once it is published.
type Chain struct {
	Route    *router.Route
	Request  []exchange.RequestFilter
	Response []exchange.ResponseFilter
	// Forwarding says how requests are sent to Pods.
	Forwarding Forwarding
	// Locations says how URLs look that filters make of a path.
	Locations Locations
	// RedirectCode is the status of redirects to the same URL with another scheme or host.
	RedirectCode int
	// Unlogged leaves requests out of the access log.
	Unlogged bool
	// LogRewrites has the access log tell what becomes of the paths of requests.
	LogRewrites bool
	// Tracing says whether and how requests are traced.
	Tracing Tracing
	// Runtime is what filters may use of the engine.
	Runtime *Runtime
	// Anonymous says that clients of the Route are not asked who they are, whatever its policies say.
	Anonymous bool

	access  access
	release []func()
	// requestBy are the families of Request, for rehearsals; compiling is the one that is being compiled.
	requestBy []string
	compiling string
}

// OnRequest adds a filter, which may be nil.
func (c *Chain) OnRequest(f exchange.RequestFilter) {
	if f != nil {
		c.Request = append(c.Request, f)
		c.requestBy = append(c.requestBy, c.compiling)
	}
}

// OnResponse adds a filter, which may be nil.
func (c *Chain) OnResponse(f exchange.ResponseFilter) {
	if f != nil {
		c.Response = append(c.Response, f)
	}
}

// OnRelease has f called when the Chain is used no more but by requests that are under way.
func (c *Chain) OnRelease(f func()) { c.release = append(c.release, f) }

// Release gives back what the filters hold of the Runtime.
func (c *Chain) Release() {
	for _, f := range c.release {
		f()
	}
}

// Compile returns the Chain of r: for each policy in order, what the value that r carries comes to, else the
// policy's default. Publish calls it once for each new Route.
func Compile(policies []Policy, r *router.Route, rt *Runtime) *Chain {
	c := &Chain{Route: r, Runtime: rt, RedirectCode: statusPermanentRedirect}
	for _, p := range policies {
		v, ok := valueOf(r, p.FamilyName())
		if !ok {
			v, ok = p.DefaultValue(r)
		}
		if ok {
			c.compiling = p.FamilyName()
			p.Compile(c, v)
		}
	}
	// These come before all that filters requests, and their answers pass what filters answers, as in nginx.
	switch {
	case r.AppendSlash:
		c.Request, c.requestBy = []exchange.RequestFilter{AppendSlash{c.Locations}}, []string{router.RewriteFamily}
	case r.SendTo != "":
		c.Request, c.requestBy = []exchange.RequestFilter{SendToHost{r.SendTo, c.RedirectCode}}, []string{router.ServerNamesFamily}
	}
	return c
}

// Govern returns what the values of the global families say, in the order of policies.
func Govern(policies []Policy, values []policy.Value) *Settings {
	s := new(Settings)
	for _, p := range policies {
		for _, v := range values {
			if v.Family == p.FamilyName() {
				p.Govern(s, v.Parsed)
			}
		}
	}
	return s
}

// Guard returns, as text, what the security policies of r say: those that fail closed. Two Routes with equal guards protect what is
// behind them alike.
func Guard(policies []Policy, r *router.Route) string {
	var b strings.Builder
	b.WriteString(r.Denied)
	for _, p := range policies {
		if p.InvalidEffect() != policy.Deny {
			continue
		}
		v, ok := valueOf(r, p.FamilyName())
		if !ok {
			v, ok = p.DefaultValue(r)
		}
		if ok {
			b.WriteByte('\n')
			b.WriteString(protection(p, r, v))
		}
	}
	return b.String()
}

// protection returns, as text, what v of p protects on r.
func protection(p Policy, r *router.Route, v any) string {
	if own, is := p.(interface {
		protection(r *router.Route, v any) string
	}); is {
		return own.protection(r, v)
	}
	return policy.Value{Family: p.FamilyName(), Parsed: v}.String()
}

// ValueOf returns the value of p that holds for r: what it carries, else the default; ok is false where nothing holds.
func ValueOf(r *router.Route, p Policy) (v policy.Value, ok bool) {
	for i := range r.Policies {
		if r.Policies[i].Family == p.FamilyName() {
			return r.Policies[i], true
		}
	}
	parsed, ok := p.DefaultValue(r)
	return policy.Value{Family: p.FamilyName(), Parsed: parsed}, ok
}

// valueOf finds a family's value by a scan: a Route carries a handful.
func valueOf(r *router.Route, family string) (any, bool) {
	for i := range r.Policies {
		if r.Policies[i].Family == family {
			return r.Policies[i].Parsed, true
		}
	}
	return nil, false
}

// FilterRequest runs the request filters until one answers.
func (c *Chain) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if x.Rehearsal != nil {
		return c.rehearse(x)
	}
	for _, f := range c.Request {
		if f.FilterRequest(x) == exchange.Answered {
			return exchange.Answered
		}
	}
	return exchange.Continue
}

// rehearse is FilterRequest for an Exchange with a Rehearsal, which is told what each filter did.
func (c *Chain) rehearse(x *exchange.Exchange) exchange.Verdict {
	for i, f := range c.Request {
		verdict := x.Rehearsal.Watch(c.requestBy[i], x, func() exchange.Verdict { return f.FilterRequest(x) })
		if verdict == exchange.Answered {
			return exchange.Answered
		}
	}
	return exchange.Continue
}

// FilterResponse runs every response filter.
func (c *Chain) FilterResponse(x *exchange.Exchange) {
	for _, f := range c.Response {
		f.FilterResponse(x)
	}
}
