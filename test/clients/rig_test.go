package clients_test

import (
	"crypto"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// The hosts of a rig. Both have the same Pod behind them.
const (
	secureHost = "shop.test"
	plainHost  = "plain.test"
)

// A rig is `podlane serve` with a Pod behind it: secureHost has a certificate of the authority, plainHost has none.
type rig struct {
	*serving.Process
	t         *testing.T
	authority *authority
	log       string
}

// rigOptions say how a rig differs from the usual one.
type rigOptions struct {
	// program is podlane; the usual one is built as the tests are, with the race detector or without.
	program string
	// key is the certificate's; the usual one is ECDSA P-256.
	key  crypto.Signer
	args []string
}

// newRig starts podlane with the Pod at an address.
func newRig(t *testing.T, pod string, o rigOptions) *rig {
	t.Helper()
	switch {
	case o.program != "":
	case raceEnabled:
		o.program = serving.RaceProgram(t)
	default:
		o.program = serving.Program(t)
	}
	if o.key == nil {
		o.key = newECDSA(t)
	}
	r := &rig{t: t, authority: newAuthority(t), log: filepath.Join(t.TempDir(), "access.log")}
	dir := serving.Folder(t, map[string][]string{secureHost: {pod}, plainHost: {pod}})
	text := r.authority.secret(t, "certificate", secureHost, o.key) + `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: tls, namespace: default}
spec:
  tls: [{hosts: [` + secureHost + `], secretName: certificate}]
  rules:
  - host: ` + secureHost + `
    http: {paths: [{path: /tls, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}
`
	if err := os.WriteFile(filepath.Join(dir, "tls.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Process = serving.Start(t, serving.Options{
		Program: o.program, Dir: dir,
		Args: append([]string{"--access-log=" + r.log, "--use-h2c", "--proxy-body-size=0"}, o.args...),
	})
	return r
}

// secure and plain are URLs of a path on the two listeners.
func (r *rig) secure(path string) string { return "https://" + secureHost + ":" + port(r.HTTPS) + path }
func (r *rig) plain(path string) string  { return "http://" + plainHost + ":" + port(r.HTTP) + path }

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// connections is how many connections clients have made so far.
func (r *rig) connections() int { return int(r.Metric("podlane_connections_accepted_total")) }

// A logLine is a line of the access log, as far as the tests read it.
type logLine struct {
	Client, Method, Path, Protocol string
	Status                         int
}

// lines are the access log's lines of requests for which want holds, once there are n of them.
func (r *rig) lines(n int, want func(logLine) bool) []logLine {
	r.t.Helper()
	var found []logLine
	await(r.t, fmt.Sprintf("%d lines of the access log", n), func() bool {
		content, err := os.ReadFile(r.log)
		if err != nil {
			r.t.Fatal(err)
		}
		found = nil
		for text := range strings.Lines(string(content)) {
			var line logLine
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				return false // the rest of it is on its way
			}
			if want(line) {
				found = append(found, line)
			}
		}
		return len(found) >= n
	})
	return found
}
