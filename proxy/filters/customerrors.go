package filters

import (
	"slices"
	"strconv"
	"strings"

	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

const (
	customErrorsKey   = "custom-http-errors"
	defaultBackendKey = "default-backend"
	keepPodsKey       = "disable-proxy-intercept-errors"
)

// CustomErrors returns the family of answers that another Service gives. Its value is a router.CustomErrors: Build finds the Service, and the engine
// asks it.
func CustomErrors() Policy {
	return &Of[router.CustomErrors]{
		Of: policy.Of[router.CustomErrors]{
			Name: router.CustomErrorsFamily,
			Doc: "Has another Service answer in place of Pods that answer with errors, or that cannot be reached. It gets GET /, with the client's query, and X-Code (the status), X-Format " +
				"(what the client accepts), X-Original-URI, X-Namespace, X-Ingress-Name, X-Service-Name, X-Service-Port and X-Request-ID, and the client " +
				"gets its answer, with its status. It never gets the client's Authorization and Cookie. While it has no endpoint, answers are " +
				"as they were. What Podlane itself answers because of a policy (401, 403, 429 and so on) is never replaced, nor are answers to gRPC.",
			Keys: []policy.Key{
				{
					Name: customErrorsKey, Kind: policy.List, Where: policy.Everywhere, Default: "none", Example: "404,503",
					Doc: "Statuses, from 300 to 599, separated by commas. Without default-backend the operator's --default-backend-service is asked.",
					Differs: "answers of policies, such as limits and ranges, are not replaced; the question is GET for all methods, and without the client's conditions (If-*, Range); " +
						"without a Service to ask answers stay as they are, where ingress-nginx answers 404",
				},
				{
					Name: defaultBackendKey, Kind: policy.ServiceName, Default: "none", Example: "errors",
					Doc: "A Service of the Ingress's namespace, of which the first port is used. It also gets the requests of a path whose Service has no endpoint, as " +
						"they are but for Authorization and Cookie, with the fields above and X-Code: 503.",
					Differs: "it gets neither Authorization nor Cookie",
				},
				{
					Name: keepPodsKey, Kind: policy.Bool, Where: policy.Everywhere, Default: "false", Example: "true",
					Doc: "\"true\" leaves answers of Pods alone, whatever their status; those are replaced that Podlane gives because no Pod answered.",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseCustomErrors,
		},
		Forward: func(f *Forwarding, v router.CustomErrors) { f.Errors = &v },
	}
}

func parseCustomErrors(v policy.Values) (router.CustomErrors, error) {
	var e router.CustomErrors
	for _, text := range v.List(customErrorsKey) {
		status, err := strconv.Atoi(text)
		if err != nil || status < 300 || status > 599 {
			return e, &policy.ValueError{Key: customErrorsKey, Value: v[customErrorsKey], Want: `statuses from 300 to 599, as in "404,503"`}
		}
		e.Statuses = append(e.Statuses, status)
	}
	slices.Sort(e.Statuses)
	e.Statuses = slices.Compact(e.Statuses)
	e.Service = v.Text(defaultBackendKey, "")
	if v.Has(defaultBackendKey) && (e.Service == "" || strings.ContainsAny(e.Service, "/ :")) {
		return e, &policy.ValueError{Key: defaultBackendKey, Value: v[defaultBackendKey], Want: `the name of a Service of the same namespace, as in "errors"`}
	}
	var err error
	e.KeepPods, err = v.Bool(keepPodsKey, false)
	return e, err
}
