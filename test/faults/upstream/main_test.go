package upstream_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/cluster/sandbox"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run is the body of TestMain: the tests run in a network of their own, where they may break what they like.
func run(m *testing.M) int {
	if sandbox.Inside() {
		if err := errors.Join(sandbox.Enter(), addPods()); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			return 1
		}
		return m.Run()
	}
	err := sandbox.Possible()
	if err == nil {
		var code int
		if code, err = outside(); err == nil {
			return code
		}
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	if ci := os.Getenv("CI"); ci != "" && ci != "false" {
		fmt.Fprintln(os.Stderr, "faults: must not be skipped in CI:", err)
		return 1
	}
	fmt.Println("skipped: faults need a network namespace:", err)
	return 0
}

// programsEnv names, inside, the folder of the commands that were built outside, where there are caches and a network.
const programsEnv = "PODLANE_FAULTS_PROGRAMS"

// outside builds the command under test and runs the tests in a sandbox.
func outside() (code int, err error) {
	dir, err := os.MkdirTemp("", "podlane-faults-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if _, err := assets.Programs(os.Stderr, dir, []string{"cmd/podlane"}); err != nil {
		return 0, err
	}
	return sandbox.Rerun(programsEnv + "=" + dir)
}

// podNetwork is where Pods are, and ownAddress is this machine's in it, which no Pod has.
var (
	podNetwork = netip.MustParsePrefix("10.244.0.0/16")
	ownAddress = netip.MustParseAddr("10.244.255.254")
)

// addPods makes every address of podNetwork one of this machine's: an address of lo stands for the whole of its prefix.
func addPods() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: ownAddress.AsSlice(), Mask: net.CIDRMask(podNetwork.Bits(), 32)}})
}
