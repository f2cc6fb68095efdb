// Command grpcload calls a unary gRPC method at a steady rate, over several connections, until SIGTERM. Each answer must carry the payload of its own
// request. It prints what came of it as one line of JSON.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// result is what is printed.
type result struct {
	Calls, Failed, Corrupt int
	Errors                 map[string]int
	Pods                   map[string]int
}

// load is a run.
type load struct {
	mu     sync.Mutex
	result result
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "grpcload:", err)
		os.Exit(1)
	}
}

func run() error {
	address := flag.String("address", "", "`address` of the proxy")
	host := flag.String("host", "", "`host` to ask for")
	connections := flag.Int("connections", 4, "connections")
	workers := flag.Int("workers", 4, "callers on each connection")
	rate := flag.Float64("rate", 500, "calls a second, in all")
	patience := flag.Duration("patience", 20*time.Second, "deadline of a call")
	longest := flag.Duration("longest", 10*time.Minute, "how long to run at most")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *longest)
	defer cancel()
	l := &load{result: result{Errors: map[string]int{}, Pods: map[string]int{}}}
	var all sync.WaitGroup
	for range *connections {
		conn, err := grpc.NewClient("passthrough:///"+*address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(*host))
		if err != nil {
			return err
		}
		defer conn.Close()
		client := testgrpc.NewTestServiceClient(conn)
		for range *workers {
			interval := time.Duration(float64(time.Second) * float64(*connections**workers) / *rate)
			all.Go(func() { l.work(ctx, client, interval, *patience) })
		}
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(l.result)
}

// work calls every interval until ctx is done. A call that has begun is waited for.
func (l *load) work(ctx context.Context, client testgrpc.TestServiceClient, interval, patience time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		payload := make([]byte, 16+mathrand.IntN(8000))
		_, _ = rand.Read(payload)
		callCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		answer, err := client.UnaryCall(callCtx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: payload}})
		cancel()
		l.note(answer, err, payload)
	}
}

func (l *load) note(answer *testgrpc.SimpleResponse, err error, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.result
	r.Calls++
	switch {
	case err != nil:
		r.Failed++
		r.Errors[err.Error()]++
	case !bytes.Equal(answer.GetPayload().GetBody(), payload):
		r.Corrupt++
	default:
		r.Pods[answer.GetHostname()]++
	}
}
