//go:build race

package server_test

// slower is how many times fewer handshakes a test makes under the race detector.
const slower = 5
