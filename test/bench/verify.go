package main

import (
	"bufio"
	"bytes"
	"context"
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
	if err := checkHead(head, site.Address.Port()); err != nil {
		return fmt.Errorf("%w; the backend got\n%s", err, head)
	}
	if status, _, err = ask(ctx, site, "other.example"); err == nil && status == http.StatusOK {
		return fmt.Errorf("status %d for a host that nobody serves", status)
	}
	return err
}

// ask sends one request over a connection of its own.
func ask(ctx context.Context, site peers.Site, host string) (status int, body []byte, err error) {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", site.Address.String())
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, nil, err
	}
	if _, err := fmt.Fprintf(c, "GET %s00000000 HTTP/1.1\r\nHost: %s\r\n\r\n", backend.Head, host); err != nil {
		return 0, nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// checkHead says what is wrong with a head that a proxy sent to a backend.
func checkHead(head []byte, port uint16) error {
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
		"X-Forwarded-Port": strconv.Itoa(int(port)), "X-Forwarded-Proto": "http",
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
