package main

import (
	"time"

	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// The types below are the JSON of the debug pages. Their names are an interface: fields may be added, not renamed.

// tableJSON is /debug/routes.
type tableJSON struct {
	Routes       []routeJSON       `json:"routes"`
	Certificates []certificateJSON `json:"certificates"`
}

// routeJSON is one route. Host is "" for rules without one.
type routeJSON struct {
	Host        string        `json:"host"`
	Path        string        `json:"path"`
	Type        string        `json:"type"`
	Default     bool          `json:"default,omitempty"`
	Namespace   string        `json:"namespace"`
	Ingress     string        `json:"ingress"`
	Backends    []backendJSON `json:"backends"`
	Certificate bool          `json:"certificate"`
	Denied      string        `json:"denied,omitempty"`
	Policies    []string      `json:"policies,omitempty"`
}

type backendJSON struct {
	Namespace    string `json:"namespace"`
	Service      string `json:"service"`
	Port         string `json:"port"`
	Weight       int    `json:"weight"`
	Unavailable  string `json:"unavailable,omitempty"`
	ExternalName string `json:"externalName,omitempty"`
}

type certificateJSON struct {
	Namespace string     `json:"namespace"`
	Secret    string     `json:"secret"`
	Owner     string     `json:"owner,omitempty"`
	Hosts     []string   `json:"hosts,omitempty"`
	Default   bool       `json:"default,omitempty"`
	Usable    bool       `json:"usable"`
	NotAfter  *time.Time `json:"notAfter,omitempty"`
}

func describeTable(t *router.Table) tableJSON {
	d := tableJSON{Routes: []routeJSON{}, Certificates: []certificateJSON{}}
	for _, r := range routes(t) {
		d.Routes = append(d.Routes, describeRoute(r))
	}
	for _, c := range certificates(t) {
		certificate := certificateJSON{
			Namespace: c.Namespace, Secret: c.Secret, Owner: c.Owner, Hosts: c.Hosts,
			Default: c == t.DefaultCertificate(), Usable: c.KeyPair != nil,
		}
		if c.KeyPair != nil && c.KeyPair.Leaf != nil {
			certificate.NotAfter = &c.KeyPair.Leaf.NotAfter
		}
		d.Certificates = append(d.Certificates, certificate)
	}
	return d
}

func describeRoute(r *router.Route) routeJSON {
	d := routeJSON{
		Host: r.ID.Host, Path: r.ID.Path, Type: r.ID.Type.String(), Default: r.IsDefault,
		Namespace: r.ID.Namespace, Ingress: r.ID.Ingress, Backends: []backendJSON{},
		Certificate: r.HasCertificate, Denied: r.Denied,
	}
	for _, b := range r.Backends {
		d.Backends = append(d.Backends, backendJSON{
			Namespace: b.Service.Namespace, Service: b.Service.Name, Port: b.Service.Port, Weight: b.Weight,
			Unavailable: string(b.Unavailable), ExternalName: b.ExternalName,
		})
	}
	for _, v := range r.Policies {
		d.Policies = append(d.Policies, v.String())
	}
	return d
}

// poolJSON is one entry of /debug/endpoints.
type poolJSON struct {
	Namespace    string         `json:"namespace"`
	Service      string         `json:"service"`
	Port         string         `json:"port"`
	ExternalName string         `json:"externalName,omitempty"`
	Error        string         `json:"error,omitempty"`
	Endpoints    []endpointJSON `json:"endpoints"`
}

type endpointJSON struct {
	Address           string  `json:"address"`
	State             string  `json:"state"`
	Pod               string  `json:"pod,omitempty"`
	UID               string  `json:"uid,omitempty"`
	Node              string  `json:"node,omitempty"`
	Zone              string  `json:"zone,omitempty"`
	InFlight          int     `json:"inFlight"`
	OpenConnections   int     `json:"openConnections"`
	IdleConnections   int     `json:"idleConnections"`
	Failures          int     `json:"failures"`
	FirstByteSeconds  float64 `json:"firstByteSeconds,omitempty"`
	EjectedForSeconds float64 `json:"ejectedForSeconds,omitempty"`
}

func describePools(pools []upstream.PoolStatus) []poolJSON {
	list := make([]poolJSON, 0, len(pools))
	for _, pool := range pools {
		d := poolJSON{
			Namespace: pool.ServicePort.Namespace, Service: pool.ServicePort.Name, Port: pool.ServicePort.Port,
			ExternalName: pool.ExternalName, Endpoints: make([]endpointJSON, 0, len(pool.Endpoints)),
		}
		if pool.Err != nil {
			d.Error = pool.Err.Error()
		}
		for i := range pool.Endpoints {
			d.Endpoints = append(d.Endpoints, describeEndpoint(&pool.Endpoints[i]))
		}
		list = append(list, d)
	}
	return list
}

func describeEndpoint(e *upstream.EndpointStatus) endpointJSON {
	return endpointJSON{
		Address: e.AddrPort.String(), State: string(e.State), Pod: e.Pod, UID: e.UID, Node: e.Node, Zone: e.Zone,
		InFlight: e.InFlight, OpenConnections: e.Open, IdleConnections: e.Idle, Failures: e.Fails,
		FirstByteSeconds:  e.FirstByte.Seconds(),
		EjectedForSeconds: e.EjectedFor.Seconds(),
	}
}

// problemJSON is one entry of /debug/problems.
type problemJSON struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	Field     string `json:"field,omitempty"`
	Reason    string `json:"reason"`
	Effect    string `json:"effect"`
	Message   string `json:"message"`
	Source    string `json:"source,omitempty"`
}

func describeProblems(problems []ingress.Problem) []problemJSON {
	list := make([]problemJSON, 0, len(problems))
	for _, p := range problems {
		list = append(list, problemJSON{
			Kind: p.Object.Kind, Namespace: p.Object.Namespace, Name: p.Object.Name, UID: p.Object.UID,
			Field: p.Field, Reason: string(p.Reason), Effect: string(p.Effect), Message: p.Message, Source: p.Source,
		})
	}
	return list
}
