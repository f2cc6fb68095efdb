package router

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// This file is the canonical text of a Table: one line per route, sorted, without anything that differs between two Tables
// that route alike. Goldens, /debug/routes and `podlane diff` all print it, so that they can be compared by eye and by diff.

// String returns the canonical text of t: what holds for the whole proxy, hosts sorted (exact ones, wildcards, the rules without a host), each with its
// routes in match order, then the catch-all and the certificates. It never holds key material.
func (t *Table) String() string {
	var b strings.Builder
	for _, v := range t.globals {
		fmt.Fprintf(&b, "proxy %s\n", v)
	}
	for h := range t.Hosts() {
		b.WriteString(h.String())
	}
	if t.catchAll != nil {
		b.WriteString(t.catchAll.String())
		b.WriteByte('\n')
	}
	for _, c := range t.certificates {
		b.WriteString(c.String())
		b.WriteByte('\n')
	}
	if t.defaultCert != nil {
		b.WriteString("default ")
		b.WriteString(t.defaultCert.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String returns a line for the host and one for each of its routes, indented, in match order.
func (h *Host) String() string {
	var b strings.Builder
	b.WriteString("host ")
	if h.name == "" {
		b.WriteString("(none)")
	}
	b.WriteString(h.name)
	b.WriteByte('\n')
	for _, r := range h.routes {
		b.WriteString("  ")
		b.WriteString(r.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String returns one line: type and path, backends, and what else is set, in a fixed order.
func (r *Route) String() string {
	var b strings.Builder
	if r.IsDefault {
		b.WriteString("default")
	} else {
		b.WriteString(r.ID.Type.String())
		b.WriteByte(' ')
		b.WriteString(quotePath(r.ID.Path))
	}
	b.WriteString(" -> ")
	for i := range r.Backends {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(r.Backends[i].String())
		if len(r.Backends) > 1 && r.Alternative == nil {
			fmt.Fprintf(&b, " weight %d", r.Backends[i].Weight)
		}
	}
	if r.ID.Ingress != "" {
		fmt.Fprintf(&b, "; ingress %s/%s", r.ID.Namespace, r.ID.Ingress)
	}
	r.writeManner(&b)
	if r.TLS != nil {
		fmt.Fprintf(&b, "; client certificate %s, Secret %s/%s of %s", r.TLS.Verify, r.TLS.Authority.Namespace, r.TLS.Authority.Secret, r.TLS.Owner)
	}
	if r.Ciphers != nil {
		fmt.Fprintf(&b, "; ciphers %s", r.Ciphers)
	}
	if r.Passthrough.On {
		b.WriteString("; TLS passes through")
	}
	if r.Denied != "" {
		fmt.Fprintf(&b, "; denied %q", r.Denied)
	}
	for _, v := range r.Policies {
		b.WriteString("; ")
		b.WriteString(v.String())
	}
	return b.String()
}

// writeManner writes how requests are taken and where else they may go.
func (r *Route) writeManner(b *strings.Builder) {
	if a := r.Alternative; a != nil {
		fmt.Fprintf(b, "; canary %s/%s: %s", a.Namespace, a.Ingress, a.Canary)
	}
	if r.ErrorBackend != nil {
		b.WriteString("; errors -> " + r.ErrorBackend.String())
	}
	if r.Compat {
		b.WriteString("; as ingress-nginx")
	}
	if r.AppendSlash {
		b.WriteString("; 301 to the path with a slash")
	}
	if r.SendTo != "" {
		b.WriteString("; redirect to host " + r.SendTo)
	}
	if r.HasCertificate {
		b.WriteString("; certificate")
	}
}

// String returns namespace/name:port, without the colon where the port has no name, and what is unusual about the backend.
func (b *Backend) String() string {
	s := "(none)"
	if b.Service.Name != "" {
		s = strings.TrimSuffix(b.Service.String(), ":")
	}
	if b.ExternalName != "" {
		s += " (external name " + b.ExternalName + ":" + strconv.Itoa(int(b.ExternalPort)) + ")"
	}
	if b.ClusterIP.IsValid() {
		s += " (the Service's own address)"
	}
	if b.Affinity != 0 {
		s += " (client affinity " + b.Affinity.String() + ")"
	}
	if b.Scheme != PodDefault {
		s += " (" + b.Scheme.String()
		if b.TLS != nil {
			s += ": " + b.TLS.String()
		}
		s += ")"
	}
	if b.Unavailable != Available {
		s += " (" + string(b.Unavailable) + ")"
	}
	return s
}

// String returns the Secret, the names and the owner; "unusable" where there is no key pair. It never holds key material.
func (c *Certificate) String() string {
	s := "certificate " + c.Namespace + "/" + c.Secret
	if len(c.Hosts) > 0 {
		s += " for " + strings.Join(c.Hosts, ", ")
	}
	if c.Owner != "" {
		s += "; ingress " + c.Owner
	}
	if c.KeyPair == nil {
		s += "; unusable"
	}
	return s
}

// quotePath returns path as it is where it is plain text, else quoted.
func quotePath(path string) string {
	if path != "" && utf8.ValidString(path) && strings.IndexFunc(path, func(r rune) bool { return r == ' ' || r == '"' || !strconv.IsPrint(r) }) < 0 {
		return path
	}
	return strconv.Quote(path)
}
