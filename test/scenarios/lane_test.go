package scenarios

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A lane is one installation of the chart, seen from outside the cluster. Its release, its namespace and its IngressClass have one name.
type lane struct {
	name string
	set  []string
	// at is where its ports 80 and 443 are reached.
	at map[int]string
}

// install installs the chart as a user does, in a namespace and with a class of its own, and waits until it is reached from here.
func install(ctx context.Context, name string, set ...string) (*lane, error) {
	l := &lane{name: name, at: map[int]string{}}
	l.set = append([]string{
		"controller.ingressClassResource.name=" + name, "controller.ingressClass=" + name,
		"controller.ingressClassResource.controllerValue=podlane.dev/" + name,
	}, set...)
	if image := os.Getenv("PODLANE_IMAGE"); image != "" {
		cut := strings.LastIndexByte(image, ':')
		if cut < 0 {
			return nil, fmt.Errorf("PODLANE_IMAGE=%s has no tag", image)
		}
		l.set = append(l.set, "controller.image.repository="+image[:cut], "controller.image.tag="+image[cut+1:])
	}
	if err := l.upgrade(ctx); err != nil {
		l.uninstall()
		return nil, err
	}
	err := await(ctx, "an address of Podlane", func(ctx context.Context) error { return l.locate(ctx) })
	if err == nil {
		err = await(ctx, "an answer of Podlane at "+l.address(80), func(ctx context.Context) error {
			_, err := l.tryCurl(ctx, "http://nobody.example.com/")
			return err
		})
	}
	if err != nil {
		l.uninstall()
		return nil, err
	}
	return l, nil
}

// upgrade runs helm upgrade with the lane's values and others, and waits for its end.
func (l *lane) upgrade(ctx context.Context, set ...string) error {
	words := []string{
		"helm", "upgrade", "--install", l.name, filepath.Join(world.root, "chart"), "--namespace", l.name, "--create-namespace", "--wait", "--timeout", "5m",
	}
	for _, s := range slices.Concat(l.set, set) {
		words = append(words, "--set", s)
	}
	_, err := command(ctx, "", words...)
	return err
}

// uninstall removes everything of the lane; what fails is said, and no more can be done.
func (l *lane) uninstall() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := command(ctx, "", "helm", "uninstall", l.name, "--namespace", l.name, "--ignore-not-found")
	_, gone := command(ctx, "", "kubectl", "delete", "namespace", l.name, "--wait=false", "--ignore-not-found")
	if err := errors.Join(err, gone); err != nil {
		fmt.Fprintln(os.Stderr, "scenarios: uninstall:", err)
	}
}

// locate finds out where the Service is reached: at the address of its load balancer or, where there is none, at ports of a node.
func (l *lane) locate(ctx context.Context) error {
	s, err := world.client.CoreV1().Services(l.name).Get(ctx, l.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		i := s.Status.LoadBalancer.Ingress[0]
		for _, port := range []int{80, 443} {
			l.at[port] = net.JoinHostPort(i.IP+i.Hostname, strconv.Itoa(port))
		}
		return nil
	}
	if os.Getenv("PODLANE_E2E_NODEPORT") == "" {
		return fmt.Errorf("its Service has no address; without a load balancer set PODLANE_E2E_NODEPORT=1, for ports of the nodes")
	}
	nodes, err := world.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, a := range nodes.Items[0].Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			for _, p := range s.Spec.Ports {
				l.at[int(p.Port)] = net.JoinHostPort(a.Address, strconv.Itoa(int(p.NodePort)))
			}
		}
	}
	return nil
}

// address is where port 80 or 443 is reached.
func (l *lane) address(port int) string { return l.at[port] }

// An answer is what curl got.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// pod is the Pod that gave the answer.
func (a *answer) pod() string { return a.Header.Get("X-Pod") }

// curl does what a user does: curl --resolve HOST:PORT:ADDRESS URL.
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
	port := 80
	if u.Scheme == "https" {
		port = 443
	}
	host, at, err := net.SplitHostPort(l.address(port))
	if err != nil {
		return nil, err
	}
	words := []string{"curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30", "--http1.1", "--include", "--raw"}
	if at == strconv.Itoa(port) && net.ParseIP(host) != nil {
		words = append(words, "--resolve", fmt.Sprintf("%s:%d:%s", u.Hostname(), port, host))
	} else { // another port, or a load balancer that has a name
		words = append(words, "--connect-to", fmt.Sprintf("%s:%d:%s", u.Hostname(), port, l.address(port)))
	}
	out, err := command(ctx, "", append(append(words, args...), address)...)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(strings.NewReader(out))
	for {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return nil, fmt.Errorf("curl %s printed %q: %w", address, out, err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode >= 200 {
			return &answer{Status: r.StatusCode, Header: r.Header, Body: string(body)}, err
		}
	}
}

// waitStatus calls curl until it gets a status, for the moment in which a change is on its way, and returns that answer.
func (l *lane) waitStatus(t *testing.T, address string, status int, args ...string) *answer {
	t.Helper()
	var last *answer
	until(t, fmt.Sprintf("status %d of %s", status, address), func(ctx context.Context) error {
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

// waitPods calls curl until each of the Pods has answered, and then no other Pod has for as many calls as there are replicas of Podlane, twice.
func (l *lane) waitPods(t *testing.T, address string, pods ...string) {
	t.Helper()
	until(t, fmt.Sprintf("answers of %v alone on %s", pods, address), func(ctx context.Context) error {
		seen := map[string]bool{}
		for range 8 * len(pods) {
			a, err := l.tryCurl(ctx, address)
			if err != nil {
				return err
			}
			if !slices.Contains(pods, a.pod()) {
				return fmt.Errorf("status %d from %q", a.Status, a.pod())
			}
			seen[a.pod()] = true
		}
		if len(seen) != len(pods) {
			return fmt.Errorf("answers only of %v", seen)
		}
		return nil
	})
}

// An echo is the request as it came to a Pod.
type echo struct {
	Method, Target, Host, Proto, Pod, Remote, Local string
	Headers                                         [][2]string
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
	var all []string
	for _, h := range e.Headers {
		if strings.EqualFold(h[0], name) {
			all = append(all, h[1])
		}
	}
	return all
}
