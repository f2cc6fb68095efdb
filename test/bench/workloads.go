package main

import (
	"bytes"
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
	kind       report.Kind
	mode       peers.Mode
	logged     bool   // with access logs
	rateOf     string // the workload of whose maximum it offers a part
	// measure makes one run against a proxy that has just been started.
	measure func(ctx context.Context, t *trial) (report.Sample, error)
}

// The names that others refer to.
const (
	small64   = "small-64"
	small512  = "small-512"
	rate512   = "rate-512"
	answer64k = "answer-64k"
	upload1m  = "upload-1m"
	connect   = "connect"
	idle      = "idle"
	tls64     = "tls-64"
	h2x256    = "h2-16x16"
	handshake = "handshake"
	idleTLS   = "idle-tls"
	websocket = "websocket"
	withLog   = "-log" // behind a name: the same with access logs
)

// workloads are all there are, in the order of runs.
func workloads() []workload {
	small := shape{message: smallMessage()}
	rated := small.with(512)
	rated.rated = true
	fresh := shape{message: request("GET "+backend.Small, "Connection: close\r\n"), connections: 64, fresh: true}
	fresh.message.Length = backend.SmallSize
	multiplexed := small.with(16)
	multiplexed.streams = 16
	list := []workload{
		{name: small64, kind: report.Closed, what: "GET of 128 bytes, 64 connections", measure: small.with(64).measure},
		{name: small512, kind: report.Closed, what: "GET of 128 bytes, 512 connections", measure: small.with(512).measure},
		{name: rate512, kind: report.Rated, what: "GET of 128 bytes, 512 connections, at 70% of nginx's maximum", measure: rated.measure, rateOf: small512},
		{name: answer64k, kind: report.Closed, what: "GET of 64 KiB, 64 connections", measure: shape{message: get(backend.Large, backend.LargeSize)}.with(64).measure},
		{name: upload1m, kind: report.Closed, what: "POST of 1 MiB, 16 connections", measure: shape{message: post(1 << 20)}.with(16).measure},
		{name: connect, kind: report.Closed, what: "GET of 128 bytes on a connection of its own, 64 at a time", measure: fresh.measure},
		{name: tls64, kind: report.Closed, mode: peers.TLS, what: "GET of 128 bytes over TLS, 64 connections", measure: small.with(64).measure},
		{name: h2x256, kind: report.Closed, mode: peers.H2, what: "GET of 128 bytes in HTTP/2, 16 connections with 16 streams each", measure: multiplexed.measure},
		{
			name: handshake, kind: report.Closed, mode: peers.TLS, measure: fresh.measure,
			what: "full handshakes, ECDSA with P-256, each with one GET of 128 bytes on a connection of its own, 64 at a time",
		},
		{name: idle, kind: report.Idle, what: "idle connections, each after one request", measure: hold},
		{name: idleTLS, kind: report.Idle, mode: peers.TLS, what: "idle connections over TLS, each after one request", measure: hold},
		{name: websocket, kind: report.Closed, what: "WebSocket messages of 32 bytes sent back, 256 connections", measure: shape{message: messages(32)}.with(256).measure},
	}
	for _, w := range slices.Clone(list) {
		if w.name == small64 || w.name == small512 || w.name == rate512 {
			w.name, w.what, w.logged = w.name+withLog, w.what+", access logs on", true
			if w.rateOf != "" {
				w.rateOf += withLog
			}
			list = append(list, w)
		}
	}
	return list
}

// runs is how often each proxy does it, where the flag says so often. What idle connections hold does not depend on what other programs do.
func (w workload) runs(most int) int {
	const idle = 3
	if w.kind == report.Idle {
		return min(most, idle)
	}
	return most
}

// find returns the workload of a name.
func find(name string) (workload, error) {
	var known []string
	for _, w := range workloads() {
		if w.name == name {
			return w, nil
		}
		known = append(known, w.name)
	}
	return workload{}, fmt.Errorf("there is no workload %q; there are %s", name, strings.Join(known, ", "))
}

// chosen returns the workloads of these names in their own order, all where there are none.
func chosen(names []string) ([]workload, error) {
	for _, name := range names {
		if _, err := find(name); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(workloads(), func(w workload) bool { return len(names) > 0 && !slices.Contains(names, w.name) }), nil
}

// fieldLines are what every request has beside Host: a browser sends more, a health check less.
const fieldLines = "Host: " + peers.Host + "\r\nUser-Agent: bench/1\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n"

// request is a request for a path, with field lines of its own, that is answered 200.
func request(start, lines string) load.Message {
	return load.Message{Head: []byte(start + load.ID + " HTTP/1.1\r\n" + fieldLines + lines + "\r\n"), Status: 200}
}

// get is a GET that is answered with so many bytes.
func get(path string, length int) load.Message {
	m := request("GET "+path, "")
	m.Length = length
	return m
}

// smallMessage is the small GET.
func smallMessage() load.Message { return get(backend.Small, backend.SmallSize) }

// post is an upload of so many bytes, of which the backend says how many it got.
func post(size int) load.Message {
	m := request("POST "+backend.Upload, fmt.Sprintf("Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", size))
	m.Body = bytes.Repeat([]byte("u"), size)
	m.Sum = fmt.Appendf(nil, "%0*d", backend.SumSize, size)
	m.Length = backend.IDSize + backend.SumSize
	return m
}

// messages are WebSocket messages of so many bytes.
func messages(size int) load.Message {
	m := request("GET "+backend.Socket, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
	m.Status, m.Echo = 101, size
	return m
}

// sources are clients' addresses, all of loopback.
func sources(n int) []netip.Addr {
	var list []netip.Addr
	for i := range n {
		list = append(list, netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}))
	}
	return list
}
