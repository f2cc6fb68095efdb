// Package scenarios holds the tests that drive Podlane in a real cluster as its users do: the chart is installed with Helm, manifests are applied
// with kubectl, and curl asks from outside, at the address that the load balancer gave. They run in the cluster of the variable
// KUBECONFIG when PODLANE_E2E is set, which `make e2e` does, after it has brought one up where there is none; otherwise they are
// skipped. In a cluster that is not test/node's, the images must be where its nodes find them: PODLANE_IMAGE and PODLANE_BACKEND_IMAGE name them,
// with their tags. The faster tests of the same scenarios, and of much more, are in test/e2e.
package scenarios
