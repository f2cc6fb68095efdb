// Command grpcpod is a Pod that speaks gRPC over HTTP/2 in clear: a part of the interoperability service, which says who answered.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// service answers with what it was sent, and with its own name.
type service struct {
	testgrpc.UnimplementedTestServiceServer
	name string
}

// UnaryCall echoes the payload.
func (s *service) UnaryCall(_ context.Context, q *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	return &testgrpc.SimpleResponse{Payload: q.GetPayload(), Hostname: s.name}, nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "grpcpod:", err)
		os.Exit(1)
	}
}

func run() error {
	address := flag.String("listen", ":8000", "`address` to serve on")
	delay := flag.Duration("shutdown-delay", 2*time.Second, "how long to go on as before on SIGTERM, while others learn of it")
	flag.Parse()
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, &service{name: name})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-ended:
		return err
	case <-term:
	}
	time.Sleep(*delay)
	s.GracefulStop()
	return <-ended
}
