package main

import (
	"context"
	"strings"
	"sync"

	"podlane.dev/podlane/cmd/podlane/dashboard"
	"podlane.dev/podlane/router"
)

// addDashboard gives p the dashboard, whose plots go on until close: a drain is to be seen in them.
func (f *front) addDashboard(ctx context.Context, p *pages) {
	rows := &routeRows{table: p.table}
	p.page = dashboard.New(dashboard.Options{
		Lists: map[string]func() []dashboard.Row{
			"routes":       rows.list,
			"endpoints":    func() []dashboard.Row { return endpointRows(describePools(p.endpoints())) },
			"certificates": func() []dashboard.Row { return certificateRows(describeCertificates(p.certificates())) },
			"problems":     func() []dashboard.Row { return problemRows(describeProblems(p.problems())) },
		},
		State: func() dashboard.State {
			s := dashboard.State{Version: thisBuild().version, Generation: f.engine.Generation(), Synced: p.synced()}
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

// routeRows makes the rows of routes once for each table: there may be thousands, and pages of them are asked for often. It is safe for concurrent use.
type routeRows struct {
	table func() *router.Table

	mu   sync.Mutex
	of   *router.Table
	rows []dashboard.Row
}

func (r *routeRows) list() []dashboard.Row {
	t := r.table()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of != t {
		r.rows = nil
		for _, route := range routes(t) {
			d := describeRoute(route)
			text := []string{d.Host, d.Path, d.Type, d.Namespace + "/" + d.Ingress, d.Denied}
			for _, b := range d.Backends {
				text = append(text, b.Namespace+"/"+b.Service+":"+b.Port, b.Unavailable)
			}
			r.rows = append(r.rows, searchable(d, append(text, d.Policies...)...))
		}
		r.of = t
	}
	return r.rows
}

// endpointRow is an endpoint together with its Service.
type endpointRow struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Port      string `json:"port"`
	endpointJSON
}

func endpointRows(pools []poolJSON) []dashboard.Row {
	var rows []dashboard.Row
	for i := range pools {
		p := &pools[i]
		for _, e := range p.Endpoints {
			rows = append(rows, searchable(endpointRow{p.Namespace, p.Service, p.Port, e}, p.Namespace+"/"+p.Service+":"+p.Port, e.Pod, e.Address, e.State, e.Node))
		}
	}
	return rows
}

func certificateRows(list []certJSON) []dashboard.Row {
	rows := make([]dashboard.Row, 0, len(list))
	for _, c := range list {
		rows = append(rows, searchable(c, append(c.Hosts, c.Namespace+"/"+c.Secret, c.State, c.Owner)...))
	}
	return rows
}

func problemRows(list []problemJSON) []dashboard.Row {
	rows := make([]dashboard.Row, 0, len(list))
	for _, p := range list {
		rows = append(rows, searchable(p, p.Kind, p.Namespace+"/"+p.Name, p.Field, p.Reason, p.Effect, p.Message))
	}
	return rows
}

// searchable returns a row that is found by words of text.
func searchable(value any, text ...string) dashboard.Row {
	return dashboard.Row{Text: strings.ToLower(strings.Join(text, " ")), Value: value}
}
