package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"podlane.dev/podlane/tls/certs"
)

// certJSON is one entry of /debug/certs: a certificate that is served, or would be.
type certJSON struct {
	// Namespace and Secret are empty for the certificate that Podlane makes itself.
	Namespace string   `json:"namespace,omitempty"`
	Secret    string   `json:"secret,omitempty"`
	Hosts     []string `json:"hosts,omitempty"`
	// Owner is namespace/name of the Ingress that decides.
	Owner    string     `json:"owner,omitempty"`
	Default  bool       `json:"default,omitempty"`
	State    string     `json:"state"`
	NotAfter *time.Time `json:"notAfter,omitempty"`
	Serial   string     `json:"serial,omitempty"`
	// Since and Until are set while the last good certificate of a broken Secret is served.
	Since *time.Time `json:"since,omitempty"`
	Until *time.Time `json:"until,omitempty"`
}

func describeCertificates(list []certs.Info) []certJSON {
	described := make([]certJSON, 0, len(list))
	for i := range list {
		c := &list[i]
		described = append(described, certJSON{
			Namespace: c.Namespace, Secret: c.Secret, Hosts: c.Hosts, Owner: c.Owner, Default: c.Default, State: string(c.State),
			NotAfter: orNil(c.NotAfter), Serial: c.Serial, Since: orNil(c.Since), Until: orNil(c.Until),
		})
	}
	return described
}

// orNil returns nil for the zero time.
func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// certColumns are the columns of certificates, for people.
const certColumns = "HOSTS\tSECRET\tSTATE\tEXPIRES\tINGRESS"

// cells are a certificate's columns.
func (c *certJSON) cells() []string {
	hosts := strings.Join(c.Hosts, ",")
	if c.Default {
		hosts = "(default)"
	}
	secret := c.Namespace + "/" + c.Secret
	if c.Secret == "" {
		secret = "(self-signed)"
	}
	state := c.State
	if c.Until != nil {
		state += " until " + c.Until.UTC().Format(time.RFC3339)
	}
	expires := ""
	if c.NotAfter != nil {
		expires = c.NotAfter.UTC().Format(time.RFC3339)
	}
	return []string{orDash(hosts), secret, state, orDash(expires), orDash(c.Owner)}
}

// orDash makes an empty cell visible.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func writeCertificates(w io.Writer, list []certJSON) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, certColumns)
	for i := range list {
		fmt.Fprintln(table, strings.Join(list[i].cells(), "\t"))
	}
	_ = table.Flush() // writes to memory
}
