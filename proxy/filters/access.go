package filters

import (
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
)

// Access is what an AccessCheck finds.
type Access uint8

// The findings, in ascending order of what is answered where several keep the request out.
const (
	// NoOpinion is a check that neither lets the request in nor keeps it out.
	NoOpinion Access = iota
	// Allowed lets the request in. With satisfy: any no further check runs.
	Allowed
	// Forbidden keeps the request out, whoever the client says that it is: 403.
	Forbidden
	// Unauthorized keeps the request out until the client says who it is: 401, or the way to where it can sign in.
	Unauthorized
	// Failed is a check that could not be made: 500 or 503. It is final, whatever other checks find.
	Failed
)

// String returns the finding in words.
func (a Access) String() string {
	return [...]string{"no opinion", "lets the request in", "keeps the request out", "wants to know who the client is", "could not check"}[a]
}

// AccessCheck decides whether requests of one Route may pass: source ranges, passwords, an authentication service. It is made once per Route at Publish
// and is used concurrently; it must not keep x or anything that x handed out.
//
// What must become of every request, such as the removal of fields that only the check may set, belongs into a RequestFilter besides: with satisfy: any
// a check does not run where another lets the request in.
type AccessCheck interface {
	// CheckAccess judges x. Where it finds Forbidden, Unauthorized or Failed it has made x's response, with Exchange.Answer; otherwise it leaves the
	// response alone. It may run after another check that has made a response.
	CheckAccess(x *exchange.Exchange) Access
}

// OnAccess adds a check. All checks of a Chain run in the order of their addition, in one filter at the place of the first: see Satisfy.
func (c *Chain) OnAccess(check AccessCheck) {
	if len(c.access.checks) == 0 {
		c.OnRequest(&c.access)
	}
	c.access.checks = append(c.access.checks, check)
	c.access.by = append(c.access.by, c.compiling)
}

// SatisfyAny lets in what one of the checks lets in, where otherwise all must.
func (c *Chain) SatisfyAny() { c.access.any = true }

// SignInAt sends clients that a check, whichever, asks who they are to the URL instead, as the error_page 401 of ingress-nginx does. url may not be nil.
func (c *Chain) SignInAt(url *expr.Expr) { c.access.signin = url }

// access is the filter of a Chain's checks.
type access struct {
	checks []AccessCheck
	by     []string // their families
	any    bool
	signin *expr.Expr // nil for nowhere
}

// FilterRequest answers requests that the checks keep out.
func (a *access) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	if a.any {
		return a.one(x)
	}
	for i := range a.checks {
		if found := a.check(i, x); found > Allowed {
			a.redirect(x, found)
			x.Rehearsal.Blame(a.by[i])
			return exchange.Answered
		}
	}
	return exchange.Continue
}

// check makes the i-th check.
func (a *access) check(i int, x *exchange.Exchange) (found Access) {
	if x.Rehearsal == nil {
		return a.checks[i].CheckAccess(x)
	}
	x.Rehearsal.Watch(a.by[i], x, func() exchange.Verdict {
		if found = a.checks[i].CheckAccess(x); found != NoOpinion {
			x.Rehearsal.Note("%s", found)
		}
		return exchange.Continue
	})
	return found
}

// one asks until a check lets x in. Where none does, the answer is that of the last that asks who the client is, else of the last that keeps it
// out, as in nginx; where all are without an opinion, x passes. The client may answer any of the challenges.
func (a *access) one(x *exchange.Exchange) exchange.Verdict {
	var kept exchange.Response
	worst := NoOpinion
	for i := range a.checks {
		if worst == Unauthorized {
			kept, x.Response = x.Response, exchange.Response{}
		}
		switch found := a.check(i, x); found {
		case Allowed:
			x.Withdraw()
			return exchange.Continue
		case Failed:
			x.Rehearsal.Blame(a.by[i])
			return exchange.Answered
		case NoOpinion, Forbidden, Unauthorized:
			switch {
			case worst != Unauthorized:
			case found == Unauthorized:
				challengeToo(&x.Response, &kept)
			default:
				x.Response = kept
			}
			if found != NoOpinion && found >= worst {
				x.Rehearsal.Blame(a.by[i])
			}
			worst = max(worst, found)
		}
	}
	if worst == NoOpinion {
		return exchange.Continue
	}
	a.redirect(x, worst)
	return exchange.Answered
}

// redirect makes of a 401 the way to where clients sign in. nginx hands the challenges on with it.
func (a *access) redirect(x *exchange.Exchange, found Access) {
	if a.signin == nil || found != Unauthorized {
		return
	}
	kept := x.Response
	x.Response = exchange.Response{}
	x.Answer(statusFound, exchange.Unauthorized, "302 Found\n")
	at := len(x.Scratch)
	x.Scratch = a.signin.AppendEscaped(x.Scratch, x, expr.EscapeURL)
	x.Response.Fields.Set(exchange.Location, x.Scratch[at:])
	x.Scratch = x.Scratch[:at]
	challengeToo(&x.Response, &kept)
}

// challengeToo adds the challenges of another answer to r.
func challengeToo(r, other *exchange.Response) {
	for i := range other.Fields.Len() {
		if id, name, value, ok := other.Fields.At(i); ok && id == exchange.WWWAuthenticate {
			r.Fields.Add(string(name), value)
		}
	}
}
