// Package e2e owns the scenarios of a user: manifests go in by kubectl apply, requests by curl --resolve, the API server and
// its controllers are real, Pods are processes with Pod IPs and probes of their own, and Podlane is the built command, run
// with the rights of config/rbac and no others. It has tests only, and uses nothing of the product's packages.
//
// Tests that measure or put load on the machine run alone; the others are parallel. What a test measures is in its log:
//
//	go test -v ./test/e2e -run TestS1
package e2e
