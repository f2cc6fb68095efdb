package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"podlane.dev/podlane/cmd/podlane/dashboard"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
	"podlane.dev/podlane/tls/certs"
)

// pages are what the admin and metrics servers show. Its functions are called concurrently.
type pages struct {
	metrics      http.Handler
	ready        func() error
	table        func() *router.Table
	endpoints    func() []upstream.PoolStatus
	problems     func() []ingress.Problem
	certificates func() []certs.Info
	// synced is up to when what is live is known to be what the source says; applied is nil without a cluster.
	synced  func() time.Time
	applied appliedFunc
	// explain answers questions; nil answers none.
	explain *explainer
	// page is the dashboard, nil where it is off.
	page      *dashboard.Dashboard
	profiling bool
}

// public returns what Prometheus and the kubelet need, and nothing that tells of routes.
func (p *pages) public() http.Handler {
	mux := http.NewServeMux()
	p.addPublic(mux)
	return mux
}

func (p *pages) addPublic(mux *http.ServeMux) {
	mux.Handle("GET /metrics", p.metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.ready(); err != nil {
			writeText(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		writeText(w, http.StatusOK, "ok\n")
	})
}

// private returns everything.
func (p *pages) private() http.Handler {
	mux := http.NewServeMux()
	p.addPublic(mux)
	mux.HandleFunc("GET /{$}", p.index)
	if p.page != nil {
		mux.Handle("GET "+dashboard.Path, p.page)
	}
	mux.HandleFunc("GET /debug/routes", page(
		func(w io.Writer) { fmt.Fprint(w, p.table()) },
		func() any { return describeTable(p.table()) }))
	mux.HandleFunc("GET /debug/endpoints", page(
		func(w io.Writer) { writeEndpoints(w, p.endpoints()) },
		func() any { return describePools(p.endpoints()) }))
	mux.HandleFunc("GET /debug/problems", page(
		func(w io.Writer) { writeProblems(w, p.problems()) },
		func() any { return describeProblems(p.problems()) }))
	mux.HandleFunc("GET /debug/certs", page(
		func(w io.Writer) { writeCertificates(w, describeCertificates(p.certificates())) },
		func() any { return describeCertificates(p.certificates()) }))
	if p.applied != nil {
		mux.HandleFunc("GET /debug/applied", p.appliedPage)
	}
	if p.explain != nil {
		mux.HandleFunc("GET "+explainPath, p.explain.page)
	}
	if p.profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return refuseRebinding(mux)
}

// index lists the pages; browsers are shown the dashboard.
func (p *pages) index(w http.ResponseWriter, r *http.Request) {
	text := "podlane\n\n"
	if p.page != nil {
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			http.Redirect(w, r, dashboard.Path, http.StatusFound)
			return
		}
		text += dashboard.Path + "\n"
	}
	text += "/metrics\n/healthz\n/readyz\n/debug/routes\n/debug/endpoints\n/debug/certs\n/debug/problems\n/debug/explain?url=https://app.example.com/\n"
	if p.applied != nil {
		text += "/debug/applied?object=Ingress/NAMESPACE/NAME\n"
	}
	if p.profiling {
		text += "/debug/pprof/\n"
	}
	writeText(w, http.StatusOK, text+"\nThe /debug pages take ?format=json, but for /debug/pprof/.\n")
}

// page shows text, or JSON where ?format=json asks for it.
func page(text func(io.Writer), value func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch format := r.URL.Query().Get("format"); format {
		case "", "text":
			var b strings.Builder
			text(&b)
			writeText(w, http.StatusOK, b.String())
		case "json":
			body, err := json.MarshalIndent(value(), "", "  ")
			if err != nil {
				writeText(w, http.StatusInternalServerError, err.Error()+"\n")
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(append(body, '\n')) // the client is gone
		default:
			writeText(w, http.StatusBadRequest, fmt.Sprintf("unknown format %q: write text or json\n", format))
		}
	}
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client is gone
}

// refuseRebinding refuses requests that came to a loopback address under a name that is not this machine's: a page in the
// operator's browser whose name was made to resolve to 127.0.0.1 could read the table otherwise.
func refuseRebinding(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if ok && local.IP.IsLoopback() && !isLocalName(r.Host) {
			writeText(w, http.StatusForbidden, "this address answers to localhost and IP addresses only\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLocalName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// writeEndpoints writes a block for each Service port.
func writeEndpoints(w io.Writer, pools []upstream.PoolStatus) {
	for _, pool := range pools {
		fmt.Fprint(w, serviceText(pool.ServicePort))
		if pool.ExternalName != "" {
			fmt.Fprintf(w, " (%s)", pool.ExternalName)
		}
		if pool.Err != nil {
			fmt.Fprintf(w, ": %v", pool.Err)
		}
		fmt.Fprintln(w)
		if len(pool.Endpoints) == 0 {
			fmt.Fprintln(w, "  no endpoints")
		}
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for i := range pool.Endpoints {
			e := &pool.Endpoints[i]
			fmt.Fprintf(table, "  %s\t%s\t%d in flight\t%d open, %d idle\t%s\n", e.AddrPort, stateText(e), e.InFlight, e.Open, e.Idle, placeText(e))
		}
		_ = table.Flush() // writes to memory
	}
}

func stateText(e *upstream.EndpointStatus) string {
	text := string(e.State)
	if e.EjectedFor > 0 {
		text += " for " + e.EjectedFor.Round(time.Millisecond).String()
	}
	if e.Fails > 0 {
		text += ", " + count(e.Fails, "failure")
	}
	return text
}

func placeText(e *upstream.EndpointStatus) string {
	var parts []string
	for _, part := range [][2]string{{"pod", e.Pod}, {"node", e.Node}, {"zone", e.Zone}} {
		if part[1] != "" {
			parts = append(parts, part[0]+" "+part[1])
		}
	}
	return strings.Join(parts, ", ")
}

func writeProblems(w io.Writer, problems []ingress.Problem) {
	if len(problems) == 0 {
		fmt.Fprintln(w, "no problems")
	}
	for _, problem := range problems {
		fmt.Fprintln(w, problem)
	}
}
