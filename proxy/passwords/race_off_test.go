//go:build !race

package passwords_test

const raceEnabled = false
