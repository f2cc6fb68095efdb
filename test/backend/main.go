// Command backend is the Pod of the demo and of the tests: an HTTP server that says who it is, echoes what it is sent, and
// fails, stalls and shuts down in the ways that a test asks for. It uses the standard library only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	listen        listFlag
	name          string
	answer        string
	shutdown      string
	shutdownDelay time.Duration
	startDelay    time.Duration
	ready         bool
}

// listFlag is a flag that may be given several times.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, ",") }

func (l *listFlag) Set(v string) error {
	*l = append(*l, strings.Split(v, ",")...)
	return nil
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("backend", flag.ContinueOnError)
	f.Var(&o.listen, "listen", "`address` to serve HTTP on; may be repeated (default :8000)")
	f.StringVar(&o.name, "name", "", "the name to answer with (default the host's name)")
	f.StringVar(&o.answer, "answer", "this is %s", "the answer on /, with %s for the name")
	f.StringVar(&o.shutdown, "shutdown", "graceful", "on SIGTERM: graceful (accept for -shutdown-delay, then finish), "+
		"refuse (accept nothing more, finish what was accepted), abrupt (exit at once), ignore")
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", 2*time.Second, "how long a graceful shutdown goes on accepting")
	f.DurationVar(&o.startDelay, "start-delay", 0, "how long to wait before listening")
	f.BoolVar(&o.ready, "ready", true, "what /readyz says at first")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if len(o.listen) == 0 {
		o.listen = listFlag{":8000"}
	}
	if o.name == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		o.name = name
	}
	switch o.shutdown {
	case "graceful", "refuse", "abrupt", "ignore":
	default:
		return nil, fmt.Errorf("unknown -shutdown=%s", o.shutdown)
	}
	return o, nil
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = serve(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

// serve runs until a signal has ended it in the way that the options ask for.
func serve(o *options) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	time.Sleep(o.startDelay)
	b := newBackend(o)
	server := &http.Server{Handler: b, ConnContext: withRecorder, ReadHeaderTimeout: time.Minute}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	failed := make(chan error, len(o.listen))
	var listeners sync.WaitGroup
	for _, address := range o.listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		log.Printf("%s listens on %s", o.name, l.Addr())
		listeners.Go(func() { failed <- server.Serve(recordingListener{l}) })
	}
	for {
		select {
		case err := <-failed:
			return err
		case s := <-signals:
			log.Printf("%s: shutdown %s", s, o.shutdown)
			if o.shutdown == "ignore" {
				continue
			}
			if o.shutdown == "abrupt" {
				return nil
			}
			return b.shutdown(server)
		}
	}
}

func (b *backend) shutdown(server *http.Server) error {
	b.ready.Store(false)
	if b.shutdownMode == "graceful" {
		time.Sleep(b.shutdownDelay)
	}
	// Shutdown closes the listeners and the idle connections at once, and the others after their answer.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	err := server.Shutdown(ctx)
	log.Printf("ended after %d requests on %d connections", b.requests.Load(), b.connections.Load())
	return err
}
