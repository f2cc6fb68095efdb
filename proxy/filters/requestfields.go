package filters

import (
	"errors"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// ProxySetHeaders returns the family of fields that the operator sets on all requests to Pods.
func ProxySetHeaders() Policy {
	return &Of[fieldSet]{
		Of: policy.Of[fieldSet]{
			Name: "proxy-set-headers",
			Doc: "Sets fields on all requests to Pods, in the place of the client's and of Podlane's own of the same name: those of a ConfigMap, whose keys are " +
				"the names.",
			Keys: []policy.Key{{
				Name: "proxy-set-headers", Kind: policy.ConfigMapName, Where: policy.ConfigMap, Default: "none", Example: "podlane/proxy-set-headers",
				ExampleData: map[string]string{"X-Request-Start": "t=${msec}", "X-Client-Country": ""},
				Doc: "The ConfigMap, as namespace/name, or the name of one beside the operator's. Values may hold variables; an empty one removes the field. " +
					"Host and fields that say how a message is sent, such as Content-Length and Connection, are refused.",
				Differs: "a field that Podlane sets too, such as X-Forwarded-Proto, is replaced, where nginx sends both",
			}},
			IfInvalid: policy.Ignore,
			Resolve: func(v policy.Values, from policy.Source) (fieldSet, error) {
				return resolveFields(fieldRules{key: "proxy-set-headers", variables: true, refused: refuseHost}, v, from)
			},
		},
		Request: func(_ *router.Route, v fieldSet) exchange.RequestFilter {
			if len(v) == 0 {
				return nil
			}
			return requestFields(v)
		},
	}
}

func refuseHost(name string) string {
	if exchange.IDOf(name) == exchange.Host {
		return "use the annotation upstream-vhost, because which host is asked for belongs to an Ingress"
	}
	return ""
}

// requestFields are fields that requests get.
type requestFields fieldSet

// FilterRequest sets them.
func (f requestFields) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	fieldSet(f).apply(&x.Request.Fields, x)
	return exchange.Continue
}

// RequestHeaders returns the family of what else Pods are told by fields.
func RequestHeaders() Policy {
	return &Of[requestHeaders]{
		Of: policy.Of[requestHeaders]{
			Name: "request-headers",
			Doc:  "What Pods are told in fields of requests besides what they always are.",
			Keys: []policy.Key{
				{
					Name: "connection-proxy-header", Kind: policy.String, Default: "none", Example: "keep-alive",
					Doc:     "The field Connection for Pods that speak HTTP/1.1: keep-alive or close. \"upgrade\" is what requests for an upgrade have anyway.",
					Differs: "requests for an upgrade, as of WebSockets, keep their own field, so that they work",
				},
				{
					Name: "proxy-add-original-uri-header", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "true",
					Doc: "Adds X-Original-URI: path and query as the client sent them.",
				},
				{
					Name: "generate-request-id", Kind: policy.Bool, Where: policy.ConfigMap, Default: "true", Example: "false",
					Doc:     "Whether requests without an X-Request-ID get one.",
					Differs: "a client's X-Request-ID counts as none where it is longer than 128 bytes or holds other characters than letters, digits and -_.=/+:",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseRequestHeaders,
		},
		Request: func(_ *router.Route, v requestHeaders) exchange.RequestFilter {
			if v == (requestHeaders{generateID: true}) {
				return nil
			}
			return &v
		},
	}
}

// requestHeaders is the parsed value of the family, and its filter.
type requestHeaders struct {
	connection              string
	originalURI, generateID bool
}

func parseRequestHeaders(v policy.Values) (requestHeaders, error) {
	var h requestHeaders
	var err1, err2, err3 error
	switch text := v.Text("connection-proxy-header", ""); {
	case text == "keep-alive", text == "close":
		h.connection = text
	case text != "upgrade" && v.Has("connection-proxy-header"):
		err1 = &policy.ValueError{Key: "connection-proxy-header", Value: v["connection-proxy-header"], Want: `"keep-alive", "close" or "upgrade"`}
	}
	h.originalURI, err2 = v.Bool("proxy-add-original-uri-header", false)
	h.generateID, err3 = v.Bool("generate-request-id", true)
	return h, errors.Join(err1, err2, err3)
}

// FilterRequest sets and removes the fields.
func (h *requestHeaders) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	f := &x.Request.Fields
	if h.connection != "" && len(x.Request.Upgrade) == 0 {
		f.SetString(exchange.Connection, h.connection)
	}
	if h.originalURI {
		f.Set(exchange.XOriginalURI, x.Request.Target)
	}
	if !h.generateID && x.RequestIDMade {
		f.Del(exchange.XRequestID)
		x.RequestID = nil
	}
	return exchange.Continue
}

// UpstreamVhost returns the family that asks Pods for another host than the client did.
func UpstreamVhost() Policy {
	return &Of[*expr.Expr]{
		Of: policy.Of[*expr.Expr]{
			Name: "upstream-vhost",
			Doc: "Sends Pods another Host than the client's, which they still get as X-Forwarded-Host. Neither routing nor the server name of TLS with the Pod " +
				"is changed by it.",
			Keys: []policy.Key{{
				Name: "upstream-vhost", Kind: policy.String, Default: "the client's Host", Example: "$service_name.$namespace.svc.cluster.local",
				Doc: "A host, with a port where one is wanted; it may hold variables. A request for which they come to no host is answered 400.",
			}},
			IfInvalid: policy.Ignore,
			Parse:     parseVhost,
		},
		Request: func(_ *router.Route, v *expr.Expr) exchange.RequestFilter {
			if v == nil {
				return nil
			}
			return (*vhostFilter)(v)
		},
	}
}

func parseVhost(v policy.Values) (*expr.Expr, error) {
	text := v.Text("upstream-vhost", "")
	if !v.Has("upstream-vhost") {
		return nil, nil //nolint:nilnil // an absent key is neither a host nor an error
	}
	e, err := expr.Parse(text)
	if err != nil {
		return nil, errors.New("upstream-vhost: " + err.Error())
	}
	if host, ok := e.Constant(); text == "" || ok && !exchange.IsAuthority([]byte(host)) {
		return nil, &policy.ValueError{Key: "upstream-vhost", Value: text, Want: `a host, as in "app.internal.example", with a port where one is wanted`}
	}
	return e, nil
}

// vhostFilter is the host that Pods are asked for.
type vhostFilter expr.Expr

// FilterRequest replaces Host.
func (f *vhostFilter) FilterRequest(x *exchange.Exchange) exchange.Verdict {
	at := len(x.Scratch)
	x.Scratch = (*expr.Expr)(f).Append(x.Scratch, x)
	defer func() { x.Scratch = x.Scratch[:at] }()
	if !exchange.IsAuthority(x.Scratch[at:]) {
		x.Answer(statusBadRequest, exchange.BadRequest, "400 Bad Request: there is no host to ask for\n")
		return exchange.Answered
	}
	x.Request.Fields.Set(exchange.Host, x.Scratch[at:])
	x.Request.Vhost = true
	return exchange.Continue
}
