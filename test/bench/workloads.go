package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"podlane.dev/podlane/test/bench/backend"
	"podlane.dev/podlane/test/bench/load"
	"podlane.dev/podlane/test/bench/peers"
	"podlane.dev/podlane/test/bench/report"
)

// workload is one kind of load, and what the proxies have to be for it.
type workload struct {
	name, what string
	mode       peers.Mode
	logged     bool // with access logs
	// measure makes one run against a proxy that has just been started.
	measure func(ctx context.Context, t *trial) (report.Sample, error)
}

// The names that others refer to.
const (
	small64  = "small-64"
	small512 = "small-512"
	rate512  = "rate-512"
	idle     = "idle"
)

// workloads are all there are, in the order of runs.
func workloads() []workload {
	small := shape{message: get(backend.Small, backend.SmallSize)}
	list := []workload{
		{name: small64, what: "GET of 128 bytes, 64 connections", measure: small.with(64).measure},
		{name: small512, what: "GET of 128 bytes, 512 connections", measure: small.with(512).measure},
	}
	return list
}

// chosen returns the workloads of these names, all where there are none.
func chosen(names []string) ([]workload, error) {
	all := workloads()
	for _, name := range names {
		if !slices.ContainsFunc(all, func(w workload) bool { return w.name == name }) {
			var known []string
			for _, w := range all {
				known = append(known, w.name)
			}
			return nil, fmt.Errorf("there is no workload %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(w workload) bool { return !slices.Contains(names, w.name) }), nil
}

// fieldLines are what every request has beside Host: a browser sends more, a health check less.
const fieldLines = "Host: " + peers.Host + "\r\nUser-Agent: bench/1\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n"

// get is the message of a GET that is answered with so many bytes.
func get(path string, length int) load.Message {
	return load.Message{Head: []byte("GET " + path + load.ID + " HTTP/1.1\r\n" + fieldLines + "\r\n"), Status: 200, Length: length}
}

// sources are clients' addresses, all of loopback.
func sources(n int) []netip.Addr {
	var list []netip.Addr
	for i := range n {
		list = append(list, netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}))
	}
	return list
}
