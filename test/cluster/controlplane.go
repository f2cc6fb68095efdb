package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"podlane.dev/podlane/test/cluster/process"
)

// controllers are those of kube-controller-manager that tests rely on; the rest only costs start-up time.
const controllers = "deployment-controller,replicaset-controller,replicationcontroller-controller,statefulset-controller," +
	"daemonset-controller,job-controller,endpoints-controller,endpointslice-controller,endpointslice-mirroring-controller," +
	"namespace-controller,serviceaccount-controller,garbage-collector-controller," +
	"pod-garbage-collector-controller,disruption-controller"

func addNodeAddress() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	ip := &net.IPNet{IP: nodeIP.AsSlice(), Mask: net.CIDRMask(32, 32)}
	if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: ip}); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("add the node address: %w", err)
	}
	return nil
}

func freePort() (uint16, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: nodeIP.AsSlice()})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.Dir, name) }

func (c *Cluster) startControlPlane(ctx context.Context) error {
	var ports [3]uint16
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return fmt.Errorf("find a free port: %w", err)
		}
	}
	client, peer := fmt.Sprintf("http://%s:%d", nodeIP, ports[0]), fmt.Sprintf("http://%s:%d", nodeIP, ports[1])
	c.endpoint = netip.AddrPortFrom(nodeIP, ports[2])
	var err error
	c.etcd, err = process.Run(Process{
		Name: "etcd", Path: c.programs.Etcd, Log: c.path("etcd.log"),
		Args: []string{
			"--name=default", "--data-dir=" + c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
		},
	})
	if err != nil {
		return err
	}
	token, err := c.writeCredentials()
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	c.etcdURL = client
	c.options.APIServerFlags = append([]string{"--etcd-servers=" + client}, c.options.APIServerFlags...)
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	if err := c.writeKubeconfig(token); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	if err := c.load(); err != nil {
		return err
	}
	if err := c.waitReady(ctx); err != nil {
		return err
	}
	if c.options.APIServerOnly {
		return nil
	}
	return c.startControllers()
}

func (c *Cluster) startControllers() error {
	var err error
	c.controller, err = process.Run(Process{
		Name: "kube-controller-manager", Path: c.programs.ControllerManager, Log: c.path("kube-controller-manager.log"),
		Args: []string{
			"--kubeconfig=" + c.kubeconfig, "--leader-elect=false", "--secure-port=0", "--controllers=" + controllers,
			"--kube-api-qps=1000", "--kube-api-burst=2000", "--concurrent-endpoint-syncs=10", "--concurrent-service-endpoint-syncs=10",
			"--concurrent-namespace-syncs=10", "--concurrent-gc-syncs=10", "--use-service-account-credentials=false",
			"--namespace-sync-period=1m",
		},
	})
	return err
}

// startAPIServer starts kube-apiserver; the certificate that it makes for itself is there before it listens.
func (c *Cluster) startAPIServer(ctx context.Context) error {
	var err error
	c.apiServer, err = process.Run(Process{
		Name: "kube-apiserver", Path: c.programs.APIServer, Log: c.path("kube-apiserver.log"),
		Args: append([]string{
			fmt.Sprintf("--secure-port=%d", c.endpoint.Port()), "--bind-address=" + nodeIP.String(),
			"--advertise-address=" + nodeIP.String(), "--cert-dir=" + c.path("pki"),
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + c.path("sa.key"),
			"--service-account-signing-key-file=" + c.path("sa.key"), "--token-auth-file=" + c.path("tokens.csv"),
			"--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
			"--disable-admission-plugins=ServiceAccount", // the kubelet mounts no volumes, and Pods need not wait for accounts
			"--endpoint-reconciler-type=none", "--allow-privileged=true", "--profiling=false", "--shutdown-delay-duration=0",
		}, c.options.APIServerFlags...),
	})
	if err != nil {
		return err
	}
	if c.Client != nil {
		return c.waitReady(ctx)
	}
	return c.poll(ctx, "the API server's certificate", func() error {
		pem, err := os.ReadFile(filepath.Join(c.path("pki"), "apiserver.crt"))
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = errors.New("incomplete")
		}
		return err
	})
}

func (c *Cluster) waitReady(ctx context.Context) error {
	return c.poll(ctx, "the API server", func() error {
		if err := c.Client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
			return err
		}
		_, err := c.Client.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// poll calls check until it succeeds, a process of the control plane has ended, or ctx has.
func (c *Cluster) poll(ctx context.Context, what string, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		for _, p := range []*Process{c.etcd, c.apiServer, c.controller} {
			if p != nil && p.Ended() {
				return fmt.Errorf("%s has ended: %s", p.Name, p.State())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// writeCredentials makes the administrator's token and the key that signs service account tokens.
func (c *Cluster) writeCredentials() (token string, err error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	token = hex.EncodeToString(random)
	if err := os.WriteFile(c.path("tokens.csv"), []byte(token+`,admin,admin,"system:masters"`+"\n"), 0o600); err != nil {
		return "", err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	return token, os.WriteFile(c.path("sa.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

func (c *Cluster) writeKubeconfig(token string) error {
	c.kubeconfig = c.path("kubeconfig")
	return c.writeConfig(c.kubeconfig, token, "default")
}

func (c *Cluster) writeConfig(path, token, namespace string) error {
	ca, err := os.ReadFile(filepath.Join(c.path("pki"), "apiserver.crt"))
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: "https://" + c.endpoint.String(), CertificateAuthorityData: ca}
	config.AuthInfos["user"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "user", Namespace: namespace}
	config.CurrentContext = "test"
	return clientcmd.WriteToFile(*config, path)
}
