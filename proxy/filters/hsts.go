package filters

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// hsts is the parsed value of the family: the field's canonical value, or "" for off.
type hsts string

// String returns the value for the text of a Table.
func (v hsts) String() string {
	if v == "" {
		return "off"
	}
	return string(v)
}

// HSTS returns the family that adds Strict-Transport-Security (RFC 6797) to answers over HTTPS.
//
// A value that does not parse is ignored: the field is advice to browsers for their next visit, its absence serves nothing
// that was denied, and a typing mistake in it is not worth a site's outage.
func HSTS() Policy {
	return &Of[hsts]{
		Of: policy.Of[hsts]{
			Name: "hsts",
			Doc: "Adds Strict-Transport-Security to every answer over HTTPS, so that browsers use HTTPS only from then on. " +
				"A field of that name from the Pod is replaced. Answers in clear never carry it (RFC 6797 section 7.2).",
			Keys:      hstsKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseHSTS,
		},
		Response: newHSTSFilter,
	}
}

func hstsKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "hsts", Kind: policy.String, Where: policy.Everywhere, Default: "off", Compat: "true", Example: "max-age=31536000; includeSubDomains; preload",
			Doc: "The field's value: max-age in seconds, then includeSubDomains and preload as wanted. \"off\" or \"false\" adds nothing; \"true\" " +
				"adds what the ConfigMap's other keys say.",
			Differs: "it is also an annotation; answers to clients of a trusted proxy that terminates TLS have it too, and those that no Ingress's rule leads to do not",
		},
		{
			Name: "hsts-max-age", Kind: policy.Int, Where: policy.ConfigMap, Default: "31536000", Example: "15724800",
			Doc: "For how many seconds browsers use HTTPS only, where hsts is \"true\".",
		},
		{
			Name: "hsts-include-subdomains", Kind: policy.Bool, Where: policy.ConfigMap, Default: "true", Example: "false",
			Doc: "Whether that holds for all names below the host's too, where hsts is \"true\".",
		},
		{
			Name: "hsts-preload", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "true",
			Doc: "Whether browsers may have the host in their lists, where hsts is \"true\".",
		},
	}
}

// parseHSTS reads the field's value, or a switch that takes it from the other keys.
func parseHSTS(v policy.Values) (hsts, error) {
	maxAge, err1 := v.IntRange("hsts-max-age", 31536000, 0, math.MaxInt)
	subDomains, err2 := v.Bool("hsts-include-subdomains", true)
	preload, err3 := v.Bool("hsts-preload", false)
	text := v.Text("hsts", "off")
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", err
	}
	on, err := strconv.ParseBool(text)
	switch {
	case err == nil && on:
		return hsts(directives{strconv.Itoa(maxAge), subDomains, preload}.String()), nil
	case err == nil, strings.EqualFold(text, "off"):
		return "", nil
	}
	d, err := parseDirectives(text)
	return hsts(d.String()), err
}

// directives are those of RFC 6797 section 6.1.
type directives struct {
	maxAge              string
	subDomains, preload bool
}

// String returns the field's value, "" where there is none.
func (d directives) String() string {
	if d.maxAge == "" {
		return ""
	}
	value := "max-age=" + d.maxAge
	if d.subDomains {
		value += "; includeSubDomains"
	}
	if d.preload {
		value += "; preload"
	}
	return value
}

// parseDirectives reads directives in any order and case. An unknown one, which browsers must skip, is refused: here it is a typing mistake that
// would never be seen.
func parseDirectives(text string) (directives, error) {
	var d directives
	for directive := range strings.SplitSeq(text, ";") {
		name, value, hasValue := strings.Cut(strings.TrimSpace(directive), "=")
		var again bool
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "":
			// RFC 6797 allows empty directives: "max-age=1;" ends with one.
			continue
		case "max-age":
			again = d.maxAge != ""
			d.maxAge = strings.Trim(strings.TrimSpace(value), `"`)
			if _, err := strconv.ParseUint(d.maxAge, 10, 63); err != nil {
				return directives{}, fmt.Errorf("hsts: max-age %q is not a number of seconds: write \"max-age=31536000\"", value)
			}
		case "includesubdomains":
			again, d.subDomains = d.subDomains, true
		case "preload":
			again, d.preload = d.preload, true
		default:
			return directives{}, fmt.Errorf("hsts: unknown directive %q: write \"max-age=31536000; includeSubDomains; preload\"", name)
		}
		if again {
			return directives{}, fmt.Errorf("hsts: %s is given twice: write it once", name)
		}
		if hasValue && name != "max-age" {
			return directives{}, fmt.Errorf("hsts: %s takes no value: write it alone", name)
		}
	}
	if d.maxAge == "" {
		return directives{}, fmt.Errorf("hsts: max-age is missing: write \"max-age=31536000\"")
	}
	return d, nil
}

func newHSTSFilter(_ *router.Route, v hsts) exchange.ResponseFilter {
	if v == "" {
		return nil
	}
	return hstsFilter(v)
}

// hstsFilter is the field's value.
type hstsFilter string

// FilterResponse sets the field on answers over HTTPS and leaves the others alone.
func (f hstsFilter) FilterResponse(x *exchange.Exchange) {
	if isHTTPS(x) {
		x.Response.Fields.SetString(exchange.StrictTransportSecurity, string(f))
	}
}
