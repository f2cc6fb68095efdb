//go:build !race

package differential

const defaultMutations = 6000
