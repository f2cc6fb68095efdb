//go:build !race

package floods_test

const raceEnabled = false
