// Package node is a Kubernetes cluster of one real node for tests and demonstrations, on a bare Linux machine without Docker or the
// internet: etcd, the control plane, kube-proxy, a kubelet that runs Pods in containers by containerd and runc, CoreDNS, and a load
// balancer that hands out the node's addresses. Everything is built from Go modules (../cluster/assets) but runc, nft and busybox, which
// are Debian's.
//
// There are two networks. The process that calls Start, and whatever it starts, is outside the cluster, as its users are, at addresses of
// 10.240.0.0/24. The node is behind a link at 10.240.0.1, with Pods in 10.244.0.0/24 and Services in 10.96.0.0/16, which only its
// kube-proxy knows. Both are namespaces of the sandbox, so everything that runs here, and every mount, ends with it; what is left then
// is a folder and control groups, which Remove removes.
package node
