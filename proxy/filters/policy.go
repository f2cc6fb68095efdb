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
	// NewRequestFilter returns what v does to requests of r, or nil where it does nothing. v comes from ParseValues or
	// DefaultValue. The filter is made once per Route and used concurrently.
	NewRequestFilter(r *router.Route, v any) exchange.RequestFilter
	// NewResponseFilter is NewRequestFilter for responses, the proxy's own answers on r included.
	NewResponseFilter(r *router.Route, v any) exchange.ResponseFilter
}

// Of is a Policy whose parsed value is an immutable T. Each of its functions but Parse may be nil.
type Of[T any] struct {
	policy.Of[T]
	// Default returns the value of a Route without annotations of this family; nil means that nothing holds then.
	Default func(r *router.Route) (T, bool)
	// Request and Response return a filter, or nil where v asks for nothing on r.
	Request  func(r *router.Route, v T) exchange.RequestFilter
	Response func(r *router.Route, v T) exchange.ResponseFilter
}

// DefaultValue calls Default.
func (p *Of[T]) DefaultValue(r *router.Route) (any, bool) {
	if p.Default == nil {
		return nil, false
	}
	return p.Default(r)
}

// NewRequestFilter calls Request. v must be a T.
func (p *Of[T]) NewRequestFilter(r *router.Route, v any) exchange.RequestFilter {
	if p.Request == nil {
		return nil
	}
	return p.Request(r, v.(T))
}

// NewResponseFilter calls Response. v must be a T.
func (p *Of[T]) NewResponseFilter(r *router.Route, v any) exchange.ResponseFilter {
	if p.Response == nil {
		return nil
	}
	return p.Response(r, v.(T))
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
	Request  []exchange.RequestFilter
	Response []exchange.ResponseFilter
}

// Compile returns the Chain of r: for each policy in order, the filters of the value that r carries, else of the
// policy's default. Publish calls it once for each new Route.
func Compile(policies []Policy, r *router.Route) Chain {
	var c Chain
	for _, p := range policies {
		v, ok := valueOf(r, p.FamilyName())
		if !ok {
			v, ok = p.DefaultValue(r)
		}
		if !ok {
			continue
		}
		if f := p.NewRequestFilter(r, v); f != nil {
			c.Request = append(c.Request, f)
		}
		if f := p.NewResponseFilter(r, v); f != nil {
			c.Response = append(c.Response, f)
		}
	}
	return c
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
			b.WriteString(policy.Value{Family: p.FamilyName(), Parsed: v}.String())
		}
	}
	return b.String()
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
	for _, f := range c.Request {
		if f.FilterRequest(x) == exchange.Answered {
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
