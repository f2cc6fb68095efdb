// Package soak runs a mixed load through a `podlane serve` process for a while, with clients that abort and dawdle, Pods that reset,
// and endpoints and routes that come and go, and holds it to three things: no wrong answer, memory that stays flat, and nothing left
// behind when the load is over. The short form is a test like any other; `make soak` runs the long one. The package holds tests only.
package soak
