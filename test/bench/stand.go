package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/test/bench/backend"
	"podlane.dev/podlane/test/bench/loop"
	"podlane.dev/podlane/test/bench/peers"
	"podlane.dev/podlane/test/bench/report"
)

// stand is what all runs share: the loops with the backends, the executables, the folder.
type stand struct {
	o        *options
	dir      string
	cores    cores
	peers    []peers.Peer
	loop     *loop.Loop // of the load
	other    *loop.Loop // of the backends, where they have a core of their own
	backends []netip.AddrPort
	rates    map[string]float64 // that workloads offer, by name
	// reference is of whose maximum rates are a part: nginx, or where it is not installed the first of the others.
	reference peers.Peer
	absent    []string // what is not installed, in words
	// certificate is every proxy's, where a workload has TLS.
	certificate *peers.Certificate
}

// newStand builds what has to be built and starts the backends.
func newStand(ctx context.Context, o *options) (*stand, error) {
	s := &stand{o: o, cores: o.cores, rates: map[string]float64{}}
	if err := s.cores.resolve(); err != nil {
		return nil, err
	}
	if s.cores.proxy == s.cores.load {
		fmt.Fprintln(o.progress, "bench: one core for proxies and load: the numbers mean little")
	}
	if err := raiseFiles(o); err != nil {
		return nil, err
	}
	var err error
	if s.certificate, err = peers.NewCertificate(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "podlane-bench-"); err != nil {
		return nil, err
	}
	if err = s.choosePeers(ctx); err == nil {
		err = stayOn(s.cores.load)
	}
	if err == nil {
		err = s.startLoops()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// raiseFiles allows this process, and every proxy, which inherits the limit, as many open files as it may: idle connections
// need one each.
func raiseFiles(o *options) error {
	limit := syscall.Rlimit{}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	const others = 200
	list, err := chosen(o.workloads)
	if slices.ContainsFunc(list, func(w workload) bool { return w.kind == report.Idle }) && limit.Max < uint64(o.idle)+others {
		return fmt.Errorf("-idle: %d connections need more than the %d files that may be open (ulimit -Hn)", o.idle, limit.Max)
	}
	return err
}

// choosePeers finds what is installed and builds the rest.
func (s *stand) choosePeers(ctx context.Context) error {
	all := append(peers.Installed(), peers.ReverseProxy(s.program("reverseproxy")), peers.Podlane("podlane", s.program("podlane")))
	all = append(all, s.o.builds...)
	chosen, err := peers.Named(all, s.o.peers)
	if err != nil {
		return err
	}
	builds := map[string]string{}
	for _, p := range chosen {
		switch p.Program {
		case s.program("reverseproxy"):
			builds["reverseproxy"] = "test/bench/cmd/reverseproxy"
		case s.program("podlane"):
			builds["podlane"] = "cmd/podlane"
		}
	}
	for name, folder := range builds {
		if err := s.build(ctx, name, folder); err != nil {
			return err
		}
	}
	for _, p := range chosen {
		_, err := p.Find()
		switch {
		case errors.Is(err, peers.ErrAbsent):
			s.absent = append(s.absent, err.Error())
			fmt.Fprintln(s.o.progress, "bench: left out:", err)
		case err != nil:
			return err
		default:
			s.peers = append(s.peers, p)
		}
	}
	if len(s.peers) == 0 {
		return errors.New("none of the proxies is installed")
	}
	s.reference = peers.NGINX()
	if _, err := s.reference.Find(); errors.Is(err, peers.ErrAbsent) {
		s.reference = s.peers[0]
	}
	return nil
}

// program is where an executable of this tree is built.
func (s *stand) program(name string) string { return filepath.Join(s.dir, "bin", name) }

func (s *stand) build(ctx context.Context, name, folder string) error {
	fmt.Fprintln(s.o.progress, "bench: building", folder)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", s.program(name), "podlane.dev/podlane/"+folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", folder, err, out)
	}
	return nil
}

// startLoops starts the load's loop and the backends', which is the same one where they share a core, and two backends.
func (s *stand) startLoops() error {
	var err error
	if s.loop, err = loop.Start(s.cores.load); err != nil {
		return err
	}
	backends := s.loop
	if s.cores.backend != s.cores.load {
		if s.other, err = loop.Start(s.cores.backend); err != nil {
			return err
		}
		backends = s.other
	}
	server := backend.New(backends)
	for range 2 {
		at, err := server.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			return err
		}
		s.backends = append(s.backends, at)
	}
	return nil
}

// stayOn moves this process to a core, every thread that it has. Threads begin where their creators are.
func stayOn(core int) error {
	var only unix.CPUSet
	only.Set(core)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		var id int
		if _, err := fmt.Sscan(t.Name(), &id); err != nil {
			return fmt.Errorf("threads: %w", err)
		}
		// A thread that has ended meanwhile needs no core.
		if err := unix.SchedSetaffinity(id, &only); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("core %d: sched_setaffinity: %w", core, err)
		}
	}
	return nil
}

// close ends the loops and removes the folder.
func (s *stand) close() error {
	var err error
	for _, l := range []*loop.Loop{s.loop, s.other} {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	if s.o.keep {
		fmt.Fprintln(s.o.progress, "bench: kept", s.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
