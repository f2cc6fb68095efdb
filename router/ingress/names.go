package ingress

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"podlane.dev/podlane/router"
)

// checkHost returns what is wrong with the host of a rule or of spec.tls, by the API server's rules. It must not be empty.
func checkHost(host string) error {
	name := host
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		name = rest
	}
	switch {
	case host == "*":
		return errors.New("leave the host out to serve every host that no rule names")
	case strings.Contains(name, "*"):
		return errors.New(`a wildcard is the whole first label, as in "*.example.com"`)
	case isAddress(host):
		return errors.New("a host is a DNS name, not an IP address")
	case strings.Contains(name, ":"):
		return errors.New("a host has no port and no scheme")
	case strings.ToLower(name) != name:
		return fmt.Errorf("a host is lower-case: write %q", strings.ToLower(host))
	case len(host) > 253:
		return errors.New("a host has at most 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return errors.New(`a host is a DNS name: labels of letters, digits and inner dashes, joined by dots`)
		}
	}
	return nil
}

// isAddress says whether host is an IP address, in brackets or with a port as users write them, too.
func isAddress(host string) bool {
	if _, err := netip.ParseAddrPort(host); err == nil {
		return true
	}
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil
}

// isLabel says whether s is a DNS label of RFC 1123, in lower case.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// parentWildcard returns the wildcard that covers host, or "" where none can.
func parentWildcard(host string) string {
	_, suffix, ok := strings.Cut(host, ".")
	if !ok || strings.HasPrefix(host, "*") {
		return ""
	}
	return "*." + suffix
}

// checkedPath is the path of a rule.
type checkedPath struct {
	// written is the path as it stands in the rule, "/" where it is empty; canonical is the form that is matched.
	written, canonical string
	typ                router.PathType
	// own says that the type is ImplementationSpecific: the path may be a pattern. literal is then why it can be nothing else, or nil.
	own     bool
	literal error
}

// key returns what a checkedPath matches: two paths with equal keys match the same requests.
func (p checkedPath) key() pathKey {
	path := p.canonical
	if p.literal != nil {
		path = p.written
	}
	if p.typ == router.Prefix && path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	return pathKey{path, p.typ}
}

// pathKey is comparable: equal keys are in conflict.
type pathKey struct {
	path string
	typ  router.PathType
}

// pathError says what is wrong with a path or its type; both have their field and Reason.
type pathError struct {
	field  string // under the path's own field
	reason Reason
	err    error
}

// checkPath checks a path by the API server's rules and ours, and returns its canonical form.
func checkPath(p *networkingv1.HTTPIngressPath) (checkedPath, *pathError) {
	checked := checkedPath{written: p.Path, typ: router.Prefix}
	switch {
	case p.PathType == nil:
		return checked, &pathError{"pathType", InvalidPathType, errors.New("pathType must be specified: Exact, Prefix or ImplementationSpecific")}
	case *p.PathType == networkingv1.PathTypeImplementationSpecific:
		if checked.own = true; checked.written == "" {
			checked.written = "/"
		}
	case *p.PathType == networkingv1.PathTypeExact, *p.PathType == networkingv1.PathTypePrefix:
		if *p.PathType == networkingv1.PathTypeExact {
			checked.typ = router.Exact
		}
		if err := checkStrictPath(p.Path); err != nil {
			return checked, &pathError{"path", InvalidPath, err}
		}
	default:
		return checked, &pathError{"pathType", InvalidPathType, fmt.Errorf("pathType %q is not one of Exact, Prefix and ImplementationSpecific", *p.PathType)}
	}
	canonical, _, err := router.CanonicalPathString(checked.written)
	if err != nil {
		err = fmt.Errorf("no request can have the path %q: %w", p.Path, err)
		if checked.literal = err; !checked.own {
			return checked, &pathError{"path", InvalidPath, err}
		}
	}
	checked.canonical = canonical
	return checked, nil
}

// plainPath is the form that ingress-nginx asks of Exact and Prefix paths.
var plainPath = regexp.MustCompile(`(?i)^/[[:alnum:]._\-/]*$`)

// checkStrictPath is what the API server checks of Exact and Prefix paths.
func checkStrictPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("path %q must be an absolute path", path)
	}
	for _, s := range []string{"//", "/./", "/../", "%2f", "%2F"} {
		if strings.Contains(path, s) {
			return fmt.Errorf("path %q must not contain '%s'", path, s)
		}
	}
	for _, s := range []string{"/..", "/."} {
		if strings.HasSuffix(path, s) {
			return fmt.Errorf("path %q cannot end with '%s'", path, s)
		}
	}
	return nil
}

// looksLikePattern says whether a path has characters that mean something in other controllers' patterns and that
// literal paths hardly ever have.
func looksLikePattern(path string) bool { return strings.ContainsAny(path, `*()[]{}|^$\`) }
