package scenarios

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"podlane.dev/podlane/test/cluster/assets"
)

// world is the cluster, and what TestMain has put into it.
var world cluster

// A cluster is what all tests share.
type cluster struct {
	client kubernetes.Interface
	root   string
	// lane is the installation that most tests use.
	lane *lane
	// backend is the image of the tests' Pods.
	backend string
	// run distinguishes names of this run from those of others in the same cluster.
	run string
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("PODLANE_E2E") == "" {
		fmt.Println("skipped: the scenarios need a cluster: make e2e")
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := connect(); err != nil {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
		return 1
	}
	began := time.Now()
	fmt.Fprintf(os.Stderr, "installing the chart as %s-%s\n", "podlane", world.run)
	var err error
	world.lane, err = install(ctx, "podlane-"+world.run)
	if err == nil {
		fmt.Fprintf(os.Stderr, "installed in %s; Podlane is at %s\n", time.Since(began).Round(time.Second), world.lane.address(80))
		code := m.Run()
		for _, l := range []*lane{world.lane, opened.lane} {
			if l != nil {
				l.uninstall()
			}
		}
		return code
	}
	fmt.Fprintln(os.Stderr, "scenarios:", err)
	return 1
}

func connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return fmt.Errorf("KUBECONFIG: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	if world.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	for _, program := range []string{"kubectl", "helm", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w (make e2e brings kubectl and Helm)", err)
		}
	}
	if world.root, err = assets.ModuleRoot(); err != nil {
		return err
	}
	world.backend = os.Getenv("PODLANE_BACKEND_IMAGE")
	if world.backend == "" {
		world.backend = backendImage
	}
	world.run = fmt.Sprintf("e2e-%x", time.Now().Unix()&0xfffff)
	return nil
}

// backendImage is what the manifests of testdata call the tests' Pod.
const backendImage = "podlane.dev/test/backend:v1"

// restarts are the names of Podlane's Pods, and how often each was started again.
func (c *cluster) restarts(t *testing.T) string {
	t.Helper()
	return must(t, "kubectl", "-n", c.lane.name, "get", "pods", "--sort-by=.metadata.name",
		"-o", "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount} {end}")
}

// command runs a program with an input, and returns what it prints.
func command(ctx context.Context, stdin string, words ...string) (string, error) {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, strings.TrimSpace(problems.String()))
	}
	return out.String(), nil
}

// patience is how long anything that is awaited may take, on a machine that is busy with other things.
const patience = 90 * time.Second

// until calls check until it succeeds, and ends the test with its last error after patience.
func until(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := await(ctx, what, check); err != nil {
		t.Fatal(err)
	}
}

// await calls check until it succeeds or ctx has ended, and says which error was the last.
func await(ctx context.Context, what string, check func(ctx context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
