//go:build race

package bodies

const raceEnabled = true
