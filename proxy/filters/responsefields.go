package filters

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// CustomHeaders returns the family that sets fields of an Ingress's own on answers, of those that the operator allows.
func CustomHeaders() Policy {
	return &Of[fieldSet]{
		Of: policy.Of[fieldSet]{
			Name: "custom-headers",
			Doc: "Sets fields on every answer, in the place of the Pod's of the same name: those of a ConfigMap, whose keys are the names. Each name must be one " +
				"that the operator allows in global-allowed-response-headers.",
			Keys: []policy.Key{
				{
					Name: "custom-headers", Kind: policy.ConfigMapName, Default: "none", Example: "default/custom-headers",
					ExampleData: map[string]string{"X-Frame-Options": "DENY"},
					Doc: "The ConfigMap, as namespace/name or name, of the Ingress's own namespace. Values are text: there are no variables. While one name is not " +
						"allowed, or the ConfigMap is missing, the routes of the Ingress answer 503.",
				},
				{
					Name: "global-allowed-response-headers", Kind: policy.List, Where: policy.ConfigMap, Default: "none", Example: "X-Frame-Options, Referrer-Policy",
					Doc: "The names that custom-headers may set, in any case.",
				},
			},
			IfInvalid: policy.Deny,
			Resolve:   resolveCustomHeaders,
		},
		Response: setsResponse,
	}
}

func resolveCustomHeaders(v policy.Values, from policy.Source) (fieldSet, error) {
	list := v.List("global-allowed-response-headers")
	permitted := make(map[string]bool, len(list))
	for _, name := range list {
		if !allIn(name, letters+digits+"-_") {
			return nil, &policy.ValueError{Key: "global-allowed-response-headers", Value: name, Want: `names of fields between commas, as in "X-Frame-Options, Referrer-Policy"`}
		}
		permitted[strings.ToLower(name)] = true
	}
	if !v.Has("custom-headers") {
		return nil, nil
	}
	data, err := from.ConfigMap("custom-headers")
	if err != nil {
		return nil, err
	}
	for name, value := range data {
		if strings.TrimSpace(value) == "" {
			return nil, fmt.Errorf("custom-headers: the field %q of the ConfigMap has no value: write one, or remove it", name)
		}
	}
	return fieldRules{key: "custom-headers", refused: func(name string) string {
		if permitted[strings.ToLower(name)] {
			return ""
		}
		return "the operator does not allow it: it is not in global-allowed-response-headers"
	}}.fieldsOf(data)
}

// AddHeaders returns the family of fields that the operator sets on all answers.
func AddHeaders() Policy {
	return &Of[fieldSet]{
		Of: policy.Of[fieldSet]{
			Name: "add-headers",
			Doc: "Sets fields on the answers of all Ingresses, in the place of the Pod's of the same name: those of a ConfigMap, whose keys are the names. " +
				"Fields of custom-headers win.",
			Keys: []policy.Key{{
				Name: "add-headers", Kind: policy.ConfigMapName, Where: policy.ConfigMap, Default: "none", Example: "podlane/add-headers",
				ExampleData: map[string]string{"X-Content-Type-Options": "nosniff", "X-Request-ID": "$req_id"},
				Doc: "The ConfigMap, as namespace/name, or the name of one beside the operator's. Values may hold variables. Fields that say how a message is " +
					"sent, such as Content-Length and Connection, are refused.",
				Differs: "answers that no Ingress's rule leads to do not have them",
			}},
			IfInvalid: policy.Ignore,
			Resolve: func(v policy.Values, from policy.Source) (fieldSet, error) {
				return resolveFields(fieldRules{key: "add-headers", variables: true, refused: allowed}, v, from)
			},
		},
		Response: setsResponse,
	}
}

// resolveFields reads the ConfigMap that r.key names.
func resolveFields(r fieldRules, v policy.Values, from policy.Source) (fieldSet, error) {
	if v.Text(r.key, "") == "" {
		return nil, nil // ingress-nginx has it so too
	}
	data, err := from.ConfigMap(r.key)
	if err != nil {
		return nil, err
	}
	return r.fieldsOf(data)
}

// PodHeaders returns the family that decides which fields of Pods clients see.
func PodHeaders() Policy {
	return &Of[podHeaders]{
		Of: policy.Of[podHeaders]{
			Name: "pod-headers",
			Doc:  "Which fields of the Pods' answers clients see, and who the server says it is.",
			Keys: []policy.Key{
				{
					Name: "hide-headers", Kind: policy.List, Where: policy.ConfigMap, Default: "none", Example: "X-Powered-By, X-AspNet-Version",
					Doc: "Fields that are removed from answers of Pods. Where a host is read as ingress-nginx reads it, X-Pad and those by which Pods give nginx " +
						"orders (X-Accel-Redirect, X-Accel-Expires, X-Accel-Limit-Rate, X-Accel-Buffering, X-Accel-Charset) are removed too.",
					Differs: "the orders of X-Accel-Redirect, X-Accel-Limit-Rate and X-Accel-Charset are not obeyed: clients get the answer that came with them",
				},
				{
					Name: "allow-backend-server-header", Kind: policy.Bool, Where: policy.ConfigMap, Default: "true", Compat: "false", Example: "false",
					Doc: "Whether the Server field of Pods is passed on.",
				},
				{
					Name: "server-tokens", Kind: policy.Bool, Where: policy.ConfigMap, Default: "true", Compat: "false", Example: "false",
					Doc:     "Whether answers have a Server field: the Pod's where that is passed on, else \"podlane\", never with a version.",
					Differs: "the name is podlane's; answers that no Ingress's rule leads to always have the field",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parsePodHeaders,
		},
		Extend: func(c *Chain, v podHeaders) {
			if c.Route.Compat {
				v.hidden = slices.Concat(v.hidden, nginxOrders())
			}
			if len(v.hidden) > 0 || !v.podServer || !v.server {
				c.OnResponse(&podHeadersFilter{v})
			}
		},
	}
}

// podHeaders is the parsed value of the family: names that are hidden, and whether there is a Server field, and whether the Pod's.
type podHeaders struct {
	hidden            []hiddenField
	podServer, server bool
}

// String returns what is not passed on.
func (h podHeaders) String() string {
	words := make([]string, 0, len(h.hidden)+1)
	for _, f := range h.hidden {
		words = append(words, f.name)
	}
	switch {
	case !h.server:
		words = append(words, "any Server")
	case !h.podServer:
		words = append(words, "the Pod's Server")
	}
	if len(words) == 0 {
		return "as they are"
	}
	return "without " + strings.Join(words, ", ")
}

// hiddenField is a name with its ID.
type hiddenField struct {
	id   exchange.ID
	name string
}

// nginxOrders are the fields that nginx takes for itself, besides those that say who the server is and when.
func nginxOrders() []hiddenField {
	names := []string{"X-Pad", "X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"}
	fields := make([]hiddenField, len(names))
	for i, name := range names {
		fields[i] = hiddenField{exchange.IDOf(name), name}
	}
	return fields
}

func parsePodHeaders(v policy.Values) (podHeaders, error) {
	var h podHeaders
	var err1, err2, err3 error
	for _, name := range v.List("hide-headers") {
		id := exchange.IDOf(name)
		if !allIn(name, letters+digits+"!#$%&'*+-.^_`|~") || id.Managed() {
			err1 = &policy.ValueError{Key: "hide-headers", Value: name, Want: `names of fields between commas, as in "X-Powered-By", but none that says how a message is sent`}
			break
		}
		h.hidden = append(h.hidden, hiddenField{id, name})
	}
	h.podServer, err2 = v.Bool("allow-backend-server-header", true)
	h.server, err3 = v.Bool("server-tokens", true)
	return h, errors.Join(err1, err2, err3)
}

// podHeadersFilter removes fields of Pods.
type podHeadersFilter struct{ podHeaders }

// FilterResponse removes what clients must not see; of the proxy's own answers only the Server field.
func (f *podHeadersFilter) FilterResponse(x *exchange.Exchange) {
	x.Response.Anonymous = !f.server
	if x.Response.Local {
		return
	}
	fields := &x.Response.Fields
	if !f.podServer || !f.server {
		fields.Del(exchange.Server)
	}
	for i := range f.hidden {
		removeField(fields, f.hidden[i].id, f.hidden[i].name)
	}
}

// setsResponse returns the filter that sets fields on answers.
func setsResponse(_ *router.Route, v fieldSet) exchange.ResponseFilter {
	if len(v) == 0 {
		return nil
	}
	return responseFields(v)
}

// responseFields are fields that answers get.
type responseFields fieldSet

// FilterResponse sets them.
func (f responseFields) FilterResponse(x *exchange.Exchange) {
	fieldSet(f).apply(&x.Response.Fields, x)
}
