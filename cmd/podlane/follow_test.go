package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// followed starts a follower of root and returns its signals.
func followed(t *testing.T, root string) <-chan time.Time {
	t.Helper()
	f, err := follow(root, func(err error) { t.Errorf("while following: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	})
	return f.changes()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seen waits for a signal. Without one the test would hang until the test binary's own limit; a minute says why.
func seen(t *testing.T, changes <-chan time.Time, what string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(time.Minute):
		t.Fatalf("not seen: %s", what)
	}
}

// drained takes signals until writes of before have certainly been told: those of a marker that is written now.
func drained(t *testing.T, changes <-chan time.Time, root string) {
	t.Helper()
	write(t, filepath.Join(root, "marker.yaml"), time.Now().String())
	seen(t, changes, "the marker")
	for {
		select {
		case <-changes:
		case <-time.After(4 * followQuiet):
			return
		}
	}
}

func TestFollowSees(t *testing.T) {
	base := t.TempDir()
	elsewhere := t.TempDir()
	root := filepath.Join(base, "manifests")
	write(t, filepath.Join(root, "a.yaml"), "1")
	write(t, filepath.Join(elsewhere, "linked.yaml"), "1")
	write(t, filepath.Join(elsewhere, "tree", "b.yaml"), "1")
	must(t, os.Symlink(filepath.Join(elsewhere, "linked.yaml"), filepath.Join(root, "linked.yaml")))
	must(t, os.Symlink(filepath.Join(elsewhere, "tree"), filepath.Join(root, "tree")))
	must(t, os.Symlink(root, filepath.Join(root, "circle")))
	must(t, os.Symlink("nowhere", filepath.Join(root, "dangling")))
	changes := followed(t, root)

	for _, step := range []struct {
		name string
		do   func()
	}{
		{"a file written in place", func() { write(t, filepath.Join(root, "a.yaml"), "2") }},
		{"a new file", func() { write(t, filepath.Join(root, "new.yaml"), "1") }},
		{"a file replaced by rename", func() {
			write(t, filepath.Join(base, "tmp"), "3")
			must(t, os.Rename(filepath.Join(base, "tmp"), filepath.Join(root, "a.yaml")))
		}},
		{"a file removed", func() { must(t, os.Remove(filepath.Join(root, "new.yaml"))) }},
		{"a new folder with a file in a folder", func() { write(t, filepath.Join(root, "x", "y", "z.yaml"), "1") }},
		{"a file in the new folder", func() { write(t, filepath.Join(root, "x", "y", "z.yaml"), "2") }},
		{"a folder renamed", func() { must(t, os.Rename(filepath.Join(root, "x"), filepath.Join(root, "w"))) }},
		{"a file in the renamed folder", func() { write(t, filepath.Join(root, "w", "y", "z.yaml"), "3") }},
		{"a folder removed", func() { must(t, os.RemoveAll(filepath.Join(root, "w"))) }},
		{"the removed folder again", func() { write(t, filepath.Join(root, "w", "y.yaml"), "1") }},
		{"a file in it", func() { write(t, filepath.Join(root, "w", "y.yaml"), "2") }},
		{"the end of a link", func() { write(t, filepath.Join(elsewhere, "linked.yaml"), "2") }},
		{"the end of a link replaced by rename", func() {
			write(t, filepath.Join(elsewhere, "tmp"), "3")
			must(t, os.Rename(filepath.Join(elsewhere, "tmp"), filepath.Join(elsewhere, "linked.yaml")))
		}},
		{"a file in a linked folder", func() { write(t, filepath.Join(elsewhere, "tree", "b.yaml"), "2") }},
		{"permissions", func() { must(t, os.Chmod(filepath.Join(root, "a.yaml"), 0o400)) }},
		{"the folder itself renamed", func() { must(t, os.Rename(root, root+".old")) }},
		{"the folder back", func() { must(t, os.Rename(root+".old", root)) }},
		{"a file after that", func() { write(t, filepath.Join(root, "b.yaml"), "1") }},
	} {
		step.do()
		seen(t, changes, step.name)
		if _, err := os.Stat(root); err == nil {
			drained(t, changes, root)
		}
	}
}

func TestFollowConfigMapVolume(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "..1", "a.yaml"), "1")
	must(t, os.Symlink("..1", filepath.Join(root, "..data")))
	must(t, os.Symlink(filepath.Join("..data", "a.yaml"), filepath.Join(root, "a.yaml")))
	changes := followed(t, root)
	for _, version := range []string{"..2", "..3"} {
		// The kubelet's AtomicWriter: a new folder, a new link, one rename, the old folder removed.
		before, err := os.Readlink(filepath.Join(root, "..data"))
		must(t, err)
		write(t, filepath.Join(root, version, "a.yaml"), version)
		must(t, os.Symlink(version, filepath.Join(root, "..data_tmp")))
		must(t, os.Rename(filepath.Join(root, "..data_tmp"), filepath.Join(root, "..data")))
		must(t, os.RemoveAll(filepath.Join(root, before)))
		seen(t, changes, version)
		if text, err := os.ReadFile(filepath.Join(root, "a.yaml")); err != nil || string(text) != version {
			t.Errorf("a.yaml = %q, %v when its change was told, want %q", text, err, version)
		}
	}
}

func TestFollowSwappedRoot(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "one", "a.yaml"), "1")
	write(t, filepath.Join(base, "two", "a.yaml"), "2")
	root := filepath.Join(base, "current")
	must(t, os.Symlink("one", root))
	changes := followed(t, root)
	must(t, os.Symlink("two", filepath.Join(base, "next")))
	must(t, os.Rename(filepath.Join(base, "next"), root))
	seen(t, changes, "the swapped link")
	write(t, filepath.Join(base, "two", "a.yaml"), "3")
	seen(t, changes, "a file behind the new link")
}

func TestFollowLeavesNeighboursAlone(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "manifests")
	write(t, filepath.Join(root, "sub", "a.yaml"), "1")
	write(t, filepath.Join(base, "linked.yaml"), "1")
	must(t, os.Symlink(filepath.Join("..", "linked.yaml"), filepath.Join(root, "linked.yaml")))
	w, err := newWatch(root)
	must(t, err)
	defer func() { must(t, w.Close()) }()
	for name, want := range map[string]bool{
		filepath.Join(base, "other"):             false,
		filepath.Join(base, "manifests.yaml"):    false,
		filepath.Join(base, "linked.yaml"):       true,
		root:                                     true,
		filepath.Join(root, "a.yaml"):            true,
		filepath.Join(root, "sub", "new.yaml"):   true,
		filepath.Join(root, "not-there", "deep"): false,
	} {
		if got := w.concerns(name); got != want {
			t.Errorf("%s concerns the watch: %v, want %v", name, got, want)
		}
	}
}

func TestFollowWhatIsNoFolder(t *testing.T) {
	base := t.TempDir()
	changes := followed(t, filepath.Join(base, "later"))
	write(t, filepath.Join(base, "later", "a.yaml"), "1")
	seen(t, changes, "a folder that was not there at first")
}

// settled is one settle in a bubble of synctest.
type settled struct {
	from  chan struct{}
	told  []time.Duration // since the start
	since []time.Duration // when the burst began that was told
	done  chan struct{}
	begin time.Time
}

func startSettle(t *testing.T) *settled {
	t.Helper()
	s := &settled{from: make(chan struct{}), done: make(chan struct{}), begin: time.Now()}
	go settle(s.done, s.from, func(since time.Time) {
		s.told = append(s.told, time.Since(s.begin))
		s.since = append(s.since, since.Sub(s.begin))
	})
	return s
}

// end stops it after an hour, in which all that was to be told was told, and compares.
func (s *settled) end(t *testing.T, want ...time.Duration) {
	t.Helper()
	time.Sleep(time.Hour)
	close(s.done)
	synctest.Wait()
	if !slices.Equal(s.told, want) {
		t.Errorf("told at %v, want %v", s.told, want)
	}
}

func TestSettleOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSettle(t)
		s.from <- struct{}{}
		s.end(t, followQuiet)
	})
}

func TestSettleBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSettle(t)
		for range 5 {
			s.from <- struct{}{}
			time.Sleep(followQuiet / 2)
		}
		s.end(t, 4*(followQuiet/2)+followQuiet)
		if s.since[0] != 0 {
			t.Errorf("told that the burst began at %v, want its first change", s.since[0])
		}
	})
}

func TestSettleChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSettle(t)
		// 1.25 times the longest hold-off, without a pause.
		const step = followQuiet / 2
		for range followMost * 5 / 4 / step {
			s.from <- struct{}{}
			time.Sleep(step)
		}
		s.end(t, followMost, followMost*5/4-step+followQuiet)
	})
}

func TestSettleEndsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSettle(t)
		s.from <- struct{}{}
		close(s.done)
		synctest.Wait()
		if len(s.told) != 0 {
			t.Errorf("told at %v after the end", s.told)
		}
	})
}
