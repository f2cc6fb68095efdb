// Package explain holds the test that an explanation says what the proxy does: requests at random, over tables at random, are explained and then sent
// over real sockets to real Pods.
package explain
