package chart_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

// rights lists what the roles of one rendering allow, one line each: where, resource.group[/name], verbs. A new line in
// the tests below is a new right of whoever takes over Podlane: say in the change why it is needed.
func rights(t *testing.T, all objects) []string {
	t.Helper()
	var lines []string
	for _, r := range of[*rbacv1.ClusterRole](all) {
		lines = append(lines, ruleLines("*", r.Rules)...)
	}
	for _, r := range of[*rbacv1.Role](all) {
		lines = append(lines, ruleLines(r.Namespace, r.Rules)...)
	}
	slices.Sort(lines)
	return lines
}

func ruleLines(where string, rules []rbacv1.PolicyRule) []string {
	var lines []string
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, name := range names {
					what := strings.TrimSuffix(resource+"."+group, ".")
					if name != "" {
						what += "/" + name
					}
					lines = append(lines, where+" "+what+" "+strings.Join(rule.Verbs, ","))
				}
			}
		}
	}
	return lines
}

// everywhere is what Podlane needs in the namespaces that it watches.
func everywhere(where string) []string {
	return []string{
		// Annotations name ConfigMaps with headers and the like. What nobody names is not kept.
		where + " configmaps get,list,watch",
		where + " endpoints get,list,watch",
		where + " endpointslices.discovery.k8s.io get,list,watch",
		where + " events.events.k8s.io create,patch",
		where + " ingresses.networking.k8s.io get,list,watch",
		where + " ingresses/status.networking.k8s.io patch",
		where + " secrets get,list,watch",
		where + " services get,list,watch",
	}
}

// own is what Podlane needs in its own namespace.
func own(namespace string) []string {
	return []string{
		namespace + " configmaps/podlane get,list,watch",
		namespace + " leases.coordination.k8s.io create",
		namespace + " leases.coordination.k8s.io/podlane-leader get,update",
	}
}

const classes = "* ingressclasses.networking.k8s.io get,list,watch"

func TestRights(t *testing.T) {
	t.Parallel()
	const home = "podlane-system"
	for _, c := range []struct {
		name string
		set  []string
		want [][]string
	}{
		{"default", nil, [][]string{everywhere("*"), {classes}, own(home)}},
		{
			"nodes' addresses", []string{"controller.service.enabled=false"},
			[][]string{everywhere("*"), {classes}, own(home), {"* nodes get", home + " pods get,list"}},
		},
		{
			"no Service, but a fixed address", []string{"controller.service.enabled=false", "controller.extraArgs.publish-status-address=192.0.2.1"},
			[][]string{everywhere("*"), {classes}, own(home)},
		},
		{
			"no Service, and no status", []string{"controller.service.enabled=false", "controller.extraArgs.update-status=false"},
			[][]string{everywhere("*"), {classes}, own(home)},
		},
		{
			"status emptied at the end", []string{"controller.extraArgs.update-status-on-shutdown=true"},
			[][]string{everywhere("*"), {classes}, own(home), {home + " pods get,list"}},
		},
		{"scope: its own namespace", []string{"controller.scope.enabled=true"}, [][]string{everywhere(home), {classes}, own(home)}},
		{
			"scope: another namespace", []string{"controller.scope.enabled=true", "controller.scope.namespace=a"},
			[][]string{
				everywhere("a"), {classes}, own(home),
				{home + " services/podlane get,list,watch", home + " events.events.k8s.io create,patch"},
			},
		},
		{
			"scope: several namespaces", []string{"controller.scope.enabled=true", "controller.scope.namespaces={a,podlane-system}"},
			[][]string{everywhere("a"), everywhere(home), {classes}, own(home)},
		},
		{
			"scope: headers and a default backend outside of it",
			[]string{"controller.scope.enabled=true", "controller.scope.namespace=a", "controller.addHeaders.X-A=b", "controller.defaultBackendService=" + home + "/errors"},
			[][]string{
				everywhere("a"), {classes}, own(home),
				{
					home + " services/podlane get,list,watch", home + " events.events.k8s.io create,patch", home + " configmaps get,list,watch",
					home + " services/errors get,list,watch", home + " endpoints/errors get,list,watch", home + " endpointslices.discovery.k8s.io get,list,watch",
				},
			},
		},
		{
			"scope: the internal Service", []string{
				"controller.scope.enabled=true", "controller.scope.namespace=a", "controller.service.external.enabled=false",
				"controller.service.internal.enabled=true", "controller.service.internal.type=ClusterIP",
			},
			[][]string{
				everywhere("a"), {classes}, own(home),
				{home + " services/podlane-internal get,list,watch", home + " events.events.k8s.io create,patch"},
			},
		},
		{
			"no election", []string{"controller.disableLeaderElection=true"},
			[][]string{everywhere("*"), {classes}, own(home)[:1]},
		},
		{
			"no ClusterRole", []string{"controller.scope.enabled=true", "rbac.scope=true"},
			[][]string{everywhere(home), own(home)},
		},
	} {
		want := slices.Concat(c.want...)
		slices.Sort(want)
		if diff := cmp.Diff(want, rights(t, template(t, standard(c.set...)))); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}
