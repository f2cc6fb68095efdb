// Package install tests that a real API server takes what package chart renders, and that Podlane works with the rights that
// the chart gives it and no others. It installs the chart as a user does, with its Pods as processes.
package install
