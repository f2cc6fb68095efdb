//go:build !race

package clients_test

// raceEnabled says that the tests themselves run with the race detector.
const raceEnabled = false
