package upstream_test

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/test/e2e/load"
)

// A wallClock is the wall clock of one process, which the test sets. The kernel has one for all; but a process does not ask the kernel
// what time it is: it calls clock_gettime in the page that the kernel has mapped for that, the vDSO. The process gets a copy of that
// page of its own, in which the function adds a number that the test writes.
type wallClock struct {
	memory *os.File // of the process
	offset int64    // where the number is
}

// clockGettime is the function in machine code (amd64): the system call, and for CLOCK_REALTIME, which is 0, the sum. The last four bytes
// of the load are the distance to the number, which lies behind the code.
func clockGettime() (code []byte, number int) {
	code = []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi
		0x75, 10, // jne to the last instruction
		0x48, 0x8b, 0x0d, 0, 0, 0, 0, // mov rcx, [rip+distance]
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // ret
	}
	const behindLoad = 18
	number = (len(code) + 15) &^ 7
	binary.LittleEndian.PutUint32(code[behindLoad-4:], uint32(number-behindLoad))
	return code, number
}

// takeClock replaces the function in a process that has not run yet.
func takeClock(pid int) (*wallClock, error) {
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	start, page, err := vdso(pid, memory)
	if err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	symbol, err := clockSymbol(page)
	if err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	code, number := clockGettime()
	// A number of eight bytes is written in one piece only where it is aligned.
	if symbol.Value%8 != 0 || symbol.Size < uint64(number)+8 {
		return nil, errors.Join(fmt.Errorf("clock_gettime is at %#x, of %d bytes", symbol.Value, symbol.Size), memory.Close())
	}
	at := start + int64(symbol.Value)
	patch := append(code, make([]byte, number+8-len(code))...)
	if _, err := memory.WriteAt(patch, at); err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	return &wallClock{memory, at + int64(number)}, nil
}

// vdso reads the page of a process.
func vdso(pid int, memory *os.File) (start int64, page []byte, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, nil, err
	}
	for line := range strings.Lines(string(maps)) {
		var end int64
		if !strings.HasSuffix(line, "[vdso]\n") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
			return 0, nil, err
		}
		page = make([]byte, end-start)
		_, err := memory.ReadAt(page, start)
		return start, page, err
	}
	return 0, nil, errors.New("no vDSO")
}

func clockSymbol(page []byte) (elf.Symbol, error) {
	file, err := elf.NewFile(bytes.NewReader(page))
	if err != nil {
		return elf.Symbol{}, err
	}
	symbols, err := file.DynamicSymbols()
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			return s, nil
		}
	}
	return elf.Symbol{}, errors.Join(errors.New("the vDSO has no clock_gettime"), err)
}

// set makes the process's wall clock differ from the machine's.
func (w *wallClock) set(by time.Duration) error {
	_, err := w.memory.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(by/time.Second)), w.offset)
	return err
}

// startStopped starts a command and, before its first instruction, calls prepare, where there is one.
func startStopped(cmd *exec.Cmd, prepare func(pid int) error) error {
	if prepare == nil {
		return cmd.Start()
	}
	// The kernel stops the new process for the thread that started it, and that thread alone may let it go on.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("the command is not stopped: %v %w", status, err)
	}
	if err := prepare(cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return syscall.PtraceDetach(cmd.Process.Pid)
}

// The wall clock jumps by years, to and fro, under load: no request fails, no timeout ends early and none is missed.
func TestF22ClockJumps(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the clock is replaced by machine code of amd64")
	}
	checkLeaks(t)
	var clock *wallClock
	p := newProgram(t, func(pid int) (err error) {
		clock, err = takeClock(pid)
		return err
	}, "--proxy-header-timeout=4s")
	t.Cleanup(func() { _ = clock.memory.Close() })
	r := &rig{t: t, address: programHTTP}
	good := newPlain(t, "good/1", web().host, 1)
	good.listen(t)
	asked, release := make(chan struct{}, 10), make(chan struct{})
	var silent atomic.Bool
	slow := newHostile(t, 9, func(_ int, c *net.TCPConn, in *bufio.Reader) {
		id, _, body, err := request(in)
		if err != nil {
			return
		}
		never := silent.Load() // before the test hears of it, and goes on to the next
		asked <- struct{}{}
		if never {
			untilClosed(c, in)
			return
		}
		<-release
		_ = respond(c, "slow", id, body)
	})
	p.serve(web(), good.at)
	waits := named("default", "waits", "waits.test")
	p.serve(waits, slow.at)
	keeping := r.begin(load.Options{Name: "keeping", Method: http.MethodPost, Upload: 100, KeepAlive: true, Clients: 4, Rate: 400})
	coming := r.begin(load.Options{Name: "coming", Clients: 4, Rate: 200})
	const year = 365 * 24 * time.Hour
	jumps := []time.Duration{10 * year, -10 * year, 0}
	for _, by := range jumps {
		// One request waits for an answer that comes in time, one for an answer that never comes.
		timely, never := make(chan answer, 1), make(chan answer, 1)
		for _, result := range []chan answer{timely, never} {
			silent.Store(result == never)
			go func() { result <- r.ask(http.MethodGet, waits.host, "waits") }()
			<-asked
		}
		if err := clock.set(by); err != nil {
			t.Fatal(err)
		}
		want := time.Now().Add(by).UTC().Year()
		await(t, "the command has another time", func() bool {
			date, err := http.ParseTime(r.ask(http.MethodGet, web().host, "date").header.Get("Date"))
			return err == nil && date.Sub(time.Now().Add(by)).Abs() < time.Minute && date.Year() == want
		})
		release <- struct{}{}
		if a := <-timely; a.status != http.StatusOK {
			t.Errorf("jump by %s: %s, want 200", by, a)
		}
		if a := <-never; a.status != http.StatusGatewayTimeout {
			t.Errorf("jump by %s: %s, want 504", by, a)
		}
		reach(t, keeping, keeping.Sent()+100)
	}
	sent := noneFailed(t, keeping.Stop(), coming.Stop())
	t.Logf("F22: the wall clock jumped %d times, by up to 20 years at once: %d requests, 0 failed; %d timeouts in time", len(jumps), sent, len(jumps))
}
