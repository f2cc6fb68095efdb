package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podlane.dev/podlane/test/node/balancer"
)

// startServices starts the load balancer, and cluster DNS, and waits until that is available.
func (n *Node) startServices(ctx context.Context) error {
	address := func(change func(ip netip.Prefix) error) func(netip.Addr) error {
		return func(ip netip.Addr) error { return change(netip.PrefixFrom(ip, 32)) }
	}
	go func() {
		// It outlives Start: it ends with the sandbox.
		err := balancer.Run(context.WithoutCancel(ctx), balancer.Options{
			Client: n.Client, First: balancerIPs[0], Last: balancerIPs[1], Logf: n.say,
			Claim:   address(func(ip netip.Prefix) error { return addAddress(n.net.links, "eth0", ip) }),
			Release: address(func(ip netip.Prefix) error { return removeAddress(n.net.links, "eth0", ip) }),
		})
		n.say("the load balancer has ended: %v", err)
	}()
	cmd := exec.CommandContext(ctx, n.o.Control.Kubectl, "--kubeconfig="+n.Kubeconfig(), "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.NewReplacer("$IMAGE", coreDNSImage, "$DNS", dnsIP.String()).Replace(coreDNS))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl apply: %w\n%s", err, out)
	}
	return poll(ctx, "CoreDNS", func() error {
		d, err := n.Client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas < 1 {
			err = errors.New("its Pod is not available")
		}
		return err
	})
}

// coreDNS is the cluster's DNS, as kubeadm installs it. It knows the cluster's names, and nobody whom it could ask for others. Answers may be
// kept for two seconds, so that tests see changes soon.
const coreDNS = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: system:coredns}
rules:
  - {apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system:coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data:
  Corefile: |
    .:53 {
        errors
        health
        ready
        kubernetes cluster.local in-addr.arpa ip6.arpa {
            ttl 2
        }
        loadbalance
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      serviceAccountName: coredns
      dnsPolicy: Default
      containers:
        - name: coredns
          image: $IMAGE
          args: [-conf, /etc/coredns/Corefile]
          ports: [{name: dns, containerPort: 53, protocol: UDP}, {name: dns-tcp, containerPort: 53}]
          readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 1}
          livenessProbe: {httpGet: {path: /health, port: 8080}, failureThreshold: 5}
          volumeMounts: [{name: config, mountPath: /etc/coredns, readOnly: true}]
      volumes: [{name: config, configMap: {name: coredns}}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  selector: {k8s-app: kube-dns}
  clusterIP: $DNS
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]
`
