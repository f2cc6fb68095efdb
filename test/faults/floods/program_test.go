package floods_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The engine has the test's process for itself. The Pods, the other client and the attacker are processes of their own, as they would be
// machines of their own: this program again, with a role.
const (
	roleEnv = "PODLANE_FLOODS_ROLE"
	addrEnv = "PODLANE_FLOODS_ADDR"

	rolePod      = "pod"   // which is attacked
	roleQuiet    = "quiet" // the other client's Pod
	roleOther    = "other"
	roleAttacker = "attacker"
	roleBallast  = "ballast"
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if err := takeRank(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch role {
	case rolePod, roleQuiet:
		servePod()
	case roleOther:
		serveOther()
	case roleBallast:
		serveBallast()
	case roleAttacker:
		os.Exit(m.Run()) // the test that started it tells it what to do: see withstand
	default:
		goleak.VerifyTestMain(m)
	}
}

// answersAt is the file on which a process of ours answers: its standard output is the testing package's.
const answersAt = 3

// program is a process of ours. It gets commands, one a line, answers each with one value in JSON, and ends with its standard input.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	in, out *os.File
	answers *json.Decoder
	said    bytes.Buffer
}

// start starts a process in a role; addr is what it shall speak to.
func start(t *testing.T, role, addr string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(os.Args[0], args...)}
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out, p.answers = w, r, json.NewDecoder(r)
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role, addrEnv+"="+addr, "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = in, &p.said, &p.said, []*os.File{out}
	p.cmd.WaitDelay = patience
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = p.cmd.Start()
	in.Close()
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	return p
}

// end ends the process, which has to end by itself.
func (p *program) end() {
	p.in.Close()
	stuck := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%v: %v\n%s", p.cmd.Args, err, &p.said)
	}
	p.out.Close()
}

// ask sends a command and decodes the answer into v.
func (p *program) ask(command string, v any) {
	p.t.Helper()
	_ = p.out.SetReadDeadline(time.Now().Add(patience))
	_, err := fmt.Fprintln(p.in, command)
	if err == nil {
		err = p.answers.Decode(v)
	}
	if err != nil {
		p.t.Fatalf("%s: %v", command, err)
	}
}

// obey is a process's half: it answers the commands of its parent until there are no more.
func obey(commands map[string]func() any) {
	answers := json.NewEncoder(os.NewFile(answersAt, "answers"))
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := answers.Encode(commands[in.Text()]()); err != nil {
			return
		}
	}
}

// serveBallast is the process that takes what all others leave of the processors. A processor with nothing to do sleeps, and to wake it
// takes longer than an answer: an attack that keeps processors busy would make the other client's answers come sooner.
func serveBallast() {
	for range runtime.NumCPU() {
		go func() {
			for { //nolint:staticcheck // it shall spin
			}
		}()
	}
	obey(nil)
}
