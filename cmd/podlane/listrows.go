package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"podlane.dev/podlane/cmd/podlane/replicas"
	"podlane.dev/podlane/config"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/certs"
)

// listings are the commands that print what is live.
func listings() []*listing {
	return []*listing{
		{
			use: "routes [flags]", what: "routes that are live", named: "ingress", hosts: true,
			columns: "HOST\tPATH\tTYPE\tINGRESS\tBACKENDS\tPOLICIES",
			example: "  podlane routes -A\n  podlane routes -n web --host shop.example.com\n  podlane routes --from manifests -o json\n  podlane routes -A --all-replicas",
			live:    readRows(func(t tableJSON) []row { return rowsOf(t.Routes, routeRow) }, "/debug/routes"),
			folder: func(c *contents, o *config.Ingress) ([]row, error) {
				table, _ := ingress.Build(c.snapshot, o.Families())
				return rowsOf(describeTable(table).Routes, routeRow), nil
			},
		},
		{
			use: "endpoints [flags]", what: "endpoints that requests go to, and their state", named: "service",
			columns: "SERVICE\tPORT\tADDRESS\tSTATE\tIN FLIGHT\tPOD",
			example: "  podlane endpoints -n web --service shop\n  podlane endpoints -A --all-replicas\n  podlane endpoints --admin http://127.0.0.1:9091",
			live:    readRows(func(list []poolJSON) []row { return poolRows(list) }, "/debug/endpoints"),
			folder: func(c *contents, o *config.Ingress) ([]row, error) {
				return poolRows(poolsOf(c, o)), nil
			},
		},
		{
			use: "certs [flags]", what: "certificates that are served", named: "ingress", hosts: true,
			columns: certColumns,
			example: "  podlane certs -A\n  podlane certs --host shop.example.com -A\n  podlane certs --from manifests",
			live:    readRows(func(list []certJSON) []row { return rowsOf(list, certRow) }, "/debug/certs"),
			folder: func(c *contents, o *config.Ingress) ([]row, error) {
				table, _ := ingress.Build(c.snapshot, o.Families())
				store, err := certs.NewStore(config.NewTLS().Store())
				if err != nil {
					return nil, err
				}
				store.Publish(table.Certificates(), table.DefaultCertificate())
				return rowsOf(describeCertificates(store.List()), certRow), nil
			},
		},
		{
			use: "problems [flags]", what: "mistakes in objects", named: "ingress",
			columns: "OBJECT\tREASON\tEFFECT\tFIELD\tMESSAGE",
			example: "  podlane problems -A\n  podlane problems -n web --ingress shop\n  podlane problems --from manifests -o json",
			live:    readRows(func(list []problemJSON) []row { return rowsOf(list, problemRow) }, "/debug/problems"),
			folder: func(c *contents, o *config.Ingress) ([]row, error) {
				_, problems := ingress.Build(c.snapshot, o.Families())
				all := slices.Clone(c.problems)
				for _, p := range problems {
					all = append(all, c.locate(p))
				}
				return rowsOf(describeProblems(all), problemRow), nil
			},
		},
	}
}

// readRows returns what reads a page of a replica as rows.
func readRows[T any](rows func(T) []row, page string) func(context.Context, *asker, *replicas.Replica) ([]row, error) {
	return func(ctx context.Context, a *asker, r *replicas.Replica) ([]row, error) {
		var shown T
		if err := a.read(ctx, r, page, &shown); err != nil {
			return nil, err
		}
		return rows(shown), nil
	}
}

// rowsOf turns each value into a row. What replicas must agree on is all that it shows.
func rowsOf[T any](list []T, of func(*T) row) []row {
	rows := make([]row, len(list))
	for i := range list {
		rows[i] = of(&list[i])
		rows[i].value = list[i]
		if rows[i].same == "" {
			rows[i].same = strings.Join(rows[i].cells, "\x00")
		}
	}
	return rows
}

func routeRow(r *routeJSON) row {
	path, kind := r.Path, r.Type
	if r.Default {
		path, kind = "(default backend)", "-"
	}
	backends := make([]string, len(r.Backends))
	for i, b := range r.Backends {
		backends[i] = strings.TrimSuffix(b.Namespace+"/"+b.Service+":"+b.Port, ":")
		if len(r.Backends) > 1 {
			backends[i] += fmt.Sprintf(" weight %d", b.Weight)
		}
		if b.Unavailable != "" {
			backends[i] += " (503: " + b.Unavailable + ")"
		}
	}
	to := strings.Join(backends, ", ")
	if r.Denied != "" {
		to = "503 (denied: " + r.Denied + ")"
	}
	return row{
		namespace: r.Namespace, name: r.Ingress, hosts: []string{r.Host},
		cells: []string{cmp.Or(r.Host, "*"), path, kind, r.Namespace + "/" + r.Ingress, orDash(to), orDash(strings.Join(r.Policies, "; "))},
	}
}

// poolRows has a row for each endpoint, and one for each pool without.
func poolRows(pools []poolJSON) []row {
	var rows []row
	for i := range pools {
		p := &pools[i]
		none := endpointJSON{Address: "none", State: cmp.Or(p.Error, "-")}
		list := p.Endpoints
		if len(list) == 0 {
			list = []endpointJSON{none}
		}
		for _, e := range list {
			service := p.Namespace + "/" + p.Service
			value := *p
			value.Endpoints = []endpointJSON{e}
			if e == none {
				value.Endpoints = []endpointJSON{}
			}
			rows = append(rows, row{
				namespace: p.Namespace, name: p.Service, value: value,
				cells: []string{service, orDash(p.Port), e.Address, e.State, fmt.Sprint(e.InFlight), orDash(e.Pod)},
				// What an endpoint is busy with, and whether it failed, is each replica's own.
				same: strings.Join([]string{service, p.Port, e.Address, e.UID}, "\x00"),
			})
		}
	}
	return rows
}

// poolsOf returns the endpoints that a folder's routes lead to.
func poolsOf(c *contents, o *config.Ingress) []poolJSON {
	table, _ := ingress.Build(c.snapshot, o.Families())
	ports := slices.SortedFunc(maps.Keys(newScene(table, c.addresses).endpoints), func(a, b router.ServicePort) int {
		return strings.Compare(a.String(), b.String())
	})
	list := make([]poolJSON, 0, len(ports))
	for _, p := range ports {
		pool := poolJSON{Namespace: p.Namespace, Service: p.Name, Port: p.Port, Endpoints: []endpointJSON{}}
		for _, a := range c.addresses[p.Service()][p.Port] {
			state := "unready"
			switch {
			case a.Ready:
				state = "ready"
			case a.Serving:
				state = "draining"
			}
			pool.Endpoints = append(pool.Endpoints, endpointJSON{Address: a.AddrPort.String(), State: state, Pod: a.Pod, UID: a.UID, Node: a.Node, Zone: a.Zone})
		}
		list = append(list, pool)
	}
	return list
}

func certRow(c *certJSON) row {
	_, owner, _ := strings.Cut(c.Owner, "/")
	cells := c.cells()
	same := strings.Join(cells, "\x00") + c.Serial
	if c.Secret == "" {
		same = "self-signed" // each replica makes one of its own
	}
	return row{namespace: c.Namespace, name: owner, hosts: c.Hosts, cells: cells, same: same}
}

func problemRow(p *problemJSON) row {
	about := p.Kind + " " + p.Namespace + "/" + p.Name
	if p.Namespace == "" {
		about = p.Kind + " " + p.Name
	}
	if p.Source != "" {
		about = p.Source + ": " + about
	}
	return row{namespace: p.Namespace, name: p.Name, cells: []string{about, p.Reason, p.Effect, orDash(p.Field), p.Message}}
}
