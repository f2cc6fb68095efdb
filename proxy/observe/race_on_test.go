//go:build race

package observe

// raceEnabled says that the race detector is on, under which sync.Pool drops values at random.
const raceEnabled = true
