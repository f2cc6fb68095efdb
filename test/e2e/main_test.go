package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster"
)

func TestMain(m *testing.M) {
	os.Exit(cluster.Main(m, "cmd/podlane", "test/grpc/grpcpod", "test/grpc/grpcload"))
}

// root is the source tree.
const root = "../.."

// systemNamespace is where config/default installs Podlane.
const systemNamespace = "podlane-system"

// An installation is what config/ puts into a cluster, in a namespace of any name and with an IngressClass of any name, so
// that several may be in one cluster.
type installation struct {
	cluster    *cluster.Cluster
	namespace  string
	class      string
	kubeconfig string // of the service account, with the rights of config/rbac
}

// install applies config/rbac for a new namespace and makes an IngressClass. Both go when the test ends.
func install(t *testing.T, c *cluster.Cluster) *installation {
	t.Helper()
	namespace := c.Namespace(t).Name
	i, err := installIn(t.Context(), c, namespace, namespace)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := errors.Join(c.Client.NetworkingV1().IngressClasses().Delete(ctx, i.class, metav1.DeleteOptions{}),
			c.Client.RbacV1().ClusterRoleBindings().Delete(ctx, "podlane-"+namespace, metav1.DeleteOptions{}))
		if err != nil {
			t.Error(err)
		}
	})
	return i
}

func installIn(ctx context.Context, c *cluster.Cluster, namespace, class string) (*installation, error) {
	files, err := filepath.Glob(root + "/config/rbac/*.yaml")
	if err != nil {
		return nil, err
	}
	var manifests []string
	for _, file := range append(files, root+"/config/manager/ingressclass.yaml") {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		text := strings.ReplaceAll(string(content), "namespace: "+systemNamespace, "namespace: "+namespace)
		switch filepath.Base(file) {
		case "kustomization.yaml":
			continue
		case "role_binding.yaml":
			text = strings.Replace(text, "name: podlane\n", "name: podlane-"+namespace+"\n", 1)
		case "ingressclass.yaml":
			text = strings.Replace(text, "name: podlane\n", "name: "+class+"\n", 1)
			text = strings.Replace(text, "podlane.dev/ingress-controller", controllerOf(class), 1)
		}
		manifests = append(manifests, text)
	}
	if _, err := c.Kubectl(ctx, strings.Join(manifests, "\n---\n"), "apply", "-f", "-"); err != nil {
		return nil, err
	}
	i := &installation{cluster: c, namespace: namespace, class: class}
	i.kubeconfig, err = c.ServiceAccountKubeconfig(ctx, namespace, "podlane")
	return i, err
}

// controllerOf is the spec.controller of a class.
func controllerOf(class string) string {
	if class == "podlane" {
		return "podlane.dev/ingress-controller"
	}
	return "podlane.dev/" + class
}

// command is `podlane controller` as config/manager runs it, but on the ports that users know at the given addresses.
func (i *installation) command(addresses []string, args ...string) cluster.Process {
	listen := func(port string) string {
		return strings.Join(addresses, ":"+port+",") + ":" + port
	}
	p := cluster.Command("podlane", append([]string{
		"controller", "--kubeconfig=" + i.kubeconfig, "--ingress-class=" + i.class, "--controller-class=" + controllerOf(i.class),
		"--http-address=" + listen("80"), "--https-address=" + listen("443"), "--metrics-address=" + listen("9090"),
		"--admin-address=" + addresses[0] + ":9091", "--election-id=podlane-leader", "--access-log=off",
	}, args...)...)
	p.Env = []string{"POD_NAMESPACE=" + i.namespace, "POD_NAME=podlane-" + strings.ReplaceAll(addresses[0], ".", "-")}
	return p
}

// start runs a replica at an address of its own, with short drains unless args say otherwise, and waits until it is ready.
func (i *installation) start(t *testing.T, args ...string) *lane {
	t.Helper()
	l := i.launch(t, args...)
	l.waitReady(t)
	return l
}

// launch is start without the wait.
func (i *installation) launch(t *testing.T, args ...string) *lane {
	t.Helper()
	ip := nextAddress()
	args = append([]string{"--drain-delay=0s", "--shutdown-timeout=10s"}, args...)
	return &lane{Process: i.cluster.Start(t, i.command([]string{ip}, args...)), ip: ip}
}

var addresses struct {
	sync.Mutex
	last netip.Addr
}

// nextAddress is a loopback address that nothing listens on.
func nextAddress() string {
	addresses.Lock()
	defer addresses.Unlock()
	if !addresses.last.IsValid() {
		addresses.last = netip.MustParseAddr("127.0.1.0")
	}
	addresses.last = addresses.last.Next()
	return addresses.last.String()
}

var shared struct {
	sync.Mutex
	lane *lane
	err  error
}

// sharedLane is the replica that most tests use: in podlane-system, of class podlane, at 127.0.0.1 and, for Pods, at the
// Node's address. Its Service podlane has no address until a test gives it one.
func sharedLane(t *testing.T) (*cluster.Cluster, *lane) {
	t.Helper()
	c := cluster.Shared(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.lane == nil && shared.err == nil {
		shared.lane, shared.err = startShared(t.Context(), c)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	if shared.lane.Ended() {
		t.Fatalf("the shared podlane has ended\n%s", shared.lane.Tail(60))
	}
	shared.lane.waitReady(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shared.lane.Tail(40))
		}
	})
	return c, shared.lane
}

func startShared(ctx context.Context, c *cluster.Cluster) (*lane, error) {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}}
	if _, err := c.Client.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: podlane, namespace: podlane-system}\n" +
		"spec: {type: LoadBalancer, ports: [{name: http, port: 80}, {name: https, port: 443}]}"
	if _, err := c.Kubectl(ctx, service, "apply", "-f", "-"); err != nil {
		return nil, err
	}
	i, err := installIn(ctx, c, systemNamespace, "podlane")
	if err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	ip := "127.0.0.1"
	process, err := c.Launch(i.command([]string{ip, c.NodeIP().String()}, "--publish-service="+systemNamespace+"/podlane"))
	if err != nil {
		return nil, err
	}
	return &lane{Process: process, ip: ip}, nil
}

// namespace makes a namespace for a test. At its end the Ingresses in it go first, so that the next test, or the next run of
// this one, may use the same hosts.
func namespace(t *testing.T, c *cluster.Cluster) *cluster.Namespace {
	t.Helper()
	ns := c.Namespace(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := c.Client.NetworkingV1().Ingresses(ns.Name).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil {
			t.Error(err)
		}
	})
	return ns
}
