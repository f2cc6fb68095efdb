package filters

import (
	"fmt"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// The keys of the family; router/snippet writes them.
const (
	setResponseFields       = "set-response-headers"
	addResponseFields       = "add-response-headers"
	addResponseFieldsAlways = "add-response-headers-always"
	setRequestFields        = "set-request-headers"
)

// messageFields is the parsed value of the family: in the order in which they were written.
type messageFields struct{ set, add, addAlways, request fieldSet }

// String returns the value for the text of a Table.
func (v messageFields) String() string {
	var b strings.Builder
	for _, list := range []struct {
		what   string
		fields fieldSet
	}{{"set", v.set}, {"add", v.add}, {"always add", v.addAlways}, {"to Pods", v.request}} {
		for _, f := range list.fields {
			fmt.Fprintf(&b, "%s %s, ", list.what, f)
		}
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// Fields returns the family that sets fields of messages. The annotations are Podlane's own: they take the place of the directives that people had in
// snippets, which are never run.
func Fields() Policy {
	const lines = "Name: value, one a line. The value may have variables of nginx's, as $host; without a value the field is removed."
	return &Of[messageFields]{
		Of: policy.Of[messageFields]{
			Name: "fields",
			Doc: "Sets fields of answers and of requests to Pods. These annotations take the place of more_set_headers, add_header and proxy_set_header in " +
				"snippets, which are never run. Fields that say where a message ends, whose connection it is on, or who the client is cannot be set.",
			Keys: []policy.Key{
				{Name: setResponseFields, Kind: policy.String, Default: "none", Example: "X-Frame-Options: DENY", Doc: "Fields of every answer, in place of the Pod's of the same name. " + lines},
				{Name: addResponseFields, Kind: policy.String, Default: "none", Example: "X-Served-For: $host", Doc: "Fields that are added to answers with status 200, 201, 204, 206, 301, 302, 303, 304, 307 and 308. " + lines},
				{Name: addResponseFieldsAlways, Kind: policy.String, Default: "none", Example: "X-Id: $request_id", Doc: "Fields that are added to every answer. " + lines},
				{Name: setRequestFields, Kind: policy.String, Default: "none", Example: "X-User-Agent: $http_user_agent", Doc: "Fields of the request that Pods get, in place of the client's. " + lines},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseFields,
		},
		Extend: func(c *Chain, v messageFields) {
			if len(v.request) > 0 {
				c.OnRequest(requestFields(v.request))
			}
			if len(v.set)+len(v.add)+len(v.addAlways) > 0 {
				c.OnResponse(&v)
			}
		},
	}
}

func parseFields(v policy.Values) (messageFields, error) {
	var m messageFields
	for _, k := range []struct {
		key  string
		into *fieldSet
	}{{setResponseFields, &m.set}, {addResponseFields, &m.add}, {addResponseFieldsAlways, &m.addAlways}, {setRequestFields, &m.request}} {
		rules := fieldRules{key: k.key, variables: true, refused: refuseIdentity}
		for line := range strings.Lines(v.Text(k.key, "")) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			name, text, ok := strings.Cut(line, ":")
			if !ok || len(*k.into) == maxFieldSet {
				return messageFields{}, &policy.ValueError{Key: k.key, Value: line, Want: fmt.Sprintf(`"Name: value", one a line, at most %d`, maxFieldSet)}
			}
			f, err := rules.field(strings.TrimSpace(name), strings.TrimSpace(text))
			if err != nil {
				return messageFields{}, fmt.Errorf("%s: the field %q: %w", k.key, strings.TrimSpace(name), err)
			}
			*k.into = append(*k.into, f)
		}
	}
	return m, nil
}

// refuseIdentity refuses fields that say who the client is, and which host is asked for.
func refuseIdentity(name string) string {
	switch id := exchange.IDOf(name); {
	case id == exchange.Forwarded || id == exchange.XForwardedFor || id == exchange.XRealIP || strings.HasPrefix(strings.ToLower(name), "ssl-client-"):
		return "it says who the client is, and the proxy alone knows that"
	}
	return refuseHost(name)
}

// FilterResponse sets and adds the fields.
func (v *messageFields) FilterResponse(x *exchange.Exchange) {
	f := &x.Response.Fields
	v.set.apply(f, x)
	if addsTo(x.Response.Status) {
		v.add.add(f, x)
	}
	v.addAlways.add(f, x)
}

// add adds the fields of s to f, but for those whose values are empty.
func (s fieldSet) add(f *exchange.Fields, x *exchange.Exchange) {
	for i := range s {
		at := len(x.Scratch)
		if s[i].value != nil {
			x.Scratch = s[i].value.Append(x.Scratch, x)
		} else {
			x.Scratch = append(x.Scratch, s[i].text...)
		}
		if len(x.Scratch) > at {
			f.Add(s[i].name, x.Scratch[at:])
		}
		x.Scratch = x.Scratch[:at]
	}
}

// addsTo says whether nginx's add_header is for answers of this status.
func addsTo(status int) bool {
	switch status {
	case 200, 201, 204, 206, 301, 302, 303, 304, 307, 308:
		return true
	}
	return false
}
