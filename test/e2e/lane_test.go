package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/test/cluster"
)

// A lane is a running podlane, seen from outside.
type lane struct {
	*cluster.Process
	ip string
}

func (l *lane) address(port int) string { return l.ip + ":" + strconv.Itoa(port) }

func (l *lane) url(port int, path string) string { return "http://" + l.address(port) + path }

func (l *lane) waitReady(t *testing.T) {
	t.Helper()
	cluster.Until(t, "readiness of podlane", func(ctx context.Context) error {
		if l.Ended() {
			t.Fatal(l.Tail(40))
		}
		status, body, err := fetch(ctx, l.url(9090, "/readyz"))
		if err == nil && status != http.StatusOK {
			err = errors.New(strings.TrimSpace(body))
		}
		return err
	})
}

// An answer is what curl got.
type answer struct {
	Status int
	Header textproto.MIMEHeader
	Body   string
}

// pod is the Pod that gave the answer.
func (a *answer) pod() string { return a.Header.Get("X-Pod") }

// curl does what a user does: curl --resolve HOST:PORT:IP URL.
func (l *lane) curl(t *testing.T, address string, args ...string) *answer {
	t.Helper()
	a, err := l.tryCurl(t.Context(), address, args...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (l *lane) tryCurl(ctx context.Context, address string, args ...string) (*answer, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	switch {
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	args = append([]string{"--include", "--resolve", u.Hostname() + ":" + port + ":" + l.ip}, append(args, address)...)
	out, err := cluster.TryCurl(ctx, args...)
	if err != nil {
		return nil, err
	}
	return parseAnswer(out)
}

// parseAnswer reads what curl --include printed: heads, those of 1xx first, and the decoded body.
func parseAnswer(out string) (*answer, error) {
	in := textproto.NewReader(bufio.NewReader(strings.NewReader(out)))
	for {
		line, err := in.ReadLine()
		if err != nil {
			return nil, fmt.Errorf("no status line in %q: %w", out, err)
		}
		part := strings.SplitN(line, " ", 3)
		if len(part) < 2 {
			return nil, fmt.Errorf("status line %q", line)
		}
		a := &answer{}
		if a.Status, err = strconv.Atoi(part[1]); err != nil {
			return nil, fmt.Errorf("status line %q: %w", line, err)
		}
		if a.Header, err = in.ReadMIMEHeader(); err != nil {
			return nil, err
		}
		if a.Status >= 200 {
			body, err := io.ReadAll(in.R)
			a.Body = string(body)
			return a, err
		}
	}
}

// waitStatus calls curl until it gets a status, for the moment in which a change is on its way, and returns that answer.
func (l *lane) waitStatus(t *testing.T, address string, status int, args ...string) *answer {
	t.Helper()
	var last *answer
	cluster.Until(t, fmt.Sprintf("status %d of %s", status, address), func(ctx context.Context) error {
		a, err := l.tryCurl(ctx, address, args...)
		if err != nil {
			return err
		}
		if last = a; a.Status != status {
			return fmt.Errorf("%d %s", a.Status, strings.TrimSpace(a.Body))
		}
		return nil
	})
	return last
}

// waitPods calls curl until each of the Pods has answered.
func (l *lane) waitPods(t *testing.T, address string, pods ...string) {
	t.Helper()
	seen := map[string]bool{}
	cluster.Until(t, fmt.Sprintf("answers of %v on %s", pods, address), func(ctx context.Context) error {
		a, err := l.tryCurl(ctx, address)
		if err != nil {
			return err
		}
		seen[a.pod()] = true
		for _, pod := range pods {
			if !seen[pod] {
				return fmt.Errorf("seen are %v, last status %d", seen, a.Status)
			}
		}
		return nil
	})
}

// pods calls curl n times and counts the answers by Pod; every one must be 200.
func (l *lane) pods(t *testing.T, address string, n int) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for range n {
		a := l.curl(t, address)
		if a.Status != http.StatusOK {
			t.Errorf("%s: status %d: %s", address, a.Status, a.Body)
		}
		seen[a.pod()]++
	}
	return seen
}

// web is for what tests ask podlane's own pages and Pods directly.
var web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 4}}

func fetch(ctx context.Context, address string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "", err
	}
	answer, err := web.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(content), err
}

// debug reads a page of the admin address.
func (l *lane) debug(ctx context.Context, page string, into any) error {
	status, body, err := fetch(ctx, l.url(9091, "/debug/"+page+"?format=json"))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/debug/%s: status %d: %s", page, status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(body), into)
}

// problem is an entry of /debug/problems.
type problem struct{ Kind, Namespace, Name, Field, Reason, Effect, Message string }

func (l *lane) problems(ctx context.Context) ([]problem, error) {
	var all []problem
	return all, l.debug(ctx, "problems", &all)
}

// pool is an entry of /debug/endpoints.
type pool struct {
	Namespace, Service, Port string
	Endpoints                []struct {
		Address, State, Pod string
		Failures            int
	}
}

func (l *lane) pools(ctx context.Context) ([]pool, error) {
	var all []pool
	return all, l.debug(ctx, "endpoints", &all)
}

// endpoints are the addresses that podlane has traffic for, of all ports of a Service, sorted.
func (l *lane) endpoints(ctx context.Context, namespace, service string) ([]string, error) {
	all, err := l.pools(ctx)
	var found []string
	for _, p := range all {
		if p.Namespace == namespace && p.Service == service {
			for _, e := range p.Endpoints {
				if e.State != "unready" && e.State != "draining" {
					found = append(found, e.Address)
				}
			}
		}
	}
	slices.Sort(found)
	return found, err
}

// waitEndpoints waits until podlane has exactly these addresses for a Service.
func (l *lane) waitEndpoints(t *testing.T, namespace, service string, want ...string) {
	t.Helper()
	slices.Sort(want)
	cluster.Until(t, fmt.Sprintf("endpoints %v of %s", want, service), func(ctx context.Context) error {
		have, err := l.endpoints(ctx, namespace, service)
		if err == nil && !slices.Equal(have, want) {
			err = fmt.Errorf("have %v", have)
		}
		return err
	})
}

// metric is the sum of a metric's samples.
func (l *lane) metric(ctx context.Context, name string) (float64, error) {
	_, body, err := fetch(ctx, l.url(9090, "/metrics"))
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if base, _, _ := strings.Cut(series, "{"); !ok || base != name {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+n, true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}

// memory is the resident set in bytes.
func (l *lane) memory() (int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.Pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.Atoi(strings.Fields(value)[0])
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// An echo is the request as it came to a Pod.
type echo struct {
	Method, Target, Host, SHA256, Pod, Remote, Local string
	Headers                                          [][2]string
}

func (a *answer) echo(t *testing.T) *echo {
	t.Helper()
	e := &echo{}
	if err := json.Unmarshal([]byte(a.Body), e); err != nil {
		t.Fatalf("status %d, %q: %v", a.Status, a.Body, err)
	}
	return e
}

// values are the values of a field as they came to the Pod.
func (e *echo) values(name string) []string {
	var found []string
	for _, h := range e.Headers {
		if strings.EqualFold(h[0], name) {
			found = append(found, h[1])
		}
	}
	return found
}
