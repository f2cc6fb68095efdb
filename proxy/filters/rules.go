package filters

import (
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// Rules returns the family of settings about how Ingresses are read. Its value is a router.Rules, which Build obeys.
func Rules() Policy {
	return &Of[router.Rules]{
		Of: policy.Of[router.Rules]{
			Name:   router.RulesFamily,
			Doc:    "Says how Ingresses are read.",
			Global: true,
			Keys: []policy.Key{
				{
					Name: "annotation-value-word-blocklist", Kind: policy.List, Where: policy.ConfigMap, Default: "none", Example: "load_module,lua_package",
					Doc: "Words, with commas between them, that no annotation may contain: the routes of an Ingress that has one answer 503.",
				},
				{
					Name: "allow-cross-namespace-resources", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "false",
					Doc: "Lets annotations name Secrets and ConfigMaps of other namespaces than the Ingress's. Certificates and authorities of clients and Pods stay those of its own.",
				},
				{
					Name: "strict-validate-path-type", Kind: policy.Bool, Where: policy.ConfigMap, Default: "true", Example: "true",
					Doc: "Refuses Exact and Prefix paths with other characters than letters, digits and \"/._-\", where the Ingress is read as ingress-nginx reads it.",
				},
				{
					Name: "allow-snippet-annotations", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "false",
					Doc:     "Accepted as false. There are no snippets to allow.",
					Differs: "true is refused: snippets are never run",
				},
				{
					Name: "annotations-risk-level", Kind: policy.String, Where: policy.ConfigMap, Default: "High", Example: "High",
					Doc:     "Accepted: Critical, High, Medium or Low.",
					Differs: "no annotation is refused for its risk, because none can run anything",
				},
			},
			IfInvalid: policy.Ignore,
			Parse:     parseRules,
		},
	}
}

func parseRules(v policy.Values) (router.Rules, error) {
	r := router.Rules{Blocklist: v.List("annotation-value-word-blocklist")}
	var err error
	if r.CrossNamespace, err = v.Bool("allow-cross-namespace-resources", false); err != nil {
		return router.Rules{}, err
	}
	strict, err := v.Bool("strict-validate-path-type", true)
	if err != nil {
		return router.Rules{}, err
	}
	r.LoosePaths = !strict
	if snippets, err := v.Bool("allow-snippet-annotations", false); err != nil || snippets {
		return router.Rules{}, &policy.ValueError{Key: "allow-snippet-annotations", Value: v["allow-snippet-annotations"], Want: `"false": snippets are never run`}
	}
	switch v.Text("annotations-risk-level", "High") {
	case "Critical", "High", "Medium", "Low":
		return r, nil
	}
	return router.Rules{}, &policy.ValueError{Key: "annotations-risk-level", Value: v["annotations-risk-level"], Want: `"Critical", "High", "Medium" or "Low"`}
}
