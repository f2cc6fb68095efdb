// Package resources injects the faults of clients, of load and of what a process has too little of (file descriptors, memory,
// a log that nobody reads) into a running Podlane, and holds it to the outcome that the design promises for each. Tests are
// named after the fault, F7 to F30, or after the attack on resources, D1 to D12, that they inject, and print what they measured.
//
// Faults of a process (limits, signals, its streams) are injected into the real binary; the others into an engine in the test's own
// process, where a test can count what leaks. The package holds tests only.
package resources
