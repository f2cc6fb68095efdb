package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// F13: before the first complete table there is no listener: a connection is refused, and the first request that is accepted
// gets its answer, never 404 or 503.
func TestF13ColdStart(t *testing.T) {
	c, _ := sharedLane(t)
	i := install(t, c)
	ns := namespace(t, c)
	ns.Apply(workload{Name: "web"}.yaml() + ingressOf(i.class, "web", "cold.goweb.com", "web-svc"))
	ns.WaitRollout("web")
	for round := range 3 {
		// In the last round the API server hangs while Podlane starts.
		hangs := round == 2
		if hangs {
			if err := c.PauseAPIServer(); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		lane := i.launch(t)
		if hangs {
			time.AfterFunc(2*time.Second, func() {
				if err := c.ResumeAPIServer(); err != nil {
					t.Error(err)
				}
			})
		}
		refused, notReady := 0, 0
		for {
			status, _, err := fetchHost(t.Context(), lane, "cold.goweb.com")
			if err == nil {
				if status != http.StatusOK {
					t.Errorf("round %d: the first request that was accepted got %d", round, status)
				}
				break
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("round %d: %v", round, err)
			}
			refused++
			if status, _, err := fetch(t.Context(), lane.url(9090, "/readyz")); err == nil {
				notReady++
				// The listeners may open between the two questions.
				if status == http.StatusOK && !lane.listens() {
					t.Fatalf("round %d: ready without a listener", round)
				}
			}
			if time.Since(began) > time.Minute || lane.Ended() {
				t.Fatalf("round %d: no listener\n%s", round, lane.Tail(40))
			}
			time.Sleep(time.Millisecond)
		}
		t.Logf("round %d: first answer %s after the start of the process; refused %d times, /readyz said no %d times", round,
			time.Since(began).Round(time.Millisecond), refused, notReady)
		if hangs && (time.Since(began) < 2*time.Second || notReady == 0) {
			t.Error("podlane was ready without an API server")
		}
		lane.waitReady(t)
		if round == 0 {
			// F29: and no orderly end is needed before the next start.
			lane.Kill()
		} else {
			lane.Stop(20 * time.Second)
		}
	}
}

func (l *lane) listens() bool {
	conn, err := net.DialTimeout("tcp", l.address(80), time.Second)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// fetchHost asks for / of a host, on a connection of its own.
func fetchHost(ctx context.Context, l *lane, host string) (status int, pod string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url(80, "/"), nil)
	if err != nil {
		return 0, "", err
	}
	request.Host, request.Close = host, true
	answer, err := web.Do(request)
	if err != nil {
		return 0, "", err
	}
	answer.Body.Close()
	return answer.StatusCode, answer.Header.Get("X-Pod"), nil
}

// A start that cannot succeed ends with one clear line and status 1.
func TestStartRefused(t *testing.T) {
	t.Parallel()
	c, lane := sharedLane(t)
	i := install(t, c)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"taken port":      {[]string{"--http-address=" + lane.address(80)}, "--http-address"},
		"unknown flag":    {[]string{"--no-such-flag"}, "no-such-flag"},
		"bad address":     {[]string{"--http-address=nonsense"}, "http-address"},
		"no kubeconfig":   {[]string{"--kubeconfig=/nowhere"}, "/nowhere"},
		"bad class":       {[]string{"--ingress-class=A_b"}, "ingress-class"},
		"two sources":     {[]string{"--publish-service=a/b", "--publish-status-address=192.0.2.1"}, "publish"},
		"bad service":     {[]string{"--publish-service=nonsense"}, "publish-service"},
		"bad default":     {[]string{"--default-ssl-certificate=a/b/c"}, "default-ssl-certificate"},
		"unwritable logs": {[]string{"--access-log=/nowhere/at/all.log"}, "/nowhere/at/all.log"},
	} {
		t.Run(name, func(t *testing.T) {
			p := i.cluster.Start(t, i.command([]string{nextAddress()}, test.args...))
			err := p.Wait(30 * time.Second)
			if err == nil || !strings.Contains(err.Error(), "exit status 1") {
				t.Fatalf("ended with %v, want exit status 1\n%s", err, p.Tail(20))
			}
			var lines []string
			for line := range strings.Lines(p.Output()) {
				if !strings.HasPrefix(line, "{") {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 || !strings.Contains(lines[0], test.want) {
				t.Errorf("it said %q: want one line with %q", lines, test.want)
			}
			t.Log(fmt.Sprint(strings.Join(lines, "")))
		})
	}
}
