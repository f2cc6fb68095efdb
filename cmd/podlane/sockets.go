package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"podlane.dev/podlane/config"
)

// listen opens one socket for each address, or none at all: the error names the flag and says what to do.
func listen(ctx context.Context, flag string, addresses config.Addresses) ([]net.Listener, error) {
	var open []net.Listener
	for _, address := range addresses {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			closeAll(open)
			return nil, explainListen(flag, address, err)
		}
		open = append(open, l)
	}
	return open, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

func explainListen(flag, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("--%s: %s is taken by another program: stop it, or write another port", flag, address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("--%s: this user may not listen on %s: write a port above 1023, or grant CAP_NET_BIND_SERVICE", flag, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("--%s: this machine has no address of %s: write one that it has, or only the port", flag, address)
	}
	return fmt.Errorf("--%s: %w", flag, err)
}

// reachable returns an address at which somebody on this machine reaches l.
func reachable(l net.Listener) string {
	address := l.Addr().String()
	if host, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			return net.JoinHostPort("127.0.0.1", port)
		}
	}
	return address
}

// addressesOf returns what the listeners listen on, for a message.
func addressesOf(listeners []net.Listener) string {
	list := make([]string, len(listeners))
	for i, l := range listeners {
		list[i] = l.Addr().String()
	}
	return strings.Join(list, ", ")
}
