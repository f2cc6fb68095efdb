//go:build !race

package differential

const defaultMutations = 20000
