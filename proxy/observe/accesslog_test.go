package observe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
)

func openLog(t testing.TB, o AccessLogOptions) *AccessLog {
	t.Helper()
	l, err := OpenAccessLog(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t testing.TB, l *AccessLog) {
	t.Helper()
	if err := l.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// logged reads the lines of a file; a line that is no JSON object has a nil entry.
func logged(t testing.TB, path string) []map[string]any {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []map[string]any
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var fields map[string]any
		if json.Unmarshal(s.Bytes(), &fields) != nil {
			fields = nil
		}
		lines = append(lines, fields)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// entry is one whose number can be found again.
func entry(n int) *Entry {
	e := fullEntry()
	e.BytesIn = int64(n)
	return e
}

func wantNumbers(t *testing.T, lines []map[string]any, from, to int) {
	t.Helper()
	if len(lines) != to-from {
		t.Fatalf("%d lines, want %d", len(lines), to-from)
	}
	for i, fields := range lines {
		if fields["bytes_in"] != float64(from+i) {
			t.Fatalf("line %d is number %v, want %d", i, fields["bytes_in"], from+i)
		}
	}
}

func TestAccessLogToFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	for round := range 2 { // the second appends
		l := openLog(t, AccessLogOptions{Destination: path})
		for i := range 1000 {
			l.Append(entry(1000*round + i))
		}
		closeLog(t, l)
		closeLog(t, l)
		if got, want := l.Counts(), (AccessLogCounts{Written: 1000}); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
	}
	wantNumbers(t, logged(t, path), 0, 2000)
}

func TestAccessLogFromManyGoroutines(t *testing.T) {
	const writers, each = 8, 500
	path := filepath.Join(t.TempDir(), "access.log")
	l := openLog(t, AccessLogOptions{Destination: path})
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for i := range each {
				e := entry(i)
				e.Tries = w + 1
				l.Append(e)
			}
		})
	}
	wait.Wait()
	closeLog(t, l)
	next := map[float64]float64{}
	for _, fields := range logged(t, path) {
		w := fields["tries"].(float64)
		if fields["bytes_in"] != next[w] {
			t.Fatalf("writer %v: line %v came where %v should", w, fields["bytes_in"], next[w])
		}
		next[w]++
	}
	for w := range writers {
		if next[float64(w+1)] != each {
			t.Errorf("writer %d has %v lines, want %d", w+1, next[float64(w+1)], each)
		}
	}
}

func TestAccessLogOff(t *testing.T) {
	for _, destination := range []string{"off", ""} {
		l := openLog(t, AccessLogOptions{Destination: destination})
		l.Append(entry(1))
		if l.Counts() != (AccessLogCounts{}) || l.Reopen() != nil || l.Close(t.Context()) != nil {
			t.Errorf("%q is not off", destination)
		}
	}
}

func TestAccessLogCannotOpen(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "no", "such", "folder"), fifo(t)} {
		if l, err := OpenAccessLog(AccessLogOptions{Destination: path}); err == nil {
			t.Errorf("%s was opened", path)
			closeLog(t, l)
		}
	}
}

// TestAccessLogQueueBounds fills a queue whose writer stands still, by lines and by bytes.
func TestAccessLogQueueBounds(t *testing.T) {
	size := len(line(encoder{}, entry(1)))
	for name, c := range map[string]struct {
		o    AccessLogOptions
		want int
	}{
		"lines": {AccessLogOptions{QueueLines: 10}, 10},
		"bytes": {AccessLogOptions{QueueBytes: 7*size + size/2}, 7},
		"many":  {AccessLogOptions{QueueBytes: 1000 * size}, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "access.log")
			file, err := openLogFile(path)
			if err != nil {
				t.Fatal(err)
			}
			l := newAccessLog(file, c.o)
			for range c.want {
				l.Append(entry(1))
			}
			if got := l.Counts().DroppedQueue; got != 0 {
				t.Errorf("%d dropped before the queue was full", got)
			}
			for range 5 {
				l.Append(entry(1))
			}
			if got := l.Counts().DroppedQueue; got != 5 {
				t.Errorf("%d dropped, want 5", got)
			}
			// What was written makes room again.
			go l.run()
			for left := 1; left > 0; runtime.Gosched() {
				l.mu.Lock()
				left = l.lines
				l.mu.Unlock()
			}
			l.Append(entry(1))
			closeLog(t, l)
			if got, want := l.Counts(), (AccessLogCounts{Written: uint64(c.want + 1), DroppedQueue: 5}); got != want {
				t.Errorf("counts %+v, want %+v", got, want)
			}
		})
	}
}

// TestAccessLogCloseGivesUp: a reader that stands still does not keep the process from ending.
func TestAccessLogCloseGivesUp(t *testing.T) {
	path := fifo(t)
	reader := openReader(t, path)
	l := openLog(t, AccessLogOptions{Destination: path})
	fill(t, l, reader)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("closed with %v although the reader stands still", err)
	}
	<-l.done // closing the file has freed the writer
	if counts := l.Counts(); counts.DroppedWrite == 0 || l.lines != 0 {
		t.Errorf("counts %+v, %d lines left", counts, l.lines)
	}
}

// fifo makes a named pipe.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// openReader opens a named pipe for reading, with the smallest buffer, before there is a writer.
func openReader(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	return f
}

// fill appends until the pipe is full and the writer of l waits in the middle of a line.
func fill(t *testing.T, l *AccessLog, reader *os.File) {
	t.Helper()
	for range 1000 {
		for range 20 {
			l.Append(entry(0))
		}
		if n, err := unix.IoctlGetInt(int(reader.Fd()), unix.TIOCINQ); err != nil {
			t.Fatal(err)
		} else if n == 4096 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the pipe does not fill up")
}

// TestAccessLogStalledReader is F30: the reader of the log is stopped, and requests go on.
func TestAccessLogStalledReader(t *testing.T) {
	const total = 100_000
	path, out := fifo(t), filepath.Join(t.TempDir(), "out")
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cat := exec.Command("cat", path)
	cat.Stdout = file
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	var l *AccessLog
	for l == nil { // until cat has opened the pipe
		l, err = OpenAccessLog(AccessLogOptions{Destination: path})
		if err != nil && !errors.Is(err, unix.ENXIO) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	stop := func(s os.Signal) {
		if err := cat.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	stop(syscall.SIGSTOP)
	// If one of these waited for the reader, it would wait for ever.
	for i := range total {
		l.Append(entry(i))
	}
	counts := l.Counts()
	if counts.DroppedQueue == 0 || counts.DroppedQueue > total-DefaultQueueLines {
		t.Errorf("%+v of %d lines with a queue of %d", counts, total, DefaultQueueLines)
	}
	stop(syscall.SIGCONT)
	closeLog(t, l)
	if err := cat.Wait(); err != nil {
		t.Fatal(err)
	}
	counts = l.Counts()
	if counts.Written+counts.DroppedQueue != total || counts.DroppedWrite != 0 {
		t.Errorf("%+v do not add up to %d", counts, total)
	}
	if got := wantEntries(t, out); got != counts.Written {
		t.Errorf("the reader got %d lines, %d were counted", got, counts.Written)
	}
	if l.bytes != 0 || l.lines != 0 || len(l.queue) != 0 || len(l.spare) > spareChunks {
		t.Errorf("left: %d bytes, %d lines, %d chunks, %d spare", l.bytes, l.lines, len(l.queue), len(l.spare))
	}
}

// wantEntries checks that the file has the lines of entry(0), entry(1) and so on, and returns how many.
func wantEntries(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, s := 0, bufio.NewScanner(f)
	for ; s.Scan(); n++ {
		if want := line(encoder{}, entry(n)); s.Text()+"\n" != want {
			t.Fatalf("line %d is %s, want %s", n, s.Text(), want)
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return uint64(n)
}

func TestAccessLogDiskFull(t *testing.T) {
	l := openLog(t, AccessLogOptions{Destination: "/dev/full"})
	for i := range 500 {
		l.Append(entry(i))
	}
	closeLog(t, l)
	if got, want := l.Counts(), (AccessLogCounts{DroppedWrite: 500}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

// TestAccessLogTornLine has the reader go away within a line, and another one come.
func TestAccessLogTornLine(t *testing.T) {
	path := fifo(t)
	first := openReader(t, path)
	l := openLog(t, AccessLogOptions{Destination: path})
	fill(t, l, first)
	first.Close()
	for l.Counts().DroppedWrite == 0 { // the writer has noticed
		runtime.Gosched()
	}
	second := openReader(t, path)
	out := filepath.Join(t.TempDir(), "out")
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(file, second)
		copied <- err
	}()
	for i := range 100 {
		l.Append(entry(1 + i))
	}
	closeLog(t, l)
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	lines := logged(t, out)
	var whole []map[string]any
	for _, fields := range lines {
		if fields != nil {
			whole = append(whole, fields)
		}
	}
	if uint64(len(whole)) != l.Counts().Written {
		t.Errorf("%d whole lines arrived, %d were counted", len(whole), l.Counts().Written)
	}
	if torn := len(lines) - len(whole); torn != 1 {
		t.Errorf("%d lines are torn, want 1", torn)
	}
	wantNumbers(t, whole[len(whole)-100:], 1, 101)
}

func TestAccessLogReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	l := openLog(t, AccessLogOptions{Destination: path})
	const rounds, each = 5, 300
	for round := range rounds {
		for i := range each {
			l.Append(entry(round*each + i))
		}
		if err := os.Rename(path, filepath.Join(dir, fmt.Sprint("access.log.", round))); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	var all []map[string]any
	for round := range rounds {
		all = append(all, logged(t, filepath.Join(dir, fmt.Sprint("access.log.", round)))...)
	}
	all = append(all, logged(t, path)...)
	wantNumbers(t, all, 0, rounds*each)
	if err := l.Reopen(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reopened after Close: %v", err)
	}
}

// TestAccessLogReopenFails keeps the old file.
func TestAccessLogReopenFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	moved := dir + ".moved"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, AccessLogOptions{Destination: filepath.Join(dir, "access.log")})
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Reopen: %v", err)
	}
	l.Append(entry(0))
	closeLog(t, l)
	wantNumbers(t, logged(t, filepath.Join(moved, "access.log")), 0, 1)
}

func TestAccessLogAfterClose(t *testing.T) {
	l := openLog(t, AccessLogOptions{Destination: filepath.Join(t.TempDir(), "access.log")})
	closeLog(t, l)
	l.Append(entry(1))
	if got, want := l.Counts(), (AccessLogCounts{DroppedQueue: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

// TestAccessLogStdout runs this test binary again, because the streams belong to the process. Its reader goes away: that
// must not kill it.
func TestAccessLogStdout(t *testing.T) {
	const inner = "PODLANE_TEST_ACCESSLOG"
	if os.Getenv(inner) != "" {
		l := openLog(t, AccessLogOptions{Destination: os.Getenv(inner)})
		l.Append(entry(0))
		for l.Counts().Written == 0 {
			runtime.Gosched()
		}
		for l.Counts().DroppedWrite == 0 {
			l.Append(entry(1))
			time.Sleep(time.Millisecond)
		}
		closeLog(t, l)
		if l.Reopen() != nil {
			t.Error("Reopen of a stream is not a no-op")
		}
		return
	}
	for _, destination := range []string{"stdout", "/dev/stdout", "stderr", "/dev/stderr"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAccessLogStdout$")
		cmd.Env = append(os.Environ(), inner+"="+destination)
		pipe := cmd.StdoutPipe
		if filepath.Base(destination) == "stderr" {
			pipe = cmd.StderrPipe
		}
		reader, err := pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		first, err := bufio.NewReader(reader).ReadBytes('\n')
		if err != nil || !json.Valid(first) {
			t.Errorf("%s: read %q, %v", destination, first, err)
		}
		reader.Close()
		// The inner test prints its own PASS to the closed stdout, which is what SIGPIPE then stands for.
		var failed *exec.ExitError
		err = cmd.Wait()
		if errors.As(err, &failed) && failed.Sys().(syscall.WaitStatus).Signaled() && filepath.Base(destination) == "stdout" {
			err = nil
		}
		if err != nil {
			t.Errorf("%s: %v", destination, err)
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops values at random under the race detector")
	}
	l := openLog(t, AccessLogOptions{Destination: os.DevNull})
	e := fullEntry()
	for range 10_000 { // the buffers come into being
		l.Append(e)
	}
	if n := testing.AllocsPerRun(1000, func() { l.Append(e) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	closeLog(t, l)
}

func BenchmarkAppend(b *testing.B) {
	run := func(b *testing.B, destination string) {
		b.Helper()
		l := openLog(b, AccessLogOptions{Destination: destination})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			e := fullEntry()
			for pb.Next() {
				l.Append(e)
			}
		})
		closeLog(b, l)
		b.ReportMetric(float64(l.Counts().DroppedQueue)/float64(b.N), "dropped/op")
	}
	b.Run("null", func(b *testing.B) { run(b, os.DevNull) })
	b.Run("file", func(b *testing.B) { run(b, filepath.Join(b.TempDir(), "access.log")) })
	b.Run("off", func(b *testing.B) { run(b, "off") })
}

func BenchmarkEncode(b *testing.B) {
	e, buffer := fullEntry(), make([]byte, 0, 4096)
	var c encoder
	b.ReportAllocs()
	for b.Loop() {
		buffer = c.append(buffer[:0], e)
	}
	b.SetBytes(int64(len(buffer)))
}

// A line in a format costs no allocation either, and has a bound.
func TestAppendFormatAllocatesNothing(t *testing.T) {
	format, err := expr.ParseLog(`$remote_addr [$time_local] "$request" $status $body_bytes_sent "$http_user_agent" $request_time`)
	if err != nil {
		t.Fatal(err)
	}
	x := exchange.New()
	defer x.Release()
	x.Request.Method, x.Request.Target, x.Response.Status = []byte("GET"), []byte("/x"), 200
	x.Request.Fields.AddString("User-Agent", "test")
	l := newAccessLog(nil, AccessLogOptions{QueueLines: 1})
	l.AppendFormat(format, expr.EscapeLog, x)
	if got := string(l.queue[0].buf); !strings.Contains(got, `"GET /x `) || !strings.HasSuffix(got, "\n") {
		t.Errorf("the line is %q", got)
	}
	if raceEnabled {
		return
	}
	if n := testing.AllocsPerRun(1000, func() { l.AppendFormat(format, expr.EscapeLog, x) }); n != 0 {
		t.Errorf("%v allocations a line", n)
	}
	x.Request.Fields.Add("X-Long", bytes.Repeat([]byte("a"), maxFormatted))
	long, err := expr.ParseLog("$http_x_long$http_x_long")
	if err != nil {
		t.Fatal(err)
	}
	l = newAccessLog(nil, AccessLogOptions{})
	if l.AppendFormat(long, expr.EscapeLog, x); len(l.queue[0].buf) != maxFormatted+1 {
		t.Errorf("a line has %d bytes", len(l.queue[0].buf))
	}
	l = nil
	l.AppendFormat(long, expr.EscapeLog, x)
}
