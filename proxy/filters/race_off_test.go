//go:build !race

package filters_test

// raceEnabled says that sync.Pool drops objects at random.
const raceEnabled = false
