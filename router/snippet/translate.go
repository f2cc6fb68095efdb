package snippet

import (
	"fmt"
	"net/netip"
	"strings"
)

// The annotations of Podlane's own that take fields of messages, a line each; proxy/filters has them.
const (
	setResponseFields       = "set-response-headers"
	addResponseFields       = "add-response-headers"
	addResponseFieldsAlways = "add-response-headers-always"
	setRequestFields        = "set-request-headers"
)

// Translation is what a snippet comes to.
type Translation struct {
	// Annotations, without prefix, do what the directives do that were understood.
	Annotations map[string]string
	// Left are the directives for which there is no annotation, each with the reason.
	Left []string
}

// Translate reads a snippet of a location. What is wrong with its syntax is in Left.
func Translate(text string) Translation {
	t := &translator{out: Translation{Annotations: map[string]string{}}}
	directives, err := Parse(text)
	if err != nil {
		t.out.Left = []string{"the text is no nginx configuration: " + err.Error()}
		return t.out
	}
	for _, d := range directives {
		t.directive(d)
	}
	t.access()
	return t.out
}

type translator struct {
	out Translation
	// deny and allow are the ranges of access rules in their order, with "all" for everyone.
	rules []accessRule
}

type accessRule struct {
	allow bool
	who   string
	d     Directive
}

func (t *translator) leave(d Directive, why string) {
	t.out.Left = append(t.out.Left, fmt.Sprintf("line %d: %s: %s", d.Line, d, why))
}

// line adds a line to an annotation that has several.
func (t *translator) line(annotation, name, value string) {
	text := name + ": " + value
	if before := t.out.Annotations[annotation]; before != "" {
		text = before + "\n" + text
	}
	t.out.Annotations[annotation] = text
}

// directive takes in one directive.
func (t *translator) directive(d Directive) {
	switch {
	case d.IsBlock || len(d.Args) == 0:
		t.leave(d, "there is no annotation for it")
		return
	case strings.ContainsAny(strings.Join(d.Args, ""), "\r\n"):
		t.leave(d, "a value is one line")
		return
	}
	switch d.Name {
	case "more_set_headers":
		t.moreSetHeaders(d)
	case "add_header":
		t.addHeader(d)
	case "proxy_set_header":
		if len(d.Args) != 2 {
			t.leave(d, "it needs a name and a value")
			return
		}
		t.line(setRequestFields, d.Args[0], d.Args[1])
	case "return":
		t.redirect(d)
	case "rewrite":
		t.rewrite(d)
	case "deny", "allow":
		if len(d.Args) != 1 {
			t.leave(d, "it needs one range")
			return
		}
		t.rules = append(t.rules, accessRule{d.Name == "allow", d.Args[0], d})
	default:
		t.leave(d, "there is no annotation for it")
	}
}

func (t *translator) moreSetHeaders(d Directive) {
	for _, arg := range d.Args {
		if name, value, ok := strings.Cut(arg, ":"); !ok || strings.HasPrefix(arg, "-") || strings.TrimSpace(name) == "" || strings.TrimSpace(value) == "" {
			t.leave(d, `only "Name: value" is understood, without flags`)
			return
		}
	}
	for _, arg := range d.Args {
		name, value, _ := strings.Cut(arg, ":")
		t.line(setResponseFields, strings.TrimSpace(name), strings.TrimSpace(value))
	}
}

func (t *translator) addHeader(d Directive) {
	switch {
	case len(d.Args) == 2:
		t.line(addResponseFields, d.Args[0], d.Args[1])
	case len(d.Args) == 3 && d.Args[2] == "always":
		t.line(addResponseFieldsAlways, d.Args[0], d.Args[1])
	default:
		t.leave(d, "it needs a name and a value, and perhaps always")
	}
}

// redirect translates return.
func (t *translator) redirect(d Directive) {
	if len(d.Args) == 1 && d.Args[0] == "403" {
		t.rules = append(t.rules, accessRule{false, "all", d})
		return
	}
	if len(d.Args) != 2 || !strings.Contains(d.Args[1], "://") || strings.Contains(d.Args[1], "$") {
		t.leave(d, "only 403, and a redirect to a URL without variables, are annotations")
		return
	}
	switch d.Args[0] {
	case "301", "308":
		t.out.Annotations["permanent-redirect"] = d.Args[1]
		if d.Args[0] != "301" {
			t.out.Annotations["permanent-redirect-code"] = d.Args[0]
		}
	case "302", "303", "307":
		t.out.Annotations["temporal-redirect"] = d.Args[1]
		if d.Args[0] != "302" {
			t.out.Annotations["temporal-redirect-code"] = d.Args[0]
		}
	default:
		t.leave(d, "it is no redirect")
	}
}

// rewrite translates the one rewrite that is an annotation: from / to a start page.
func (t *translator) rewrite(d Directive) {
	if len(d.Args) == 3 && d.Args[0] == "^/$" && d.Args[2] == "redirect" && strings.HasPrefix(d.Args[1], "/") && !strings.Contains(d.Args[1], "$") {
		t.out.Annotations["app-root"] = d.Args[1]
		return
	}
	t.leave(d, "write the pattern as the path of an Ingress of its own, with pathType ImplementationSpecific, and the target as rewrite-target")
}

// access translates deny and allow, whose first match counts: that is what the lists do where all that is denied comes before what is allowed.
func (t *translator) access() {
	if len(t.rules) == 0 {
		return
	}
	var deny, allow []string
	rules := t.rules
	closed := false
	if last := rules[len(rules)-1]; last.who == "all" {
		closed, rules = !last.allow, rules[:len(rules)-1]
	}
	for _, r := range rules {
		if !isRange(r.who) || !r.allow && len(allow) > 0 {
			t.leave(r.d, "only ranges that are denied, then ranges that are allowed, then all, are annotations")
			return
		}
		if r.allow {
			allow = append(allow, r.who)
		} else {
			deny = append(deny, r.who)
		}
	}
	switch {
	case closed && len(allow) == 0:
		deny = []string{"0.0.0.0/0", "::/0"}
	case !closed:
		allow = nil // nobody else is kept out
	}
	if len(deny) > 0 {
		t.out.Annotations["denylist-source-range"] = strings.Join(deny, ",")
	}
	if len(allow) > 0 {
		t.out.Annotations["whitelist-source-range"] = strings.Join(allow, ",")
	}
}

func isRange(text string) bool {
	if _, err := netip.ParsePrefix(text); err == nil {
		return true
	}
	_, err := netip.ParseAddr(text)
	return err == nil
}
