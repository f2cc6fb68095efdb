// Command podlane is a Kubernetes ingress controller whose proxy lives in the same process as its controllers.
//
// This package owns the command line: it turns flags into objects and starts and stops them. It holds no rule about
// Ingresses, requests or endpoints; those live in router, proxy and controllers, which meet here through plain functions.
package main

import (
	"context"
	"os"
)

func main() {
	p := newProcess()
	code := run(context.Background(), p, os.Args[1:])
	p.stop()
	os.Exit(code)
}
