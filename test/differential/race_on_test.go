//go:build race

package differential

// The race detector makes everything ten times as slow.
const defaultMutations = 2000
