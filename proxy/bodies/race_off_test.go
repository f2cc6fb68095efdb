//go:build !race

package bodies

const raceEnabled = false
