package main

import (
	"context"
	"strings"
	"sync"

	"podlane.dev/podlane/cmd/podlane/dashboard"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/certs"
)

// addDashboard gives p the dashboard, whose plots go on until close: a drain is to be seen in them.
func (f *front) addDashboard(ctx context.Context, p *pages) {
	p.page = dashboard.New(dashboard.Options{
		Lists: dashboardLists(p),
		State: func() dashboard.State {
			s := dashboard.State{Version: thisBuild().version, Generation: f.engine.Generation()}
			if p.applied != nil { // a folder tells when it changes: that it was read long ago is no bad sign
				s.Synced = p.synced()
			}
			if err := p.ready(); err != nil {
				s.NotReady = err.Error()
			}
			return s
		},
		Totals: f.metrics.Totals,
	})
	var plots context.Context
	plots, f.endPlots = context.WithCancel(context.WithoutCancel(ctx))
	f.serving.Go(func() { p.page.Run(plots) })
}

// dashboardLists are the lists of the page.
func dashboardLists(p *pages) map[string]func() dashboard.Rows {
	rows := &routeRows{table: p.table}
	return map[string]func() dashboard.Rows{
		"routes":       rows.list,
		"endpoints":    func() dashboard.Rows { return endpointRows(p.endpoints()) },
		"certificates": func() dashboard.Rows { return certificateRows(p.certificates()) },
		"problems":     func() dashboard.Rows { return problemRows(p.problems()) },
	}
}

// routeRows keeps what is searched of routes, once a search has asked for it, until there is another table. It is safe for concurrent use.
type routeRows struct {
	table func() *router.Table

	mu   sync.Mutex
	of   *router.Table
	rows dashboard.Rows
}

func (r *routeRows) list() dashboard.Rows {
	t := r.table()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == t {
		return r.rows
	}
	list := routes(t)
	texts := sync.OnceValue(func() []string {
		texts := make([]string, len(list))
		for i, route := range list {
			texts[i] = searchedRoute(route)
		}
		return texts
	})
	r.of, r.rows = t, dashboard.Rows{
		Number: len(list),
		Text:   func(i int) string { return texts()[i] },
		Value:  func(i int) any { return describeRoute(list[i]) },
	}
	return r.rows
}

func searchedRoute(r *router.Route) string {
	d := describeRoute(r)
	text := []string{d.Host, d.Path, d.Type, d.Namespace + "/" + d.Ingress, d.Denied}
	for _, b := range d.Backends {
		text = append(text, b.Namespace+"/"+b.Service+":"+b.Port, b.Unavailable)
	}
	return searched(append(text, d.Policies...)...)
}

// endpointRow is an endpoint together with its Service.
type endpointRow struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Port      string `json:"port"`
	endpointJSON
}

func endpointRows(pools []upstream.PoolStatus) dashboard.Rows {
	type place struct {
		pool     router.ServicePort
		endpoint *upstream.EndpointStatus
	}
	var all []place
	for i := range pools {
		for j := range pools[i].Endpoints {
			all = append(all, place{pools[i].ServicePort, &pools[i].Endpoints[j]})
		}
	}
	return dashboard.Rows{
		Number: len(all),
		Text: func(i int) string {
			p, e := all[i].pool, all[i].endpoint
			return searched(p.Namespace+"/"+p.Name+":"+p.Port, e.Pod, e.AddrPort.String(), string(e.State), e.Node)
		},
		Value: func(i int) any {
			p := all[i].pool
			return endpointRow{p.Namespace, p.Name, p.Port, describeEndpoint(all[i].endpoint)}
		},
	}
}

func certificateRows(infos []certs.Info) dashboard.Rows {
	return dashboard.Rows{
		Number: len(infos),
		Text: func(i int) string {
			c := &infos[i]
			return searched(strings.Join(c.Hosts, " "), c.Namespace+"/"+c.Secret, string(c.State), c.Owner)
		},
		Value: func(i int) any { return describeCertificates(infos[i : i+1])[0] },
	}
}

func problemRows(problems []ingress.Problem) dashboard.Rows {
	return dashboard.Rows{
		Number: len(problems),
		Text: func(i int) string {
			p := &problems[i]
			return searched(p.Object.Kind, p.Object.Namespace+"/"+p.Object.Name, p.Field, string(p.Reason), string(p.Effect), p.Message, p.Source)
		},
		Value: func(i int) any { return describeProblems(problems[i : i+1])[0] },
	}
}

// searched is text that is found by words in lower case.
func searched(text ...string) string { return strings.ToLower(strings.Join(text, " ")) }
