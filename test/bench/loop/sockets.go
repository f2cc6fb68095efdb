package loop

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Listen returns a listening socket that does not block.
func Listen(at netip.AddrPort) (int, error) {
	fd, err := socket()
	if err != nil {
		return -1, err
	}
	address := &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, address)
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen on %s: %w", at, err)
	}
	return fd, nil
}

// Port is the local port of a socket.
func Port(fd int) (uint16, error) {
	a, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("getsockname: %w", err)
	}
	in, ok := a.(*unix.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("getsockname: %T", a)
	}
	return uint16(in.Port), nil
}

// Accept takes a connection from a listening socket; -1 when there is none.
func Accept(listener int) (int, error) {
	fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch err {
	case nil:
		noDelay(fd)
		return fd, nil
	case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
		return -1, nil
	default:
		return -1, fmt.Errorf("accept: %w", err)
	}
}

// Connect begins a connection from the address from, which chooses the port late: each address of this machine has as many as
// all others.
func Connect(from netip.Addr, to netip.AddrPort) (int, error) {
	fd, err := socket()
	if err != nil {
		return -1, err
	}
	noDelay(fd)
	if err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", to, err)
	}
	return fd, nil
}

// Failed returns why a connection that was begun did not come about, nil where it did or has not yet.
func Failed(fd int) error {
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if e != 0 {
		return unix.Errno(e)
	}
	return nil
}

func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	return fd, nil
}

// noDelay cannot fail on a TCP socket, and where it did latencies would show it for all proxies alike.
func noDelay(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// Connected reports whether a connection that was begun has come about.
func Connected(fd int) bool {
	_, err := unix.Getpeername(fd)
	return err == nil
}
