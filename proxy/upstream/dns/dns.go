// Package dns is a stub resolver that tells how long its answers hold, which package net does not: it asks the servers of
// resolv.conf(5) for the addresses of a name, by its search rules, over UDP and, where an answer is truncated, TCP (RFC 1035,
// RFC 7766), and follows CNAMEs.
//
// It keeps nothing but the parsed file, knows neither Pools nor policies, and must never be called while a request waits.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// FallbackTTL is how long an answer of package net is taken to hold, which is asked where there is no resolv.conf.
const FallbackTTL = 30 * time.Second

// Answer is the addresses of a name.
type Answer struct {
	// Addrs has at least one address, IPv4 before IPv6, each once; no IPv4-mapped ones.
	Addrs []netip.Addr
	// TTL is the least time to live of the records that led to the addresses.
	TTL time.Duration
}

// NotFoundError says that the name has no address: the servers answered, and that was the answer.
type NotFoundError struct{ Name string }

// Error names the name.
func (e *NotFoundError) Error() string { return fmt.Sprintf("resolve %s: no such host", e.Name) }

// Resolver asks the servers of a resolv.conf file. The zero value is ready and uses the system's file. It may be used
// concurrently.
type Resolver struct {
	// File is the path of the resolv.conf; "" means /etc/resolv.conf. It is read again when it has changed.
	File string
	// Dial connects to a server; nil means package net. network is udp or tcp.
	Dial func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error)

	mu     sync.Mutex
	loaded settings
	stat   os.FileInfo
}

// Lookup returns the addresses of name, which is completed by the search rules unless it ends in a dot. The error is a
// *NotFoundError where there are none for sure; any other means that nothing is known.
func (r *Resolver) Lookup(ctx context.Context, name string) (Answer, error) {
	s, err := r.settings()
	if errors.Is(err, os.ErrNotExist) {
		return system(ctx, name)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("resolve %s: %w", name, err)
	}
	result := error(&NotFoundError{Name: name})
	for _, full := range s.candidates(name) {
		a, err := r.addresses(ctx, s, full)
		var missing *NotFoundError
		var failed codeError
		switch {
		case err == nil:
			return a, nil
		case errors.As(err, &missing):
		case errors.As(err, &failed):
			result = err // as the C library: one domain of the search list may be broken for good
		default:
			// Silence proves nothing, and the next candidate may be another host.
			return Answer{}, err
		}
	}
	return Answer{}, result
}

// system asks package net, which knows other sources than DNS but no TTL.
func system(ctx context.Context, name string) (Answer, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	var d *net.DNSError
	if errors.As(err, &d) && d.IsNotFound {
		return Answer{}, &NotFoundError{Name: name}
	}
	if err != nil {
		return Answer{}, fmt.Errorf("resolve %s: %w", name, err)
	}
	a := Answer{TTL: FallbackTTL}
	for _, addr := range addrs {
		a.add(addr)
	}
	return a.ordered(), nil
}

// addresses asks for the IPv4 and IPv6 addresses of a full name.
func (r *Resolver) addresses(ctx context.Context, s settings, full string) (Answer, error) {
	all := Answer{TTL: maxTTL}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		a, err := r.follow(ctx, s, full, kind)
		if err != nil {
			return Answer{}, err
		}
		for _, addr := range a.Addrs {
			all.add(addr)
		}
		if len(a.Addrs) > 0 {
			all.TTL = min(all.TTL, a.TTL)
		}
	}
	if len(all.Addrs) == 0 {
		return Answer{}, &NotFoundError{Name: full}
	}
	return all.ordered(), nil
}

// maxAliases bounds a chain of CNAMEs.
const maxAliases = 8

// maxTTL is the longest time to live (RFC 2181, section 8).
const maxTTL = (1<<31 - 1) * time.Second

// follow asks for one kind of address, and asks again for the end of a chain of CNAMEs that an answer leaves open. No
// address is not an error here.
func (r *Resolver) follow(ctx context.Context, s settings, name string, kind dnsmessage.Type) (Answer, error) {
	all := Answer{TTL: maxTTL}
	for range maxAliases {
		q, err := question(name, kind)
		if err != nil {
			return Answer{}, err
		}
		m, err := r.ask(ctx, s, q)
		if err != nil {
			return Answer{}, fmt.Errorf("resolve %s: %w", name, err)
		}
		a, end := m.resolve(q)
		all.TTL = min(all.TTL, a.TTL)
		if len(a.Addrs) > 0 || strings.EqualFold(end, name) {
			all.Addrs = a.Addrs
			return all, nil
		}
		name = end
	}
	return Answer{}, fmt.Errorf("resolve %s: more than %d aliases", name, maxAliases)
}

func question(name string, kind dnsmessage.Type) (dnsmessage.Question, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil || strings.Contains(name, "..") || strings.HasPrefix(name, ".") || tooLongLabel(name) {
		return dnsmessage.Question{}, &NotFoundError{Name: name}
	}
	return dnsmessage.Question{Name: n, Type: kind, Class: dnsmessage.ClassINET}, nil
}

func tooLongLabel(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > 63 {
			return true
		}
	}
	return false
}

// maxAddresses bounds what one name can make the proxy remember.
const maxAddresses = 256

// add enters an address once.
func (a *Answer) add(addr netip.Addr) {
	addr = addr.Unmap()
	if len(a.Addrs) < maxAddresses && !slices.Contains(a.Addrs, addr) {
		a.Addrs = append(a.Addrs, addr)
	}
}

// ordered returns a with IPv4 before IPv6.
func (a Answer) ordered() Answer {
	sorted := make([]netip.Addr, 0, len(a.Addrs))
	for _, want4 := range []bool{true, false} {
		for _, addr := range a.Addrs {
			if addr.Is4() == want4 {
				sorted = append(sorted, addr)
			}
		}
	}
	a.Addrs = sorted
	return a
}
