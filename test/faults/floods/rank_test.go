package floods_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What an attacker computes, and the Pod that it attacks, is computed on other machines; here it must not be taken from the engine, and the
// engine not from the other client and its Pod. So they have ranks: what is measured comes before the attacker, and, where the kernel lets
// this process have a real-time priority, before everything else that this machine does at the time. What the engine lets an attacker cost
// is the engine's own work, which comes before no work of the engine.

// rankEnv says to processes of ours that those which are measured have a real-time priority.
const rankEnv = "PODLANE_FLOODS_REALTIME"

// realtime are the real-time priorities. The engine's is the least: where it computes at length, it is not to keep the client from its clock.
var realtime = map[string]uint32{roleOther: 3, roleQuiet: 2, "": 1}

// lowest is the least of the other priorities.
const lowest = 19

// urge gives the engine's process, this one, a real-time priority until the test ends, where it may have one.
func urge(t *testing.T) {
	t.Helper()
	a := &unix.SchedAttr{Policy: unix.SCHED_RR, Priority: realtime[""]}
	if err := setThreads(a); err != nil {
		t.Logf("beside everything else that this machine does: no real-time priority: %v", err)
		t.Setenv(rankEnv, "")
		return
	}
	t.Setenv(rankEnv, "yes")
	t.Cleanup(func() {
		if err := setThreads(new(unix.SchedAttr)); err != nil {
			t.Error(err)
		}
	})
}

// takeRank gives a process of ours its rank.
func takeRank(role string) error {
	priority, measured := realtime[role]
	switch urgent := os.Getenv(rankEnv) != ""; {
	case role == "", measured && !urgent:
		return nil
	case measured:
		return setThreads(&unix.SchedAttr{Policy: unix.SCHED_RR, Priority: priority})
	case urgent && role != roleBallast:
		return setThreads(new(unix.SchedAttr)) // it has the rank of the thread that started it
	}
	return errors.Join(leaveGroup(), setThreads(&unix.SchedAttr{Nice: lowest}))
}

// leaveGroup makes this process a group of its own where the kernel shares the processors out among sessions first: niceness counts in one
// session only, and a session in which a nice process computes gets its share late for those that are not nice and wake up.
func leaveGroup() error {
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	err := os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(lowest)), 0)
	for end := time.Now().Add(patience); errors.Is(err, unix.EAGAIN) && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		// Who has no privilege may do this ten times a second, counted over the whole machine.
		err = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(lowest)), 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// setThreads gives every thread of this process its place in the kernel's scheduler. Threads that come later have that of the one that
// makes them, which may be one that had not got it yet: so it is done twice.
func setThreads(a *unix.SchedAttr) error {
	a.Size = unix.SizeofSchedAttr
	for range 2 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err == nil {
				err = unix.SchedSetAttr(id, a, 0)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: it has ended
				return fmt.Errorf("scheduler: %w", err)
			}
		}
	}
	return nil
}
