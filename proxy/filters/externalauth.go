package filters

import (
	"context"
	"net/url"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/proxy/subrequest"
	"podlane.dev/podlane/router/policy"
)

// authLimit bounds one question to an authentication service, the wait for its turn included.
const authLimit = 5 * time.Second

// maxAuthURL bounds the URL of a question: variables of it may hold what a client sends, several times.
const maxAuthURL = 16 << 10

// The statuses of this family.
const (
	statusOK            = 200
	statusInternalError = 500
)

// ExternalAuth returns the family that asks a service whether a request may pass.
func ExternalAuth() Policy {
	return &Of[externalAuth]{
		Of: policy.Of[externalAuth]{
			Name: "external-auth",
			Doc: "Asks a service whether each request may pass, before it goes anywhere. The question has the request's fields but no body, " +
				"and X-Original-URL, X-Original-Method, X-Sent-From and X-Auth-Request-Redirect. An answer of 2xx lets the request pass, 401 " +
				"and 403 go to the client, and anything else, no answer within 5 seconds too, is 500. Connections to the service are kept, and " +
				"its certificate is not verified, as nginx does not. The service may not be at a loopback or link-local address unless " +
				"--external-name-allow has it. Routes of no-auth-locations are exempt.",
			Keys:      externalAuthKeys(),
			IfInvalid: policy.Deny,
			Resolve:   resolveExternalAuth,
		},
		Extend: extendExternalAuth,
	}
}

// externalAuth is the parsed value of the family: which service is asked, nil for none.
type externalAuth struct{ *authService }

// String returns the value for the text of a Table.
func (v externalAuth) String() string {
	if v.authService == nil {
		return "off"
	}
	return v.authService.String()
}

// extendExternalAuth adds the check, and what becomes of the fields that are the service's to say, whether it was asked or not.
func extendExternalAuth(c *Chain, v externalAuth) {
	if v.authService == nil {
		return
	}
	if !c.Anonymous {
		check := &authCheck{authService: v.authService, runtime: c.Runtime}
		if v.cacheKey != nil {
			check.cache = newAuthCache()
		}
		c.OnAccess(check)
		if v.signin != nil {
			c.SignInAt(v.signin)
		}
		c.OnResponse(grantedCookies{always: v.alwaysCookie})
	}
	if len(v.responseHeaders) > 0 {
		c.OnRequest(grantedFields(v.responseHeaders))
	}
}

// authService is what is asked, how, and what of the answers is used. It is immutable.
type authService struct {
	url *expr.Expr
	// method is "" where nobody says it.
	method string
	// signin is where clients are sent to that are not known, nil for nowhere.
	signin *expr.Expr
	// responseHeaders are fields for the Pod.
	responseHeaders []string
	redirect        *expr.Expr
	set             []setField
	cacheKey        *expr.Expr // nil for no cache
	durations       []cacheDuration
	alwaysCookie    bool
}

// setField is a field of the question.
type setField struct {
	name  string
	value *expr.Expr
}

// String returns the service for the text of a Table: all that matters, but no values of fields, which may be secrets.
func (s *authService) String() string {
	text := s.url.String()
	if s.method != "" {
		text = s.method + " " + text
	}
	if s.signin != nil {
		text += ", sign in at " + s.signin.String()
	}
	if len(s.responseHeaders) > 0 {
		text += ", for the Pod: " + strings.Join(s.responseHeaders, " ")
	}
	if r := s.redirect.String(); r != requestURI {
		text += ", redirect " + r
	}
	if len(s.set) > 0 {
		text += ", with " + setText(s.set)
	}
	if s.cacheKey != nil {
		text += ", cached by " + s.cacheKey.String() + durationsText(s.durations)
	}
	if s.alwaysCookie {
		text += ", cookies always"
	}
	return text
}

// authCheck asks a service.
type authCheck struct {
	*authService
	runtime *Runtime
	cache   *authCache // nil for none
}

// authAnswer is what is used of an answer. It is immutable.
type authAnswer struct {
	status int
	grant  exchange.Grant
	// challenges are values of WWW-Authenticate.
	challenges []string
}

// CheckAccess implements AccessCheck.
func (a *authCheck) CheckAccess(x *exchange.Exchange) Access {
	var key cacheKey
	var answer *authAnswer
	if a.cache != nil && (x.Rehearsal == nil || x.Rehearsal.AuthStatus == 0) {
		at := len(x.Scratch)
		x.Scratch = a.cacheKey.AppendEscaped(x.Scratch, x, expr.EscapeNone)
		key = keyOf(x.Scratch[at:])
		x.Scratch = x.Scratch[:at]
		answer = a.cache.find(key, x.Timing.Start)
	}
	switch {
	case answer != nil:
		x.Rehearsal.Note("what the authentication service said before is remembered")
	case x.Rehearsal != nil:
		answer = a.rehearse(x)
	default:
		answer = a.ask(x, key)
	}
	if answer == nil {
		x.Answer(statusInternalError, exchange.Unauthorized, "500 Internal Server Error: the authentication service did not answer\n")
		return Failed
	}
	x.Grant = &answer.grant
	switch {
	case answer.status >= 200 && answer.status < 300:
		return Allowed
	case answer.status == statusForbidden:
		x.Answer(statusForbidden, exchange.Unauthorized, "403 Forbidden\n")
		return Forbidden
	case answer.status != statusUnauthorized:
		x.Answer(statusInternalError, exchange.Unauthorized, "500 Internal Server Error: the authentication service answered neither yes nor no\n")
		return Failed
	}
	x.Answer(statusUnauthorized, exchange.Unauthorized, "401 Unauthorized\n")
	for _, challenge := range answer.challenges {
		x.Response.Fields.AddString(exchange.WWWAuthenticate.Name(), challenge)
	}
	return Unauthorized
}

// ask asks the service, nil is that there was no answer that can be used. An answer is remembered under key where it may be.
func (a *authCheck) ask(x *exchange.Exchange, key cacheKey) *authAnswer {
	question, ok := a.question(x)
	if !ok {
		return nil
	}
	var said *subrequest.Answer
	x.Waiter.Wait(authLimit, func(ctx context.Context) {
		var err error
		if said, err = a.runtime.Subrequests.Do(ctx, question); err != nil {
			said = nil // why, the client is not told
		}
	})
	if said == nil {
		return nil
	}
	answer := &authAnswer{status: said.Status, challenges: said.Values(exchange.WWWAuthenticate.Name())}
	answer.grant.Cookies = said.Values(exchange.SetCookie.Name())
	for _, name := range a.responseHeaders {
		if value := strings.Join(said.Values(name), ", "); value != "" {
			answer.grant.Fields = append(answer.grant.Fields, exchange.Field{Name: name, Value: value})
		}
	}
	if a.cache != nil {
		now := time.Now()
		if d := freshness(said.Status, said, a.durations, now); d > 0 {
			a.cache.store(key, answer, now.Add(d))
		}
	}
	return answer
}

// rehearse tells what the service would be asked, and takes it that the answer is what the Rehearsal says, else yes. nil is that it cannot be asked.
func (a *authCheck) rehearse(x *exchange.Exchange) *authAnswer {
	q, ok := a.question(x)
	if !ok {
		return nil
	}
	address := withoutUser(q.URL)
	x.Rehearsal.Note("would ask %s %s", q.Method, address)
	status := x.Rehearsal.AuthStatus
	if status == 0 {
		status = statusOK
		x.Rehearsal.Assume("%s answers 2xx: it was not asked", address)
	} else {
		x.Rehearsal.Assume("%s answers %d: it was not asked", address, status)
	}
	if status < 300 && len(a.responseHeaders) > 0 {
		x.Rehearsal.Note("the Pod gets %s as its answer has them", strings.Join(a.responseHeaders, ", "))
	}
	return &authAnswer{status: status}
}

// withoutUser returns a URL without the name and password that it may hold, and without its query, which may hold what a client proves its
// identity with.
func withoutUser(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(a URL that does not parse)"
	}
	u.User = nil
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.String()
}

// question returns what the service is asked about x; ok is false where that cannot be asked.
func (a *authCheck) question(x *exchange.Exchange) (q *subrequest.Request, ok bool) {
	at := len(x.Scratch)
	defer func() { x.Scratch = x.Scratch[:at] }()
	eval := func(e *expr.Expr, how expr.Escape) string {
		x.Scratch = e.AppendEscaped(x.Scratch[:at], x, how)
		return string(x.Scratch[at:])
	}
	address := eval(a.url, expr.EscapeURL)
	u, err := url.Parse(address)
	if err != nil || len(address) > maxAuthURL {
		return nil, false
	}
	q = &subrequest.Request{Method: a.method, URL: address, Host: hostname(u)}
	q.Forward(&x.Request.Fields)
	if a.method == "" {
		q.Method = "GET"
	} else {
		q.Set(exchange.XOriginalURI.Name(), string(x.Request.Target))
		q.Set(exchange.XScheme.Name(), x.Client.Proto)
	}
	q.Set(exchange.XOriginalURL.Name(), eval(originalURL, expr.EscapeText))
	q.Set(exchange.XOriginalMethod.Name(), string(x.Request.Method))
	q.Set("X-Sent-From", "nginx-ingress-controller")
	q.Set("X-Auth-Request-Redirect", eval(a.redirect, expr.EscapeText))
	for i := range a.set {
		q.Set(a.set[i].name, eval(a.set[i].value, expr.EscapeText))
	}
	return q, true
}

// hostname returns the host of a URL without its port, which is what ingress-nginx sends as Host.
func hostname(u *url.URL) string {
	name := u.Hostname()
	if strings.Contains(name, ":") {
		return "[" + name + "]"
	}
	return name
}

// requestURI is the expression for what X-Auth-Request-Redirect is without an annotation.
const requestURI = "$request_uri"

// originalURL is never written after it is made.
var originalURL = mustParse("$scheme://$http_host" + requestURI)

// mustParse compiles an expression of ours.
func mustParse(text string) *expr.Expr {
	e, err := expr.Parse(text)
	if err != nil {
		panic(err)
	}
	return e
}

// grantedFields are the names of fields that only the service may set.
type grantedFields []string

// FilterRequest sets the fields to what the service said, and removes what the client sent under these names.
func (names grantedFields) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	at := len(x.Scratch)
	for _, name := range names {
		x.Scratch = append(x.Scratch[:at], name...)
		x.Request.Fields.DelName(x.Scratch[at:])
	}
	x.Scratch = x.Scratch[:at]
	if x.Grant != nil {
		for _, f := range x.Grant.Fields {
			x.Request.Fields.AddString(f.Name, f.Value)
		}
	}
	return exchange.Continue
}

// grantedCookies hands the cookies of the service to the client.
type grantedCookies struct{ always bool }

// FilterResponse adds the cookies to answers with the statuses of nginx's add_header, or to all.
func (f grantedCookies) FilterResponse(x *exchange.Exchange) {
	if x.Grant == nil || len(x.Grant.Cookies) == 0 || !f.always && !takesHeaders(x.Response.Status) {
		return
	}
	for _, cookie := range x.Grant.Cookies {
		x.Response.Fields.AddString(exchange.SetCookie.Name(), cookie)
	}
}

// takesHeaders reports whether nginx's add_header without "always" adds to answers of this status.
func takesHeaders(status int) bool {
	switch status {
	case 200, 201, 204, 206, 301, 302, 303, 304, 307, 308:
		return true
	}
	return false
}
