package filters

import (
	"fmt"
	"slices"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
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
type messageFields struct{ set, add, addAlways, request []fieldLine }

// fieldLine is a field that is set or added. An empty value removes it.
type fieldLine struct {
	name  string
	value *expr.Expr
}

// String returns the value for the text of a Table.
func (v messageFields) String() string {
	var b strings.Builder
	for _, list := range []struct {
		what  string
		lines []fieldLine
	}{{"set", v.set}, {"add", v.add}, {"always add", v.addAlways}, {"to Pods", v.request}} {
		for _, l := range list.lines {
			fmt.Fprintf(&b, "%s %s: %q ", list.what, l.name, l.value)
		}
	}
	return strings.TrimSuffix(b.String(), " ")
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
		into *[]fieldLine
	}{{setResponseFields, &m.set}, {addResponseFields, &m.add}, {addResponseFieldsAlways, &m.addAlways}, {setRequestFields, &m.request}} {
		for line := range strings.Lines(v.Text(k.key, "")) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			f, err := parseFieldLine(line)
			if err != nil {
				return messageFields{}, &policy.ValueError{Key: k.key, Value: line, Want: err.Error()}
			}
			*k.into = append(*k.into, f)
		}
	}
	return m, nil
}

// unsettable are fields that are not the annotation's to say: framing, the connection, who the client is.
var unsettable = []string{
	"Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
	"Forwarded", "X-Forwarded-For", "X-Real-IP", "Proxy",
}

// parseFieldLine reads one line. The error says what to write.
func parseFieldLine(line string) (fieldLine, error) {
	name, text, ok := strings.Cut(line, ":")
	if name = strings.TrimSpace(name); !ok || !isToken(name) {
		return fieldLine{}, fmt.Errorf("a field as \"Name: value\"")
	}
	if slices.ContainsFunc(unsettable, func(u string) bool { return strings.EqualFold(u, name) }) || strings.HasPrefix(strings.ToLower(name), "ssl-client-") {
		return fieldLine{}, fmt.Errorf("another field: %s is not an annotation's to set", name)
	}
	value, err := expr.Parse(strings.TrimSpace(text))
	if err != nil {
		return fieldLine{}, fmt.Errorf("a value that can be read: %w", err)
	}
	return fieldLine{name, value}, nil
}

// set puts the line in the place of the fields of its name.
func (l *fieldLine) set(f *exchange.Fields, x *exchange.Exchange) {
	f.DelName([]byte(l.name))
	l.add(f, x)
}

// add adds the line, unless its value is empty.
func (l *fieldLine) add(f *exchange.Fields, x *exchange.Exchange) {
	at := len(x.Scratch)
	x.Scratch = l.value.Append(x.Scratch, x)
	if value := x.Scratch[at:]; len(value) > 0 {
		f.Add(l.name, value)
	}
	x.Scratch = x.Scratch[:at]
}

// requestFields are set on requests to Pods.
type requestFields []fieldLine

// FilterRequest sets the fields.
func (l requestFields) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	for i := range l {
		l[i].set(&x.Request.Fields, x)
	}
	return exchange.Continue
}

// FilterResponse sets and adds the fields.
func (v *messageFields) FilterResponse(x *exchange.Exchange) {
	f := &x.Response.Fields
	for i := range v.set {
		v.set[i].set(f, x)
	}
	if addsTo(x.Response.Status) {
		for i := range v.add {
			v.add[i].add(f, x)
		}
	}
	for i := range v.addAlways {
		v.addAlways[i].add(f, x)
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
