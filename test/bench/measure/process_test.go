package measure

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestStat(t *testing.T) {
	t.Parallel()
	text := "4242 (a) (b c) S 17 4242 4242 0 -1 4194560 1 2 3 4 123 456 7 8 20 0 3 0 100 5 6\n"
	got, err := parseStat([]byte(text))
	if want := (stat{parent: 17, user: 123, system: 456}); err != nil || got != want {
		t.Errorf("parseStat = %+v, %v; want %+v", got, err, want)
	}
	for _, broken := range []string{"", "1 noname S 1", "1 (x) S 1 2 3", "1 (x) S y 1 1 0 -1 1 1 2 3 4 5 6 7", "1 (x) S 1 1 1 0 -1 1 1 2 3 4 -5 6 7"} {
		if got, err := parseStat([]byte(broken)); err == nil {
			t.Errorf("parseStat(%q) = %+v, want an error", broken, got)
		}
	}
}

func TestRollup(t *testing.T) {
	t.Parallel()
	text := "5577-7ffd ---p 00000000 00:00 0  [rollup]\nRss:                1234 kB\nPss:                 567 kB\nPss_Anon:            111 kB\nShared_Clean:          9 kB\n"
	got, err := parseRollup(text)
	if want := (Memory{Resident: 1234 << 10, Proportional: 567 << 10}); err != nil || got != want {
		t.Errorf("parseRollup = %+v, %v; want %+v", got, err, want)
	}
	for _, broken := range []string{"", "Rss: 12 kB\n", "Rss: 12 kB\nPss: x kB\n"} {
		if got, err := parseRollup(broken); err == nil {
			t.Errorf("parseRollup(%q) = %+v, want an error", broken, got)
		}
	}
}

func TestCores(t *testing.T) {
	t.Parallel()
	text := "cpu  300 0 0 9 0 0 0 0 0 0\ncpu0 100 1 10 5000 70 2 3 4 99 99\ncpu1 200 0 0 1 1 0 0 0 0 0\nintr 5\n"
	got, err := parseCores(text)
	if err != nil || len(got) != 2 || got[0] != 1200*time.Millisecond || got[1] != 2*time.Second {
		t.Errorf("parseCores = %v, %v; want 1.2s and 2s", got, err)
	}
	before := Busy{0: time.Second, 1: time.Second}
	if d := got.Of(before, 0, 1); d != 1200*time.Millisecond {
		t.Errorf("both cores since before = %v, want 1.2s", d)
	}
	for _, broken := range []string{"", "cpu 1 2 3 4 5 6 7 8\n", "cpu0 1 2 3\n", "cpuX 1 2 3 4 5 6 7 8\n", "cpu0 1 2 3 4 5 6 7 x\n"} {
		if got, err := parseCores(broken); err == nil {
			t.Errorf("parseCores(%q) = %v, want an error", broken, got)
		}
	}
}

// TestProcessor uses processor time and finds it again.
func TestProcessor(t *testing.T) {
	t.Parallel()
	self := []int{os.Getpid()}
	before, err := Processor(self)
	if err != nil {
		t.Fatal(err)
	}
	busy := []byte("x")
	for deadline := time.Now().Add(10 * time.Second); ; {
		after, err := Processor(self)
		if err != nil {
			t.Fatal(err)
		}
		used := after.Sub(before)
		if used.Total > 200*time.Millisecond {
			// The sum of the ticks is the exact count, rounded.
			if sampled := used.User + used.System; sampled < used.Total-100*time.Millisecond || sampled > used.Total+100*time.Millisecond {
				t.Errorf("exact %v, in ticks %v", used.Total, sampled)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v of processor time in 10 seconds of work", used.Total)
		}
		for range 1 << 16 {
			busy[0] ^= busy[0] << 1
		}
	}
	if _, err := Processor([]int{os.Getpid(), 1 << 30}); err == nil {
		t.Error("no error for a process that does not exist")
	}
	cores, err := Cores()
	if err != nil || len(cores) == 0 {
		t.Errorf("Cores = %v, %v", cores, err)
	}
}

func TestResident(t *testing.T) {
	t.Parallel()
	self := os.Getpid()
	one, err := Resident([]int{self})
	if err != nil {
		t.Fatal(err)
	}
	if one.Resident < 1<<20 || one.Proportional > one.Resident || one.Proportional <= 0 {
		t.Errorf("this process holds %+v", one)
	}
	if _, err := Resident([]int{1 << 30}); err == nil {
		t.Error("no error for a process that does not exist")
	}
}

// TestTree starts a process that starts another.
func TestTree(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "read line & cat; wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		tree, err := Tree(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if len(tree) >= 2 && tree[0] == cmd.Process.Pid {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the tree of a shell and its child is %v", tree)
		}
	}
	mine, err := Tree(os.Getpid())
	if err != nil || !slices.Contains(mine, cmd.Process.Pid) {
		t.Errorf("the tree of this process is %v, %v, without %d", mine, err, cmd.Process.Pid)
	}
}
