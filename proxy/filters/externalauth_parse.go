package filters

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/router/policy"
)

// The prefixes of the two sets of keys: an Ingress's own, and those of the operator for everyone else. ingress-nginx never mixes the two.
const (
	ownAuth    = "auth-"
	globalAuth = "global-auth-"
)

const setHeadersKey = "auth-proxy-set-headers"

// externalAuthKeys returns the keys of an Ingress and those of the ConfigMap, which say the same.
func externalAuthKeys() []policy.Key {
	shared := []policy.Key{
		{
			Name: "url", Kind: policy.URL, Default: "none", Example: "http://auth.default.svc.cluster.local/verify?host=$host",
			Doc: "The service that is asked: a URL, which may hold variables. Without a path the path is /.", Closes: true,
			Differs: "addresses of this machine and link-local ones are refused unless --external-name-allow has them; the question has the X-Forwarded-* " +
				"of Podlane, where nginx passes on the client's own",
		},
		{
			Name: "method", Kind: policy.String, Default: "GET", Example: "POST",
			Doc:     "The method of the question. With it the question has X-Original-URI and X-Scheme too.",
			Differs: "CONNECT is refused",
		},
		{
			Name: "signin", Kind: policy.String, Default: "none", Example: "https://login.example.com/start",
			Doc: "Where clients are sent (302) in place of 401, that of a missing password too: a URL, or a path of the same host. It may hold variables. The URL that the client " +
				"asked for is added as a parameter, unless there is one of that name.",
		},
		{
			Name: "signin-redirect-param", Kind: policy.String, Default: "rd", Example: "next",
			Doc: "The name of that parameter.",
		},
		{
			Name: "response-headers", Kind: policy.List, Default: "none", Example: "X-Auth-Request-User,X-Auth-Request-Email", Closes: true,
			Doc: "Fields of the service's answer that the Pod gets. What a client sends under these names never reaches the Pod, whether the service " +
				"was asked or not.",
			Differs: "fields that are about the connection or the body, and Host, are refused",
		},
		{
			Name: "request-redirect", Kind: policy.String, Default: requestURI, Example: "https://$http_host$request_uri",
			Doc: "The value of X-Auth-Request-Redirect in the question. It may hold variables.",
		},
		{
			Name: "cache-key", Kind: policy.String, Default: "none", Example: "$remote_user$http_authorization",
			Doc: "Turns on a cache of the service's answers, by route and by this text, which must hold all that the service decides by. At most " +
				"1 MiB of answers are kept for a route. Answers with Set-Cookie or Vary are not; Cache-Control, Expires and X-Accel-Expires count.",
			Differs: "answers with Vary are not kept, and a table that changes the route empties its cache",
		},
		{
			Name: "cache-duration", Kind: policy.String, Default: defaultCacheDuration, Example: "200 202 10m, 401 30s",
			Doc: "How long answers are kept: statuses and a time (ms, s, m, h, d, w, M, y); several, separated by commas. Without statuses 200, 301 and 302 are meant.",
		},
		{
			Name: "always-set-cookie", Kind: policy.Bool, Default: "false", Example: "true",
			Doc:     "Hands cookies of the service to the client whatever the status of the answer is. Without it that must be 200, 201, 204, 206, 301, 302, 303, 304, 307 or 308.",
			Differs: "several cookies of the service are several fields: nginx joins them into one, which browsers misread",
		},
	}
	var keys []policy.Key
	for _, k := range shared {
		own := k
		own.Name, own.Closes = ownAuth+k.Name, false
		keys = append(keys, own)
	}
	for _, k := range shared {
		k.Name, k.Where = globalAuth+k.Name, policy.ConfigMap
		k.Doc = "For routes without auth-url that enable-global-auth does not exempt. " + k.Doc
		keys = append(keys, k)
	}
	return append(keys, ownAuthKeys()...)
}

// ownAuthKeys returns the keys that only an Ingress has.
func ownAuthKeys() []policy.Key {
	const pooled = " It has no effect: connections to the service are always kept, without regard to routes, and with HTTP/2 clients too."
	return []policy.Key{
		{
			Name: "enable-global-auth", Kind: policy.Bool, Default: "true", Example: "false",
			Doc: "\"false\" exempts the Ingress from global-auth-url.",
		},
		{
			Name: setHeadersKey, Kind: policy.ConfigMapName, Default: "none", Example: "default/auth-headers",
			ExampleData: map[string]string{"X-Tenant": "a", "X-Query": "$args"},
			Doc:         "A ConfigMap whose data are fields of the question. Values may hold variables; an empty one removes the field.",
		},
		{Name: "auth-keepalive", Kind: policy.Int, Default: "0", Example: "32", Doc: "How many connections to the service are kept." + pooled},
		{Name: "auth-keepalive-requests", Kind: policy.Int, Default: "1000", Example: "100", Doc: "How many questions a connection carries." + pooled},
		{Name: "auth-keepalive-timeout", Kind: policy.Int, Default: "60", Example: "30", Doc: "How many seconds an idle connection is kept." + pooled},
		{Name: "auth-keepalive-share-vars", Kind: policy.Bool, Default: "false", Example: "true", Doc: "Shares nginx's variables with the question." + pooled},
	}
}

// resolveExternalAuth returns the service that holds: the Ingress's own, else the operator's.
func resolveExternalAuth(v policy.Values, from policy.Source) (externalAuth, error) {
	if err := checkKeepalive(v); err != nil {
		return externalAuth{}, err
	}
	own, err := parseAuthService(v, ownAuth)
	if err != nil {
		return externalAuth{}, err
	}
	global, err := parseAuthService(v, globalAuth)
	if err != nil {
		return externalAuth{}, err
	}
	obeys, err := v.Bool("enable-global-auth", true)
	if err != nil {
		return externalAuth{}, err
	}
	if v.Has(setHeadersKey) {
		data, err := from.ConfigMap(setHeadersKey)
		if err != nil {
			return externalAuth{}, err //nolint:wrapcheck // it names the key
		}
		fields, err := parseSetFields(data)
		if err != nil {
			return externalAuth{}, err
		}
		if own != nil {
			own.set = fields
		}
	}
	switch {
	case own != nil:
		return externalAuth{own}, nil
	case obeys:
		return externalAuth{global}, nil
	}
	return externalAuth{}, nil
}

// checkKeepalive checks the values of what has no effect.
func checkKeepalive(v policy.Values) error {
	for _, key := range []string{"auth-keepalive", "auth-keepalive-requests", "auth-keepalive-timeout"} {
		if _, err := v.Int(key, 0); err != nil {
			return err
		}
	}
	_, err := v.Bool("auth-keepalive-share-vars", false)
	return err
}

// parseAuthService returns what one set of keys says, nil where it names no service. Mistakes count even then.
func parseAuthService(v policy.Values, prefix string) (*authService, error) {
	s := &authService{}
	address, err := v.URL(prefix + "url")
	if prefix == globalAuth && v.Text(prefix+"url", "") == "" {
		address, err = nil, nil // the default of ingress-nginx, which charts write down
	}
	if err != nil {
		return nil, err
	}
	if s.url, err = parseExpr(v, prefix+"url", ""); err != nil {
		return nil, err
	}
	if s.method, err = parseAuthMethod(v, prefix+"method"); err != nil {
		return nil, err
	}
	if s.signin, err = parseSignin(v, prefix+"signin", prefix+"signin-redirect-param"); err != nil {
		return nil, err
	}
	if s.responseHeaders, err = parseGranted(v, prefix+"response-headers"); err != nil {
		return nil, err
	}
	if s.redirect, err = parseExpr(v, prefix+"request-redirect", requestURI); err != nil {
		return nil, err
	}
	if v.Text(prefix+"cache-key", "") != "" {
		if s.cacheKey, err = parseExpr(v, prefix+"cache-key", ""); err != nil {
			return nil, err
		}
	}
	if s.durations, err = parseCacheDurations(v, prefix+"cache-duration"); err != nil {
		return nil, err
	}
	if s.alwaysCookie, err = v.Bool(prefix+"always-set-cookie", false); err != nil {
		return nil, err
	}
	if address == nil {
		return nil, nil //nolint:nilnil // no service is neither one nor a mistake
	}
	return s, nil
}

// parseExpr parses a text with variables; an empty one is as none.
func parseExpr(v policy.Values, key, absent string) (*expr.Expr, error) {
	text := v.Text(key, "")
	if text == "" {
		text = absent
	}
	e, err := expr.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return e, nil
}

func parseAuthMethod(v policy.Values, key string) (string, error) {
	methods := []string{"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
	method := v.Text(key, "")
	if !slices.Contains(methods, method) {
		return "", &policy.ValueError{Key: key, Value: v[key], Want: `a method in capital letters, as in "POST"`}
	}
	return method, nil
}

// parseSignin returns where clients are sent, with the parameter that says where they come from, which both have the Ingress's words.
func parseSignin(v policy.Values, key, parameterKey string) (*expr.Expr, error) {
	parameter := v.Text(parameterKey, "")
	if parameter == "" {
		parameter = "rd"
	}
	if !isParameterName(parameter) {
		return nil, &policy.ValueError{Key: parameterKey, Value: v[parameterKey], Want: `a name of letters, digits, dots, dashes and underscores, as in "rd"`}
	}
	text := v.Text(key, "")
	if text == "" {
		return nil, nil //nolint:nilnil // an absent key is neither an expression nor an error
	}
	if text[0] == '/' && !strings.HasPrefix(text, "//") {
		text = "$scheme://$http_host" + text
	}
	u, err := url.Parse(withScheme(text))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &policy.ValueError{Key: key, Value: v[key], Want: `an absolute URL, as in "https://login.example.com/start", or a path, as in "/oauth2/start"`}
	}
	separator := "?"
	switch query := u.Query(); {
	case query.Get(parameter) != "":
		parameter = ""
	case len(query) > 0:
		separator = "&"
	}
	if parameter != "" {
		text += separator + parameter + "=$pass_access_scheme://$http_host$escaped_request_uri"
	}
	e, err := expr.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return e, nil
}

// withScheme returns a URL with a scheme in the place of a variable that stands for one.
func withScheme(text string) string {
	for _, variable := range []string{"$scheme:", "${scheme}:", "$pass_access_scheme:", "${pass_access_scheme}:"} {
		if rest, ok := strings.CutPrefix(text, variable); ok {
			return "https:" + rest
		}
	}
	return text
}

func isParameterName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// maxGranted bounds the fields that one service may set.
const maxGranted = 64

// parseGranted returns the names of fields that the service sets.
func parseGranted(v policy.Values, key string) ([]string, error) {
	names := v.List(key)
	for _, name := range names {
		if !isFieldName(name) || isFraming(name) || len(names) > maxGranted {
			return nil, &policy.ValueError{Key: key, Value: v[key], Want: fmt.Sprintf(
				`at most %d names of letters, digits, dashes and underscores, none of which is about the connection or the body, as in "X-Auth-Request-User"`, maxGranted)}
		}
	}
	return names, nil
}

func isFieldName(name string) bool {
	return name != "" && len(name) <= 128 && isParameterName(name) && !strings.Contains(name, ".")
}

// isFraming reports whether a field is about the message or the connection, or decides who answers.
func isFraming(name string) bool {
	switch exchange.IDOf(name) {
	case exchange.Host, exchange.Connection, exchange.ContentLength, exchange.TransferEncoding, exchange.Expect, exchange.Upgrade, exchange.TE,
		exchange.Trailer, exchange.KeepAlive, exchange.ProxyConnection, exchange.HTTP2Settings:
		return true
	}
	return false
}

// parseSetFields returns the fields of a ConfigMap, in the order of their names.
func parseSetFields(data map[string]string) ([]setField, error) {
	var fields []setField
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if !isFieldName(name) || isFraming(name) {
			return nil, fmt.Errorf("%s: %q is not the name of a field that can be set: write letters, digits, dashes and underscores", setHeadersKey, name)
		}
		value, err := expr.Parse(data[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", setHeadersKey, name, err)
		}
		fields = append(fields, setField{name, value})
	}
	return fields, nil
}

// setText names fields, and tells their values apart without showing them.
func setText(fields []setField) string {
	h := sha256.New()
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
		fmt.Fprintf(h, "%d %s", len(f.value.String()), f.value)
	}
	return strings.Join(names, " ") + " (" + hex.EncodeToString(h.Sum(nil)[:4]) + ")"
}
