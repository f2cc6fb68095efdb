package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"podlane.dev/podlane/test/cluster/assets"
	"podlane.dev/podlane/test/cluster/sandbox"
	"podlane.dev/podlane/test/node"
)

// inside is the first process of the sandbox. When it returns, everything in the sandbox ends.
func inside() (int, error) {
	if err := sandbox.Enter(); err != nil {
		return 0, err
	}
	ctx := context.Background() // nobody cancels: the sandbox is ended from outside, at any moment
	o, err := node.Load(os.Getenv(dirEnv))
	if err != nil {
		return 0, err
	}
	n, err := node.Start(ctx, o, os.Stderr)
	if err != nil {
		return 0, err
	}
	i := &interior{n: n, o: o}
	if err := i.settle(); err != nil {
		return 0, err
	}
	if os.Getenv(verbEnv) == "run" {
		return i.run(ctx, strings.Split(os.Getenv("PODLANE_NODE_COMMAND"), "\x1f"))
	}
	return 0, i.up(ctx)
}

// An interior is the running cluster, for its users.
type interior struct {
	n *node.Node
	o node.Options
}

// settle makes kubectl and Helm find themselves and the cluster, in this process and in all that it starts, which are no sandbox's first.
func (i *interior) settle() error {
	helm, home := os.Getenv(helmEnv), filepath.Join(i.o.Dir, "helm")
	var problems []error
	for name, value := range map[string]string{
		"KUBECONFIG": i.n.Kubeconfig(), "HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home, "HELM_DATA_HOME": home,
		"PATH": filepath.Dir(i.o.Control.Kubectl) + ":" + filepath.Dir(helm) + ":" + os.Getenv("PATH"),
	} {
		problems = append(problems, os.Setenv(name, value))
	}
	return errors.Join(append(problems, sandbox.Leave())...)
}

// run runs the user's command to its end.
func (i *interior) run(ctx context.Context, words []string) (int, error) {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return status(cmd.Run())
}

// follow runs a command of ours, which it shows to the user, and shows what it says only if it fails.
func (i *interior) follow(ctx context.Context, words ...string) error {
	line := strings.Join(words, " ")
	fmt.Fprintln(os.Stderr, "        $", line)
	if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	return nil
}

// up installs the chart and the samples, says how to reach them, and never returns without an error.
func (i *interior) up(ctx context.Context) error {
	root, err := assets.ModuleRoot()
	if err != nil {
		return err
	}
	for _, words := range [][]string{
		{"helm", "upgrade", "--install", "podlane", filepath.Join(root, "chart"), "--namespace", "podlane", "--create-namespace", "--wait", "--timeout", "3m"},
		{"kubectl", "apply", "-k", filepath.Join(root, "config/samples")},
		{"kubectl", "apply", "-f", filepath.Join(root, "config/samples/cluster")},
		{"kubectl", "rollout", "status", "deployment/goweb", "--timeout=2m"},
	} {
		if err := i.follow(ctx, words...); err != nil {
			return err
		}
	}
	address, err := i.address(ctx)
	if err != nil {
		return err
	}
	reached, err := parseReach(os.Getenv(reachEnv))
	if err != nil {
		return err
	}
	err = openWays(i.o.Dir, [len(ways)]string{i.n.APIServer(), net.JoinHostPort(address, "80"), net.JoinHostPort(address, "443")})
	if err != nil {
		return err
	}
	kubeconfig, err := i.hostKubeconfig(reached[0])
	if err != nil {
		return err
	}
	i.explain(address, kubeconfig, reached)
	select {}
}

// address is the one that the load balancer has given to Podlane.
func (i *interior) address(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		s, err := i.n.Client.CoreV1().Services("podlane").Get(ctx, "podlane", metav1.GetOptions{})
		if err == nil && len(s.Status.LoadBalancer.Ingress) > 0 {
			return s.Status.LoadBalancer.Ingress[0].IP, nil
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(errors.New("the Service podlane has no address"), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hostKubeconfig writes a kubeconfig for this machine, which reaches the API server at an address of its own.
func (i *interior) hostKubeconfig(address string) (string, error) {
	config, err := clientcmd.LoadFromFile(i.n.Kubeconfig())
	if err != nil {
		return "", err
	}
	for _, c := range config.Clusters {
		c.Server = "https://" + address
	}
	path := filepath.Join(i.o.Dir, "kubeconfig-host")
	return path, clientcmd.WriteToFile(*config, path)
}

func (i *interior) explain(address, kubeconfig string, reached [len(ways)]string) {
	_, httpPort, _ := net.SplitHostPort(reached[1])  // listeners' own addresses
	_, httpsPort, _ := net.SplitHostPort(reached[2]) //
	fmt.Printf(`
Podlane runs in a cluster of one node, with the Ingresses and Pods of config/samples.

From this machine:
  export KUBECONFIG=%[1]s
  kubectl get pods,ingresses -A
  curl --resolve www.goweb.com:%[2]s:127.0.0.1 http://www.goweb.com:%[2]s/
  curl --insecure --resolve www.goweb-tls.com:%[3]s:127.0.0.1 https://www.goweb-tls.com:%[3]s/

Where the cluster's own users are, with the address that its load balancer gave:
  make cluster-enter
  curl --resolve www.goweb.com:80:%[4]s http://www.goweb.com/

Logs are in %[5]s. Ctrl-C, or make cluster-down, ends the cluster and removes everything.
`, kubeconfig, httpPort, httpsPort, address, filepath.Join(i.o.Dir, "log"))
}
