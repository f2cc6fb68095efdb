package bodies

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
)

// A spooled body comes back whole, however it came, and as often as it is wanted.
func TestSpoolGivesBackWhatItTook(t *testing.T) {
	t.Parallel()
	s := NewSpooler(SpoolerOptions{Dir: t.TempDir()})
	for _, size := range []int{0, 1, pieceSize - 1, pieceSize, pieceSize + 1, 3 * pieceSize, readSize + 1, 100_000, 1 << 20} {
		data := noise(size)
		for _, part := range []int{1, 1000, pieceSize, pieceSize + 1, 64 << 10} {
			if part == 1 && size > 4*pieceSize {
				continue
			}
			for _, memory := range []int64{0, 1, pieceSize + 1, 128 << 10, math.MaxInt64} {
				name := fmt.Sprintf("%d bytes in parts of %d with %d of memory", size, part, memory)
				p := s.Spool(SpoolLimits{Memory: memory})
				source := &script{pieces: cut(data, part)}
				if size == 0 {
					source.pieces = nil
				}
				if err := p.Fill(source); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if p.Length() != int64(size) || !p.Ready() {
					t.Errorf("%s: length %d", name, p.Length())
				}
				rounded := max((min(memory, 1<<40)+pieceSize-1)/pieceSize*pieceSize, pieceSize)
				if p.OnDisk() != (int64(size) > rounded) {
					t.Errorf("%s: on disk %v", name, p.OnDisk())
				}
				for range 2 {
					if got := readAll(t, p); !bytes.Equal(got, data) {
						t.Fatalf("%s: %d bytes that are not those", name, len(got))
					}
					p.Rewind()
				}
				// In the middle of it, too.
				_, _ = p.Next()
				p.Rewind()
				if got := readAll(t, p); !bytes.Equal(got, data) {
					t.Fatalf("%s: %d bytes after another beginning", name, len(got))
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if st := s.Stats(); st.Bytes != 0 || st.Files != 0 || st.Refused != 0 || st.Failed != 0 || st.Spilled == 0 {
		t.Errorf("at the end: %+v", st)
	}
}

func TestSpoolTotal(t *testing.T) {
	t.Parallel()
	s := NewSpooler(SpoolerOptions{Dir: t.TempDir()})
	for _, total := range []int64{10, 100_000} {
		for _, part := range []int{1 << 20, 7} {
			p := s.Spool(SpoolLimits{Total: total})
			if err := p.Fill(&script{pieces: cut(noise(int(total)), part)}); err != nil {
				t.Errorf("%d bytes of %d: %v", total, total, err)
			}
			_ = p.Close()
			p = s.Spool(SpoolLimits{Total: total})
			err := p.Fill(&script{pieces: cut(noise(int(total)+1), part)})
			if _, ours := errors.AsType[*SpoolError](err); !errors.Is(err, ErrSpoolTooLarge) || ours {
				t.Errorf("%d bytes of %d: %v, want ErrSpoolTooLarge alone", total+1, total, err)
			}
			if _, again := p.Write([]byte("x")); !errors.Is(again, ErrSpoolTooLarge) {
				t.Errorf("a spool that failed goes on: %v", again)
			}
			if _, again := p.Next(); !errors.Is(again, ErrSpoolTooLarge) {
				t.Errorf("a spool that failed is read: %v", again)
			}
			_ = p.Close()
		}
	}
	if st := s.Stats(); st.Bytes != 0 || st.Files != 0 || st.Refused != 0 || st.Failed != 0 {
		t.Errorf("at the end: %+v", st)
	}
}

// What all spools take together is bounded, and given back by each.
func TestSpoolerBounds(t *testing.T) {
	t.Parallel()
	const size = 100_000
	s := NewSpooler(SpoolerOptions{Dir: t.TempDir(), MaxBytes: 250_000, MaxFiles: 3})
	fill := func(n int) (*Spool, error) {
		p := s.Spool(SpoolLimits{})
		t.Cleanup(func() { _ = p.Close() })
		return p, p.Fill(&script{pieces: cut(noise(n), 4096)})
	}
	full := func(err error) {
		t.Helper()
		if _, ours := errors.AsType[*SpoolError](err); !ours || !errors.Is(err, ErrSpoolFull) {
			t.Fatalf("%v, want a SpoolError for want of room", err)
		}
	}
	first, err1 := fill(size)
	second, err2 := fill(size)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	third, err := fill(size)
	full(err)
	if short, err := fill(pieceSize); err != nil || short.OnDisk() {
		t.Errorf("a short body, for which no disk is needed: %v", err)
	}
	_ = third.Close()
	_ = third.Close()
	_, err = fill(10_000) // a third file, now that there is room
	if err != nil {
		t.Fatal(err)
	}
	fourth, err := fill(10_000)
	full(err)
	_ = first.Close()
	if err := fourth.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := fill(10_000); err != nil {
		t.Error(err)
	}
	if got := readAll(t, second); !bytes.Equal(got, noise(size)) {
		t.Error("a body that was there before is not what it was")
	}
	if st := s.Stats(); st.Files != 3 || st.Bytes > 250_000 || st.Bytes < size || st.Refused != 2 || st.Failed != 0 {
		t.Errorf("%+v", st)
	}
}

// Files have no name, are for nobody else, and are gone with Close.
func TestSpoolFilesAreUnlinked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, open := range map[string]func(string) (*os.File, error){"unlinked": unlinked, "created": created} {
		f, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		info, err := f.Stat()
		if err != nil || info.Mode().Perm() != 0o600 || info.Sys().(*syscall.Stat_t).Nlink != 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if _, err := f.WriteAt([]byte("x"), 0); err != nil {
			t.Error(err)
		}
	}
	p := NewSpooler(SpoolerOptions{Dir: dir}).Spool(SpoolLimits{})
	if err := p.Fill(&script{pieces: cut(noise(1<<20), 4096)}); err != nil || !p.OnDisk() {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("the folder holds %v, %v", names, err)
	}
	f := p.file
	_ = p.Close()
	if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is not closed: %v", err)
	}
	if _, err := p.Next(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed spool gives %v", err)
	}
	if _, err := p.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed spool takes bytes: %v", err)
	}
}

// What the disk does wrong is neither the client's fault nor the end of the body.
func TestSpoolDiskErrors(t *testing.T) {
	t.Parallel()
	check := func(what string, err, cause error) {
		t.Helper()
		if _, ours := errors.AsType[*SpoolError](err); !ours || cause != nil && !errors.Is(err, cause) {
			t.Errorf("%s: %v, want a SpoolError for %v", what, err, cause)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrSpoolFull) {
			t.Errorf("%s: %v is taken for what it is not", what, err)
		}
	}
	missing := NewSpooler(SpoolerOptions{Dir: filepath.Join(t.TempDir(), "missing")})
	p := missing.Spool(SpoolLimits{})
	check("no folder", p.Fill(&script{pieces: cut(noise(100_000), 4096)}), os.ErrNotExist)
	_ = p.Close()
	if err := missing.Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("check of a missing folder: %v", err)
	}
	if st := missing.Stats(); st.Failed != 1 || st.Files != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}

	s := NewSpooler(SpoolerOptions{Dir: t.TempDir()})
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	filled := func() *Spool {
		p := s.Spool(SpoolLimits{})
		if err := p.Fill(&script{pieces: cut(noise(100_000), 4096)}); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p = filled()
	if err := p.file.Truncate(40_000); err != nil {
		t.Fatal(err)
	}
	got, err := pullAll(p)
	check(fmt.Sprintf("a file that lost its end, after %d bytes", len(got)), err, nil)
	_ = p.Close()

	p = filled()
	was := p.file
	if p.file, err = os.OpenFile("/dev/full", os.O_RDWR, 0); err != nil {
		t.Skip(err)
	}
	was.Close()
	check("a full disk", p.Fill(&script{pieces: cut(noise(100_000), 4096)}), syscall.ENOSPC)
	_ = p.Close()
	if st := s.Stats(); st.Failed != 2 || st.Files != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}
}

func TestSpoolPassesOnTheSourcesError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	p := NewSpooler(SpoolerOptions{Dir: t.TempDir()}).Spool(SpoolLimits{})
	defer func() { _ = p.Close() }()
	if err := p.Fill(&script{pieces: [][]byte{[]byte("ab")}, err: broken}); err != broken { //nolint:errorlint // as it is
		t.Errorf("%v, want the source's error as it is", err)
	}
}

// Many spools within bounds that are too narrow for all take no more than those, and leave nothing.
func TestSpoolsAtOnce(t *testing.T) {
	t.Parallel()
	const most = 300_000
	s := NewSpooler(SpoolerOptions{Dir: t.TempDir(), MaxBytes: most, MaxFiles: 5})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			data := noise(20_000 * (i + 1))
			for range 30 {
				p := s.Spool(SpoolLimits{Memory: int64(i) * pieceSize})
				err := p.Fill(&script{pieces: cut(data, 3000+i)})
				if err == nil {
					var got []byte
					if got, err = pullAll(p); !bytes.Equal(got, data) {
						t.Errorf("a spool holds what is not its own: %v", err)
					}
				} else if !errors.Is(err, ErrSpoolFull) {
					t.Error(err)
				}
				if files := s.Stats().Files; files > 5+8 { // each may have tried
					t.Errorf("%d files", files)
				}
				_ = p.Close()
			}
		})
	}
	all.Wait()
	if st := s.Stats(); st.Bytes != 0 || st.Files != 0 {
		t.Errorf("at the end: %+v", st)
	}
}

func TestSpoolAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop objects at random")
	}
	s := NewSpooler(SpoolerOptions{Dir: t.TempDir()})
	for _, row := range []struct {
		size int
		most float64
	}{
		{pieceSize, 2}, // itself, and the list of its pieces
		{1 << 20, 8},   // a file
	} {
		source := &script{pieces: cut(noise(row.size), 16<<10), buf: make([]byte, 16<<10)}
		run := func() {
			source.at = 0
			p := s.Spool(SpoolLimits{})
			if err := p.Fill(source); err != nil {
				t.Fatal(err)
			}
			for {
				if _, err := p.Next(); err != nil {
					break
				}
			}
			_ = p.Close()
		}
		run()
		if n := testing.AllocsPerRun(50, run); n > row.most {
			t.Errorf("%d bytes: %v allocations, want %v", row.size, n, row.most)
		}
	}
}

var _ exchange.Body = (*Spool)(nil)

func BenchmarkSpool(b *testing.B) {
	s := NewSpooler(SpoolerOptions{Dir: b.TempDir()})
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			source := cut(noise(size), 64<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				p := s.Spool(SpoolLimits{})
				for _, part := range source {
					if _, err := p.Write(part); err != nil {
						b.Fatal(err)
					}
				}
				for {
					if _, err := p.Next(); err != nil {
						break
					}
				}
				_ = p.Close()
			}
		})
	}
}
