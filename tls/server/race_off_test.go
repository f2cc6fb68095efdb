//go:build !race

package server_test

const slower = 1
