package chart_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/endpoints"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/router/manifest"
)

// TestDemo does with config/samples what `podlane serve` does: each host and path leads where its file says, every Service
// that is reached has the demo's Pods, and nothing is wrong with any object.
func TestDemo(t *testing.T) {
	t.Parallel()
	set, err := manifest.Read(os.DirFS(path(t, "config/samples")))
	if err != nil {
		t.Fatal(err)
	}
	snapshot := set.Snapshot
	snapshot.Options = config.ServeIngress().Options()
	table, problems := ingress.Build(snapshot, filters.Families(config.Policies()))
	for _, p := range slices.Concat(set.Problems, problems) {
		t.Error(p)
	}
	addresses := map[router.Service]map[string][]router.Address{}
	for _, s := range snapshot.Services {
		key := router.Service{Namespace: s.Namespace, Name: s.Name}
		addresses[key] = endpoints.Local.Addresses(s, set.Slices[key], set.Endpoints[key])
	}
	const both, first, second = "18001 18002", "18001", "18002"
	want := map[string]string{
		"www.goweb.com/":                both,
		"shop.goweb.com/cart":           first,
		"shop.goweb.com/search/shoes":   second,
		"shop.goweb.com/carts":          "404",
		"search.goweb.com/":             second,
		"named.goweb.com/":              both,
		"external.goweb.com/":           both,
		"www.goweb-tls.com/":            both,
		"nobody.example/":               "404",
		"another.www.goweb.com/":        "404",
		"www.goweb.com/any/path/at-all": both,
	}
	got := map[string]string{}
	for url := range want {
		host, rest, _ := strings.Cut(url, "/")
		route, found := table.Lookup(host, "/"+rest)
		if !found {
			got[url] = "404"
			continue
		}
		port := route.Backends[0].Service
		got[url] = ports(addresses[port.Service()][port.Port])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// ports lists the ports of addresses, in order.
func ports(addresses []router.Address) string {
	var list []string
	for _, a := range addresses {
		list = append(list, itoa(int32(a.AddrPort.Port())))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}
