package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"time"

	"podlane.dev/podlane/test/bench/backend"
	"podlane.dev/podlane/test/bench/peers"
)

// verify asks a proxy for the head that a backend gets from it: a comparison is worth nothing where one does less than the others.
func verify(ctx context.Context, site peers.Site) error {
	status, head, err := ask(ctx, site, peers.Host)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("status %d for a request to a backend", status)
	}
	if err := checkHead(head, site); err != nil {
		return fmt.Errorf("%w; the backend got\n%s", err, head)
	}
	if status, _, err = ask(ctx, site, "other.example"); err == nil && status == http.StatusOK {
		return fmt.Errorf("status %d for a host that nobody serves", status)
	}
	return err
}

// ask sends one request over a connection of its own, on which it also checks TLS, where there is TLS.
func ask(ctx context.Context, site peers.Site, host string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, site.Address.String())
		},
		Protocols: &http.Protocols{},
	}
	defer transport.CloseIdleConnections()
	transport.Protocols.SetHTTP1(site.Mode != peers.H2)
	transport.Protocols.SetHTTP2(site.Mode == peers.H2)
	if site.Mode != peers.Plain {
		trusted := x509.NewCertPool()
		trusted.AddCert(site.Certificate.Leaf)
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: trusted, ServerName: peers.Host}
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, site.Mode.Scheme()+"://"+host+backend.Head+"00000000", http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	response, err := transport.RoundTrip(q)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	if isH2 := response.ProtoMajor == 2; isH2 != (site.Mode == peers.H2) {
		return 0, nil, fmt.Errorf("the answer is in %s", response.Proto)
	}
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// checkHead says what is wrong with a head that a proxy sent to a backend.
func checkHead(head []byte, site peers.Site) error {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
	line, err := r.ReadLine()
	if err != nil {
		return err
	}
	if want := "GET " + backend.Head + "00000000 HTTP/1.1"; line != want {
		return fmt.Errorf("the request line is %q, not %q", line, want)
	}
	fields, err := r.ReadMIMEHeader()
	if err != nil {
		return err
	}
	for name, want := range map[string]string{
		"Host": peers.Host, "X-Real-Ip": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": peers.Host,
		"X-Forwarded-Port": strconv.Itoa(int(site.Address.Port())), "X-Forwarded-Proto": site.Mode.Scheme(),
	} {
		if got := fields[name]; len(got) != 1 || got[0] != want {
			return fmt.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	// 128 bits in hexadecimal, without leading zeros perhaps.
	if id := fields.Get("X-Request-Id"); len(id) < 24 {
		return fmt.Errorf("X-Request-ID is %q", id)
	}
	if c := fields.Get("Connection"); c != "" && c != "keep-alive" {
		return fmt.Errorf("the connection is not kept: Connection: %s", c)
	}
	return nil
}
