package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// ways are what this machine reaches of the cluster from its own loopback interface. Networks do not reach across, but sockets in the file
// system do: a process on each side carries the bytes.
var ways = [...]string{"api", "http", "https"}

// A reach is this machine's side of the ways.
type reach struct{ listeners []net.Listener }

// reachFrom listens at the addresses that the user wants, or at free ones where those are taken, and carries connections to the sockets
// in the cluster's folder, as soon as they are there.
func reachFrom(c commandLine) (*reach, error) {
	r := &reach{}
	for i, address := range []string{"127.0.0.1:0", c.http, c.https} {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		}
		if err != nil {
			r.close()
			return nil, err
		}
		r.listeners = append(r.listeners, l)
		go carry(l, "unix", filepath.Join(c.dir, ways[i]+".sock"))
	}
	return r, nil
}

func (r *reach) addresses() []string {
	var all []string
	for _, l := range r.listeners {
		all = append(all, l.Addr().String())
	}
	return all
}

func (r *reach) close() {
	for _, l := range r.listeners {
		l.Close()
	}
}

// openWays is the cluster's side: each way's socket leads to an address in the sandbox's network.
func openWays(dir string, addresses [len(ways)]string) error {
	for i, address := range addresses {
		l, err := net.Listen("unix", filepath.Join(dir, ways[i]+".sock"))
		if err != nil {
			return fmt.Errorf("open the way to %s: %w", address, err)
		}
		go carry(l, "tcp", address)
	}
	return nil
}

// carry takes connections of l to an address until l is closed.
func carry(l net.Listener, network, address string) {
	for {
		from, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				fmt.Fprintf(os.Stderr, "cluster: the way to %s is closed: %v\n", address, err)
			}
			return
		}
		go func() {
			defer from.Close()
			to, err := net.Dial(network, address)
			if err != nil {
				return // the client sees that its connection ends
			}
			defer to.Close()
			var both sync.WaitGroup
			both.Go(func() { relay(to, from) })
			both.Go(func() { relay(from, to) })
			both.Wait()
		}()
	}
}

// relay carries one direction, and its end.
func relay(to, from net.Conn) {
	_, _ = io.Copy(to, from) // whichever side fails, the other hears that it has ended
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// parseReach is the opposite of reach.addresses.
func parseReach(s string) ([len(ways)]string, error) {
	var all [len(ways)]string
	if n := copy(all[:], strings.Split(s, ",")); n != len(all) {
		return all, fmt.Errorf("%s=%q: want %d addresses", reachEnv, s, len(all))
	}
	return all, nil
}
