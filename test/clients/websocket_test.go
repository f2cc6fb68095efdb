package clients_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// Two WebSocket libraries talk to each other through podlane, by either listener: messages of every size and kind, in one frame and in
// many, pings, compression that both ends agree on, and closes with their codes both ways.
func TestWebSocketLibraries(t *testing.T) {
	program := filepath.Join(t.TempDir(), "websockets")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = "websockets"
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	address := serving.FreePort(t)
	r := newRig(t, address, rigOptions{})
	ws, wss := strings.Replace(r.plain(""), "http", "ws", 1), strings.Replace(r.secure(""), "http", "ws", 1)
	got := command{program: program, args: []string{"-listen", address, "-ca", r.authority.file, ws, wss}}.must(t)
	cases := 0
	for results := json.NewDecoder(strings.NewReader(got.stdout)); ; cases++ {
		var result struct{ Case, Error string }
		if err := results.Decode(&result); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if result.Error != "" {
			t.Errorf("%s: %s", result.Case, result.Error)
		}
	}
	if want := 2 * 2 * 2 * 2 * 11; cases != want {
		t.Errorf("%d cases, want %d", cases, want)
	}
	t.Logf("%d cases", cases)
	// What is said in a tunnel, or by others after it, is no part of the log.
	r.lines(cases, func(l logLine) bool {
		return l.Method == http.MethodGet && (strings.HasPrefix(l.Path, "/coder?id=") || strings.HasPrefix(l.Path, "/gorilla?id=")) && l.Status == http.StatusSwitchingProtocols
	})
	await(t, "the last tunnel to end", func() bool { return r.Metric("podlane_requests_in_flight") == 0 })
	if n := r.Metric("podlane_requests_rejected_total"); n != 0 {
		t.Errorf("podlane rejected %v requests", n)
	}
}
