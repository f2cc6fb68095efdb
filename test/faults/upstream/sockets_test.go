package upstream_test

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The states of sockets in /proc/net/tcp that tests look for.
const (
	stateOpening  = "03" // SYN_RECV
	stateTimeWait = "06"
)

// A socket is one of this network's.
type socket struct{ local, remote netip.AddrPort }

// sockets returns the sockets that are in a state.
func sockets(t testing.TB, state string) (all []socket) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if columns := strings.Fields(line); len(columns) > 3 && columns[3] == state {
			all = append(all, socket{parseSocket(columns[1]), parseSocket(columns[2])})
		}
	}
	return all
}

// parseSocket reads an address of /proc/net/tcp: the bytes of an integer in the machine's order, and a port.
func parseSocket(s string) netip.AddrPort {
	address, port, _ := strings.Cut(s, ":")
	a, _ := strconv.ParseUint(address, 16, 32)
	p, _ := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(a), byte(a >> 8), byte(a >> 16), byte(a >> 24)}), uint16(p))
}
