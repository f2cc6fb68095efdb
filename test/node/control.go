package node

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/cluster/process"
)

// startControl starts etcd, the API server, kube-controller-manager and kube-scheduler, as kubeadm would, and waits for them.
func (n *Node) startControl(ctx context.Context) error {
	if err := n.startPKI(); err != nil {
		return err
	}
	if err := n.load(); err != nil {
		return err
	}
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	pki := func(name string) string { return n.path("pki", name) }
	for _, p := range []process.Process{
		{Path: n.o.Control.Etcd, Args: []string{
			"--name=default", "--data-dir=" + n.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
		}},
		{Path: n.o.Control.APIServer, Args: []string{
			"--etcd-servers=" + client, "--bind-address=" + nodeIP.String(), "--secure-port=" + apiPort, "--advertise-address=" + nodeIP.String(),
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"), "--client-ca-file=" + pki("ca.crt"),
			"--kubelet-client-certificate=" + pki("apiserver-kubelet.crt"), "--kubelet-client-key=" + pki("apiserver-kubelet.key"),
			"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://" + serverName + ".cluster.local", "--service-account-key-file=" + pki("accounts.key"),
			"--service-account-signing-key-file=" + pki("accounts.key"), "--service-cluster-ip-range=" + serviceCIDR,
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
			"--profiling=false", "--shutdown-delay-duration=0",
		}},
		{Path: n.o.Control.ControllerManager, Args: []string{
			"--kubeconfig=" + pki("admin.kubeconfig"), "--secure-port=0", "--service-account-private-key-file=" + pki("accounts.key"),
			"--root-ca-file=" + pki("ca.crt"), "--kube-api-qps=1000", "--kube-api-burst=2000",
		}},
		{Path: n.o.Node.Scheduler, Args: []string{"--kubeconfig=" + pki("scheduler.kubeconfig"), "--secure-port=0"}},
	} {
		if err := n.keep(p); err != nil {
			return err
		}
		if p.Path == n.o.Control.APIServer {
			// The others would only end, and be started again, before it.
			if err := poll(ctx, "the API server", func() error { return n.apiReady(ctx) }); err != nil {
				return err
			}
		}
	}
	return poll(ctx, "kube-controller-manager", func() error {
		_, err := n.Client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func (n *Node) apiReady(ctx context.Context) error {
	if err := n.Client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	_, err := n.Client.CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
	return err
}
