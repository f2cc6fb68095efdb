package resources_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// memoryGroup is a control group of version 1 with a memory limit, as a Pod's container has one.
type memoryGroup struct{ path string }

// newMemoryGroup makes a control group, or says why this machine has none for us. It must be made before what runs in it is started.
func newMemoryGroup(t *testing.T, limit int64) (*memoryGroup, error) {
	t.Helper()
	const root = "/sys/fs/cgroup/memory"
	if _, err := os.Stat(filepath.Join(root, "memory.limit_in_bytes")); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(root, "podlane-test-") //nolint:usetesting // it is no folder for files
	if err != nil {
		return nil, err
	}
	g := &memoryGroup{path}
	t.Cleanup(func() {
		// The kernel frees the last pages of a process a moment after its end.
		if !comesTrue(func() bool { err = os.Remove(path); return err == nil }) {
			t.Errorf("remove %s: %v", path, err)
		}
	})
	return g, os.WriteFile(filepath.Join(path, "memory.limit_in_bytes"), []byte(strconv.FormatInt(limit, 10)), 0o600)
}

// shell moves a shell into the group.
func (g *memoryGroup) shell() string { return "echo $$ > " + g.path + "/cgroup.procs" }

func (g *memoryGroup) number(t *testing.T, name string) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.path, name))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// kills is how many processes of the group the kernel has killed for want of memory.
func (g *memoryGroup) kills(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.path, "memory.oom_control"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "0"
}

// F18: more slow clients than a container of 256 MiB has memory for. The process is not killed: it first closes connections behind their
// answers, then refuses new requests at once, goes on with those that it has, and is as before when they are over.
func TestF18LittleMemory(t *testing.T) {
	noLeaks(t)
	const limit, most, size = 256 << 20, 4000, 8 << 20
	l := serving.Options{Program: serving.Program(t), Args: []string{"--log-level=info"}}
	group, err := newMemoryGroup(t, limit)
	switch {
	case err == nil:
		l.Shell = group.shell()
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		t.Logf("F18: no memory control group of version 1 (%v): Go's own limit stands for it", err)
		l.Env = []string{"GOMEMLIMIT=" + strconv.Itoa(limit/10*8)}
	default:
		t.Fatal(err)
	}
	big := newBigPod(t, size)
	l.Dir = serving.Folder(t, map[string][]string{"slow.test": {big.addr}, "more.test": {big.addr}, "probe.test": {plainPod(t, "probe").addr}})
	p := serving.Start(t, l)
	rest := p.Resident()

	var slow []*client
	defer func() { closeAll(slow) }()
	marks := map[string]int{} // what probes got, and after how many clients first
	for len(slow) < most && marks["503"] == 0 {
		for range 25 {
			c, err := smallSocket(p.HTTP)
			if err != nil {
				t.Fatal(err)
			}
			c.send("GET /%d HTTP/1.1\r\nHost: %s\r\n\r\n", len(slow), []string{"slow.test", "more.test"}[len(slow)%2])
			slow = append(slow, c)
		}
		got := probe(t, p)
		if _, seen := marks[got]; !seen {
			marks[got] = len(slow)
		}
	}
	p.Alive()
	t.Logf("F18: %d MiB resident at rest; probes after how many slow clients: %v", rest>>20, marks)
	if marks["503"] == 0 {
		t.Fatalf("%d slow clients, %d MiB resident: no request was refused", len(slow), p.Resident()>>20)
	}
	// A load that grows this fast may be past the first step, "200, close", before a probe has seen it.
	if bad := len(marks) - min(marks["200"], 1) - min(marks["200, close"], 1) - 1; bad > 0 {
		t.Errorf("probes got something else than 200 or 503: %v", marks)
	}

	// What comes now is refused, and costs nothing that stays.
	var o outcome
	closeAll(crowd(500, func() *client { return o.get(p.HTTP, "slow.test") }))
	t.Logf("F18: 500 more: %s", &o)
	o.onlyAnswers(t)
	if o.of("503") == 0 {
		t.Error("none of them was refused")
	}
	if status, _, err := p.Page("/healthz"); err != nil || status != http.StatusOK {
		t.Errorf("/healthz: %d %v", status, err)
	}
	if group != nil {
		t.Logf("F18: %d of %d MiB resident; the group had at most %d MiB, %s kills", p.Resident()>>20, limit>>20,
			group.number(t, "memory.max_usage_in_bytes")>>20, group.kills(t))
		if n := group.kills(t); n != "0" {
			t.Errorf("the kernel killed %s processes", n)
		}
	}
	readAll(t, slow[:4], size)
	closeAll(slow)
	began := time.Now()
	await(t, "all to be well again", func() bool { return probe(t, p) == "200" })
	t.Logf("F18: all well %s after the slow clients had left", time.Since(began).Round(time.Millisecond))
	p.Alive()
	for line := range strings.Lines(p.Output()) {
		if strings.Contains(line, "memory") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// probe makes one request on a connection of its own, which could stay open, and says what came of it.
func probe(t *testing.T, p *serving.Process) string {
	t.Helper()
	c, err := tryDial(p.HTTP)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	c.send("GET / HTTP/1.1\r\nHost: probe.test\r\n\r\n")
	res, err := http.ReadResponse(c.in, nil)
	switch {
	case err != nil:
		p.Alive()
		return kindOf(err)
	case res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "":
		return "503 without Retry-After"
	case res.StatusCode == http.StatusOK && res.Close:
		return "200, close"
	}
	return fmt.Sprint(res.StatusCode)
}
