package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// process is what a command gets from the operating system; tests give it something else.
type process struct {
	// name is what the process was started as.
	name           string
	stdout, stderr io.Writer
	signals        chan os.Signal
	stop           func()
	// adoptLog gives the logger to the libraries that log through one of the process's; they take it only once.
	adoptLog func(logr.Logger)
}

// newProcess returns the real process, with the signals that Podlane handles already caught.
func newProcess() *process {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	return &process{
		name:   calledAs(os.Args),
		stdout: os.Stdout, stderr: os.Stderr, signals: signals,
		stop: func() { signal.Stop(signals) },
		adoptLog: func(log logr.Logger) {
			ctrl.SetLogger(log)
			klog.SetLogger(log.WithName("client"))
		},
	}
}

// stopping are the two steps in which a process ends: term is done at the first SIGTERM or SIGINT, kill at the second,
// or as soon as the parent context is.
type stopping struct{ term, kill context.Context }

// watchSignals returns the steps, and calls reopen for every SIGUSR1, until release is called. release waits for its goroutine.
func (p *process) watchSignals(ctx context.Context, reopen func()) (s stopping, release func()) {
	kill, killNow := context.WithCancel(ctx)
	term, termNow := context.WithCancel(kill)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case sig := <-p.signals:
				switch {
				case sig == syscall.SIGUSR1:
					reopen()
				case term.Err() == nil:
					termNow()
				default:
					killNow()
				}
			}
		}
	})
	var once sync.Once
	return stopping{term, kill}, func() {
		once.Do(func() { close(done) })
		watching.Wait()
		termNow()
		killNow()
	}
}
