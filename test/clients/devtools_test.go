package clients_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"podlane.dev/podlane/test/clients/debian"
)

// A browser is a headless Chromium with one page, driven by the DevTools protocol over a pair of pipes: a message is JSON, and ends with a
// zero byte. It trusts one authority and knows the names of this test alone: all of them are this machine.
type browser struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	session string
	id      int
	// event is told of events, where it is set: those come that a domain was enabled for.
	event func(method string, params json.RawMessage)
}

func newBrowser(t *testing.T, a *authority) *browser {
	t.Helper()
	program := find(t, debian.Browser)
	home := t.TempDir()
	trust(t, home, a)
	commands, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--headless", "--remote-debugging-pipe", "--user-data-dir=" + filepath.Join(home, "profile"), "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
		"--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync",
	}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // it has none for root
	}
	cmd := exec.Command(program, append(args, "about:blank")...)
	cmd.Env = append(os.Environ(), "HOME="+home, "DBUS_SESSION_BUS_ADDRESS=/dev/null", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/dev/null")
	cmd.ExtraFiles = []*os.File{commands, answers}
	// It has children, which end with it; where it does not end, the group does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	commands.Close()
	answers.Close()
	t.Cleanup(func() {
		// In order, so that it leaves nothing behind; it need not answer.
		_, _ = in.WriteString(`{"id":1000000,"method":"Browser.close"}` + "\x00")
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // how it ends is no matter here
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		in.Close()
		out.Close()
	})
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	b.attach()
	return b
}

// trust puts the authority into the database of the home's user, as certutil's manual says for Chromium.
func trust(t *testing.T, home string, a *authority) {
	t.Helper()
	dir := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	program := find(t, debian.Certutil)
	command{program: program, args: []string{"-N", "-d", "sql:" + dir, "--empty-password"}}.must(t)
	command{program: program, args: []string{"-A", "-d", "sql:" + dir, "-n", "podlane", "-t", "C,,", "-i", a.file}}.must(t)
}

// attach makes the one page.
func (b *browser) attach() {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
}

// call calls a method and decodes its result.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.id++
	message := map[string]any{"id": b.id, "method": method, "params": params}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	answer := make(chan error, 1)
	go func() { answer <- b.answer(result) }()
	if err := receive(b.t, "the browser's answer to "+method, answer); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

// answer reads the answer to the last call, and the events before it.
func (b *browser) answer(result any) error {
	for {
		text, err := b.out.ReadBytes(0)
		if err != nil {
			return fmt.Errorf("the browser has ended: %w", err)
		}
		var message struct {
			ID             int
			Method         string
			Params, Result json.RawMessage
			Error          *struct{ Message string }
		}
		if err := json.Unmarshal(text[:len(text)-1], &message); err != nil {
			return err
		}
		if message.Method != "" && b.event != nil {
			b.event(message.Method, message.Params)
		}
		if message.ID != b.id {
			continue
		}
		if message.Error != nil {
			return errors.New(message.Error.Message)
		}
		return json.Unmarshal(message.Result, result)
	}
}

// open opens a URL, and returns what the browser says where it cannot.
func (b *browser) open(url string) string {
	b.t.Helper()
	var got struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": url}, &got)
	return got.ErrorText
}

// run runs the body of an asynchronous function on the page, and decodes what it returns.
func (b *browser) run(body string, result any) {
	b.t.Helper()
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	b.call("Runtime.evaluate", map[string]any{
		"expression": "(async () => {" + body + "})()", "awaitPromise": true, "returnByValue": true,
	}, &got)
	if e := got.ExceptionDetails; e != nil {
		b.t.Fatalf("%s %s, from %s", e.Text, e.Exception.Description, strings.TrimSpace(body))
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(got.Result.Value, result); err != nil && !errors.Is(err, io.EOF) {
		b.t.Fatalf("%s returned %s: %v", strings.TrimSpace(body), got.Result.Value, err)
	}
}
