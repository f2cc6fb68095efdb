package filters

import (
	"fmt"
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
			Keys: []policy.Key{{
				Name: "hsts", Kind: policy.String, Default: "off", Example: "max-age=31536000; includeSubDomains; preload",
				Doc: "The field's value: max-age in seconds, then includeSubDomains and preload as wanted. \"off\" adds nothing.",
			}},
			IfInvalid: policy.Ignore,
			Parse:     parseHSTS,
		},
		Response: newHSTSFilter,
	}
}

// parseHSTS reads the directives of RFC 6797 section 6.1, in any order and case. An unknown directive, which browsers must
// skip, is refused: here it is a typing mistake that would never be seen.
func parseHSTS(v policy.Values) (hsts, error) {
	text := v.Text("hsts", "off")
	if strings.EqualFold(text, "off") {
		return "", nil
	}
	var maxAge string
	var subDomains, preload bool
	for directive := range strings.SplitSeq(text, ";") {
		name, value, hasValue := strings.Cut(strings.TrimSpace(directive), "=")
		var again bool
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "":
			// RFC 6797 allows empty directives: "max-age=1;" ends with one.
			continue
		case "max-age":
			again = maxAge != ""
			maxAge = strings.Trim(strings.TrimSpace(value), `"`)
			if _, err := strconv.ParseUint(maxAge, 10, 63); err != nil {
				return "", fmt.Errorf("hsts: max-age %q is not a number of seconds: write \"max-age=31536000\"", value)
			}
		case "includesubdomains":
			again, subDomains = subDomains, true
		case "preload":
			again, preload = preload, true
		default:
			return "", fmt.Errorf("hsts: unknown directive %q: write \"max-age=31536000; includeSubDomains; preload\"", name)
		}
		if again {
			return "", fmt.Errorf("hsts: %s is given twice: write it once", name)
		}
		if hasValue && name != "max-age" {
			return "", fmt.Errorf("hsts: %s takes no value: write it alone", name)
		}
	}
	if maxAge == "" {
		return "", fmt.Errorf("hsts: max-age is missing: write \"max-age=31536000\"")
	}
	value := "max-age=" + maxAge
	if subDomains {
		value += "; includeSubDomains"
	}
	if preload {
		value += "; preload"
	}
	return hsts(value), nil
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
