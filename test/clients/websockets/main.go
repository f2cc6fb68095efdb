// Command websockets holds a path between a client and a Pod to what WebSocket libraries do over it. It is a module of its own, so that the
// libraries are nobody else's dependencies.
//
// It serves WebSocket with two libraries at -listen, which is where the path leads, dials every URL with both, and prints a line of JSON
// for every combination and case: {"case": …, "error": …}, with an empty error where all is well.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// patience is how long one case may take: it only tells a failure from a hang.
const patience = 30 * time.Second

func main() {
	listen := flag.String("listen", "", "`address` of the Pod")
	ca := flag.String("ca", "", "`file` with the certificate of the authority that is trusted")
	flag.Parse()
	if err := run(*listen, *ca, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "websockets:", err)
		os.Exit(1)
	}
}

// run tries every combination of client, Pod, URL and compression.
func run(listen, ca string, urls []string) error {
	authority, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return errors.New("no certificate in " + ca)
	}
	p := newPod()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()

	out := json.NewEncoder(os.Stdout)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	for _, u := range urls {
		for _, client := range clients() {
			for _, library := range libraries() {
				plain := trial{
					name:   fmt.Sprintf("%s to %s over %s", client.name, library, u[:strings.IndexByte(u, ':')]),
					dialer: dialer{tls: config, dial: client.dial}, pod: p, base: u + "/" + library,
				}
				deflated := plain
				deflated.name += " with deflate"
				deflated.dialer.deflate = true
				if err := errors.Join(plain.tryAll(out), deflated.tryAll(out)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// A dialer makes connections with one library.
type dialer struct {
	tls     *tls.Config
	deflate bool
	dial    func(ctx context.Context, d dialer, target string) (socket, answer, error)
}

// network dials this machine, whatever the host.
func network(ctx context.Context, kind, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, kind, net.JoinHostPort("127.0.0.1", port))
}

// A trial is one combination.
type trial struct {
	name   string
	dialer dialer
	pod    *pod
	base   string
}

// tryAll runs every case, and prints what becomes of it.
func (t trial) tryAll(out *json.Encoder) error {
	for _, c := range cases() {
		result := struct {
			Case  string `json:"case"`
			Error string `json:"error"`
		}{Case: t.name + ": " + c.name}
		if err := t.try(c.run); err != nil {
			result.Error = err.Error()
		}
		if err := out.Encode(result); err != nil {
			return err
		}
	}
	return nil
}

// try runs one case on a connection of its own.
func (t trial) try(run func(ctx context.Context, s *session) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, closed := t.pod.expect()
	c, a, err := t.dialer.dial(ctx, t.dialer, t.base+"?id="+url.QueryEscape(id))
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer c.cut()
	return run(ctx, &session{socket: c, answer: a, closed: closed, deflate: t.dialer.deflate})
}
