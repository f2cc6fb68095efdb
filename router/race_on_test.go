//go:build race

package router

// raceEnabled says that sync.Pool drops objects at random.
const raceEnabled = true
