// Package chart tests what users install Podlane with: the Helm chart, the kustomize bases and the samples of config, and
// the Dockerfile. It renders them with the real Helm and kustomize and checks the objects as Kubernetes' own types; whether
// an API server takes them is for package install.
package chart
