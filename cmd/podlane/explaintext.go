package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/exchange"
)

// This file writes explanations for people.

// summarize says what may happen in a line each.
func summarize(x *explained) []string {
	lines := make([]string, 0, len(x.Outcomes))
	for i := range x.Outcomes {
		o := &x.Outcomes[i]
		text := outcomeText(x, o)
		if o.Total > o.Weight {
			text = fmt.Sprintf("%d of %d: %s", o.Weight, o.Total, text)
		}
		lines = append(lines, text)
	}
	return lines
}

func outcomeText(x *explained, o *proxy.Outcome) string {
	if f := o.Forward; f != nil {
		what := "proxied to"
		switch {
		case f.ErrorService:
			what = "answered by the service for errors, at"
		case x.Handshake != nil && x.Handshake.Passthrough:
			what = "TLS is passed through to"
		}
		if f.Pinned != nil {
			return fmt.Sprintf("%s %s of %s, by %s", what, f.Pinned.Address, f.Service, f.Pinned.By)
		}
		if f.InUse == 1 {
			return fmt.Sprintf("%s the Pod of %s", what, f.Service)
		}
		return fmt.Sprintf("%s one of %d Pods of %s", what, f.InUse, f.Service)
	}
	return answerText(x, o)
}

// answerText says what the proxy answers itself.
func answerText(x *explained, o *proxy.Outcome) string {
	a := o.Answer
	why := reasonText(exchange.Why(a.Reason), x, o)
	switch {
	case a.By != "":
		why = "by " + a.By + givenText(x, a.By)
	case a.Reason == proxy.HandshakeRefused && len(x.Certificates) == 0:
		return "the handshake is refused: no Ingress has a certificate for " + serverName(x)
	case a.Reason == proxy.HandshakeRefused:
		return "the handshake fails: " + a.Detail
	case a.Status == 0 && x.Client.Protocol == exchange.HTTP2.String():
		return "the stream is reset: the request breaks a rule of HTTP/2, as fields about the connection do, and names in upper case"
	case a.Status == 0:
		return "the connection is closed: " + why
	}
	if a.Logged != 0 {
		return fmt.Sprintf("gRPC status %d (%s), counted and logged as %d: %s", a.GRPC, grpcName(a.GRPC), a.Logged, why)
	}
	if a.Location != "" {
		return fmt.Sprintf("%d to %s, %s", a.Status, a.Location, why)
	}
	return fmt.Sprintf("%d: %s", a.Status, why)
}

// grpcName returns the name of a status of gRPC, of those that the proxy gives.
func grpcName(status int) string {
	names := map[int]string{
		2: "UNKNOWN", 4: "DEADLINE_EXCEEDED", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE",
		16: "UNAUTHENTICATED",
	}
	return names[status]
}

func serverName(x *explained) string {
	if x.Handshake == nil || x.Handshake.ServerName == "" {
		return "a client without a server name"
	}
	return x.Handshake.ServerName
}

// reasonText says why the proxy answers itself where it is no policy that answers.
func reasonText(why exchange.Why, x *explained, o *proxy.Outcome) string {
	switch why {
	case exchange.NoRoute:
		if x.Host == nil {
			return "no route: no Ingress has the host"
		}
		return "no route: the host has no such path, and no default backend"
	case exchange.RouteDenied:
		if x.Route != nil && x.Route.Denied != "" {
			return fmt.Sprintf("the route is closed, because its policy %q cannot be used", x.Route.Denied)
		}
		return "the route is closed, because a policy cannot be used"
	case exchange.NoEndpoint:
		return "no endpoint of " + o.Service + " is ready"
	case exchange.BackendMissing:
		return "the backend does not exist: see the problems of the Ingress"
	case exchange.Misdirected:
		return "the handshake was for " + serverName(x) + ", whose clients are asked for something else than those of the host"
	case exchange.BodyTooLarge:
		return "the request body is larger than proxy-body-size allows"
	case exchange.BadRequest:
		return "the request breaks a rule of HTTP: " + o.Answer.Detail
	}
	return string(why)
}

// givenText says which keys made a policy, "" for its default.
func givenText(x *explained, family string) string {
	for i := range x.Policies {
		if p := &x.Policies[i]; p.Family == family && len(p.Given) > 0 {
			texts := make([]string, len(p.Given))
			for k := range p.Given {
				texts[k] = keyText(&p.Given[k])
			}
			return " (" + strings.Join(texts, ", ") + ")"
		}
	}
	return ""
}

func keyText(g *proxy.GivenSeen) string {
	text := fmt.Sprintf("%s: %q", g.Name, g.Value)
	if g.Object != "" {
		return string(g.By) + " of " + g.Object + " " + text
	}
	return string(g.By) + " " + text
}

// sheet is lines with a heading each, which stand in one column.
type sheet struct{ *tabwriter.Writer }

func (s sheet) line(heading, format string, args ...any) {
	fmt.Fprintf(s, "%s\t%s\n", heading, fmt.Sprintf(format, args...))
}

// list writes lines of which the first has the heading.
func (s sheet) list(heading string, lines []string) {
	for _, line := range lines {
		s.line(heading, "%s", line)
		heading = ""
	}
}

// writeExplained writes all of an explanation.
func writeExplained(w io.Writer, x *explained) {
	fmt.Fprintf(w, "%s %s\n", x.Question.Method, x.Question.URL)
	for _, line := range x.Summary {
		fmt.Fprintf(w, "=> %s\n", line)
	}
	fmt.Fprintln(w)
	s := sheet{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	s.list("if", x.Conditions)
	s.line("client", "%s", strings.TrimSuffix(fmt.Sprintf("%s, %s, port %d, %s", x.Client.Address, x.Client.Scheme, x.Client.Port, x.Client.Protocol), ", "))
	writeHandshake(s, x)
	writeRoute(s, x)
	s.list("policies", policyLines(x))
	s.list("steps", stepLines(x))
	if c := x.Canary; c != nil {
		s.line("canary", "Ingress %s/%s: %s%s", c.Namespace, c.Ingress, c.Rules, decidedText(c))
	}
	problems := make([]string, len(x.Problems))
	for i, p := range x.Problems {
		at := ""
		if p.Source != "" {
			at = p.Source + ": "
		}
		problems[i] = fmt.Sprintf("%s%s %s: %s (%s)", at, p.Name, p.Field, p.Message, p.Reason)
	}
	s.list("problems", problems)
	_ = s.Flush() // the writer's errors are seen below
	for i := range x.Outcomes {
		if f := x.Outcomes[i].Forward; f != nil {
			writeForward(w, f)
		}
	}
	if x.Generation > 0 { // else it was refused before any was looked at
		fmt.Fprintf(w, "\ntable generation %d\n", x.Generation)
	}
}

func decidedText(c *proxy.CanarySeen) string {
	if c.Decided == "" {
		return ""
	}
	return "; decided: " + c.Decided
}

func writeHandshake(s sheet, x *explained) {
	h := x.Handshake
	if h == nil {
		return
	}
	if h.Passthrough {
		s.line("handshake", "TLS for %s ends at the Pods", h.ServerName)
		return
	}
	var lines []string
	for i := range x.Certificates {
		c := &x.Certificates[i]
		text := fmt.Sprintf("Secret %s/%s", c.Namespace, c.Secret)
		if c.Secret == "" {
			text = "Podlane's own, which no client trusts"
		}
		if c.Owner != "" {
			text += " of Ingress " + c.Owner
		}
		if c.Default {
			text += ", the default certificate"
		}
		if !c.NotAfter.IsZero() {
			text += ", expires " + c.NotAfter.UTC().Format(time.RFC3339)
		}
		lines = append(lines, text+" ("+c.State+")")
	}
	s.line("server name", "%s", serverName(x))
	if h.Version != "" {
		s.line("handshake", "%s", strings.TrimSuffix(h.Version+", "+h.Cipher, ", "))
	}
	s.list("certificate", lines)
	if h.Verify != "" {
		shown := "none is shown (--client-cert)"
		if h.Shown != "" {
			shown = h.Shown + " is shown: " + h.Verdict
		}
		s.line("client cert.", "%s, asked for by Ingress %s; %s", h.Verify, h.Owner, shown)
	}
}

func writeRoute(s sheet, x *explained) {
	if h := x.Host; h != nil {
		name := h.Name
		if name == "" {
			name = "(none)"
		}
		as := ""
		if h.Compat {
			as = ", read as ingress-nginx reads it"
		}
		s.line("host", "%s: %s%s", name, h.Found, as)
	}
	if x.Path != "" {
		s.line("path", "%s", x.Path)
	}
	if x.Route != nil {
		s.line("route", "%s", routeText(x.Route))
	}
	others := make([]string, len(x.Candidates))
	for i := range x.Candidates {
		others[i] = routeText(&x.Candidates[i].RouteSeen) + ": " + x.Candidates[i].Why
	}
	s.list("not", others)
}

func routeText(r *proxy.RouteSeen) string {
	owner := "--default-backend-service"
	if r.Ingress != "" {
		owner = "Ingress " + r.Namespace + "/" + r.Ingress
	}
	if r.Default {
		return owner + ", default backend"
	}
	return fmt.Sprintf("%s, %s %s", owner, r.Type, r.Path)
}

func policyLines(x *explained) []string {
	lines := make([]string, 0, len(x.Policies))
	for i := range x.Policies {
		p := &x.Policies[i]
		line := strings.TrimRight(p.Family+" "+p.Value, " ")
		switch len(p.Given) {
		case 0:
			line += " (default)"
		case 1:
			line += givenText(x, p.Family)
		}
		lines = append(lines, line)
		if len(p.Given) > 1 {
			for k := range p.Given {
				lines = append(lines, "  "+keyText(&p.Given[k]))
			}
		}
	}
	return lines
}

func stepLines(x *explained) []string {
	var lines []string
	for _, step := range x.Steps {
		for _, did := range step.Did {
			lines = append(lines, step.Family+" "+did)
		}
	}
	return lines
}

// writeForward writes where a request goes.
func writeForward(w io.Writer, f *proxy.Forward) {
	fmt.Fprintf(w, "\nService %s: %s, %s, %d of %s in use\n", f.Service, f.Protocol, f.Balance, f.InUse, count(len(f.Endpoints), "endpoint"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range f.Endpoints {
		e := &f.Endpoints[i]
		state := e.State
		if e.EjectedFor > 0 {
			state += fmt.Sprintf(" for %gs", e.EjectedFor)
		}
		pod := ""
		if e.Pod != "" {
			pod = "\tpod " + e.Pod
		}
		fmt.Fprintf(t, "  %s\t%s\t%d in flight%s\n", e.Address, state, e.InFlight, pod)
	}
	_ = t.Flush() // as above
	if f.Sent.Method == "" {
		return // what it gets is not seen here
	}
	fmt.Fprintf(w, "  the Pod gets %s %s\n", f.Sent.Method, f.Sent.Target)
	for _, field := range f.Sent.Set {
		fmt.Fprintf(w, "    + %s: %s\n", field.Name, field.Value)
	}
	for _, name := range f.Sent.Removed {
		fmt.Fprintf(w, "    - %s\n", name)
	}
	fmt.Fprintf(w, "  timeouts: connect %gs, send %gs, head %gs, body %gs; body up to %s\n",
		f.Timeouts.Connect, f.Timeouts.Send, f.Timeouts.Header, f.Timeouts.Body, bytesText(f.Timeouts.MaxBody))
	fmt.Fprintf(w, "  tried again: %s\n", f.Retries)
}

func bytesText(n int64) string {
	if n == 0 {
		return "any size"
	}
	return fmt.Sprintf("%d bytes", n)
}
