package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/e2e/load"
	"podlane.dev/podlane/test/node"
)

// rolloutRate is the number of GETs a second while everything changes.
const rolloutRate = 500

// rounds is how often things are changed: 20 times, or what PODLANE_E2E_ROUNDS says.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PODLANE_E2E_ROUNDS")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("PODLANE_E2E_ROUNDS=%q: want a number from 1 on", text)
	}
	return n
}

// A rollouts is the load, and what has become of it so far, part by part.
type rollouts struct {
	*place
	loads loads
	table strings.Builder
	lost  int
}

// TestRollouts is the proof that nothing is lost: the backend is rolled over, Podlane itself is upgraded with Helm, its leader is ended and then killed, and
// the API server stands still for two minutes, at 500 GETs a second from outside through the load balancer's address, half of them over
// a connection each. Clients whose connection breaks connect again; all that may break one is the killing.
func TestRollouts(t *testing.T) {
	p := newPlace(t, world.lane)
	p.apply("rollouts.yaml")
	p.rollout("web")
	p.lane.waitPods(t, "http://rollouts.goweb.com/", names(p.pods("app=web", 3))...)
	r := &rollouts{place: p, loads: p.load("rollouts.goweb.com", rolloutRate)}
	fmt.Fprintf(&r.table, "%-52s %8s %9s %11s %7s\n", "WHAT", "SECONDS", "REQUESTS", "RECONNECTED", "FAILED")
	n := rounds(t)
	r.part("nothing", 0, func() { time.Sleep(5 * time.Second) })
	r.part(fmt.Sprintf("%d rolling updates of the backend", n), 0, func() {
		for i := range n {
			p.kubectl("set", "env", "deployment/web", fmt.Sprintf("ROUND=%d", i))
			p.rollout("web")
		}
	})
	r.part(fmt.Sprintf("%d helm upgrades of Podlane, two replicas", n), 0, func() {
		for i := range n {
			if err := p.lane.upgrade(t.Context(), fmt.Sprintf("controller.podAnnotations.round=r%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	})
	r.part("the leader is deleted", 0, r.deleteLeader)
	r.part("the leader is killed (SIGKILL)", anyNumber, r.killLeader)
	if dir := os.Getenv("PODLANE_NODE"); dir != "" {
		r.part("the API server stands still for two minutes", 0, func() { r.stopAPIServer(dir, 2*time.Minute) })
		r.part("one more rolling update", 0, func() {
			p.kubectl("set", "env", "deployment/web", "ROUND=last")
			p.rollout("web")
		})
	}
	all := r.loads.stop(t)
	t.Logf("%d requests, %d failed\n%s", all.Sent, all.Failed, r.table.String())
	if r.lost > 0 {
		t.Errorf("%d connections broke where none may", r.lost)
	}
}

// anyNumber allows connections to break.
const anyNumber = -1

// part does one thing, waits until what it began has settled, and writes a line about it. breaks is how many connections may break.
func (r *rollouts) part(what string, breaks int, do func()) {
	r.t.Helper()
	began := time.Now()
	before := [3]int{r.loads.count((*load.Load).Sent), r.loads.count((*load.Load).Reconnected), r.loads.count((*load.Load).Failed)}
	do()
	r.settle()
	took := time.Since(began).Seconds()
	sent, broke, failed := r.loads.count((*load.Load).Sent)-before[0], r.loads.count((*load.Load).Reconnected)-before[1], r.loads.count((*load.Load).Failed)-before[2]
	line := fmt.Sprintf("%-52s %8.0f %9d %11d %7d\n", what, took, sent, broke, failed)
	r.table.WriteString(line)
	r.t.Log(strings.TrimSpace(line))
	if breaks != anyNumber && broke > breaks {
		r.lost += broke
	}
	if float64(sent) < rolloutRate*took/2 {
		r.t.Errorf("%s: only %d requests in %.0f s: the clients could not keep up", what, sent, took)
	}
}

// settle waits until Podlane's Pods are two, both ready, and none is on its way out.
func (r *rollouts) settle() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Minute)
	defer cancel()
	err := await(ctx, "two ready Pods of Podlane alone", func(ctx context.Context) error {
		list, err := world.client.CoreV1().Pods(r.lane.name).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, pod := range list.Items {
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
					ready++
				}
			}
		}
		if pods := len(list.Items); ready != 2 || pods != 2 {
			return fmt.Errorf("%d Pods, %d ready", pods, ready)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// leader is the Pod that holds the Lease.
func (r *rollouts) leader(ctx context.Context) (string, error) {
	lease, err := world.client.CoordinationV1().Leases(r.lane.name).Get(ctx, r.lane.name+"-leader", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", errors.New("nobody holds the Lease")
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	return name, nil
}

// newLeader does something to the leader, and waits until another Pod, or the same one started again, leads and writes an address.
func (r *rollouts) newLeader(do func(pod string) error) {
	r.t.Helper()
	old := ""
	until(r.t, "a leader", func(ctx context.Context) (err error) {
		old, err = r.leader(ctx)
		return err
	})
	if err := do(old); err != nil {
		r.t.Fatal(err)
	}
	name := "after-" + old
	r.applyText(strings.NewReplacer("{name: web}\nspec", "{name: "+name+"}\nspec", "rollouts.goweb.com", "after."+old+".test").Replace(ingressOf(r.t, r.manifest("rollouts.yaml"))))
	until(r.t, "the address of an Ingress, which a leader writes", func(ctx context.Context) error {
		i, err := world.client.NetworkingV1().Ingresses(r.ns).Get(ctx, name, metav1.GetOptions{})
		if err == nil && len(i.Status.LoadBalancer.Ingress) == 0 {
			err = errors.New("none")
		}
		return err
	})
	r.kubectl("delete", "ingress", name)
}

// ingressOf is the last document of manifests.
func ingressOf(t *testing.T, manifests string) string {
	t.Helper()
	_, last, found := strings.Cut(manifests, "kind: Ingress\n")
	if !found {
		t.Fatal("no Ingress in the manifests")
	}
	return "apiVersion: networking.k8s.io/v1\nkind: Ingress\n" + last
}

func (r *rollouts) deleteLeader() {
	r.newLeader(func(pod string) error {
		_, err := command(r.t.Context(), "", "kubectl", "-n", r.lane.name, "delete", "pod", pod, "--wait=false")
		return err
	})
}

// killLeader kills the leader's process where its processes are ours, and elsewhere has the kubelet do that.
func (r *rollouts) killLeader() {
	r.newLeader(func(pod string) error {
		if os.Getenv("PODLANE_NODE") == "" {
			_, err := command(r.t.Context(), "", "kubectl", "-n", r.lane.name, "delete", "pod", pod, "--grace-period=0", "--force")
			return err
		}
		all, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			return err
		}
		for _, file := range all {
			content, err := os.ReadFile(file)
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file))) // the pattern's digits
			if err == nil && strings.Contains(string(content), "POD_NAME="+pod+"\x00") {
				return syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return fmt.Errorf("no process of Pod %s", pod)
	})
}

// stopAPIServer stops the API server's process without ending it: connections stay, nothing answers.
func (r *rollouts) stopAPIServer(dir string, d time.Duration) {
	content, err := os.ReadFile(node.PIDFile(dir, "kube-apiserver"))
	if err != nil {
		r.t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(content))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			r.t.Error(err)
		}
	}()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		if a, err := r.lane.tryCurl(r.t.Context(), "http://rollouts.goweb.com/"); err != nil || a.Status != http.StatusOK {
			r.t.Errorf("while the API server stands still: %v %v", a, err)
		}
	}
}
