package main

import (
	"context"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &process{signals: make(chan os.Signal)}
		reopened := make(chan struct{}, 2)
		s, release := p.watchSignals(t.Context(), func() { reopened <- struct{}{} })

		p.signals <- syscall.SIGUSR1
		synctest.Wait()
		if len(reopened) != 1 || s.term.Err() != nil {
			t.Errorf("after SIGUSR1: %d reopened, term %v; want 1, not done", len(reopened), s.term.Err())
		}
		p.signals <- syscall.SIGTERM
		synctest.Wait()
		if s.term.Err() == nil || s.kill.Err() != nil {
			t.Errorf("after the first SIGTERM: term %v, kill %v; want only term done", s.term.Err(), s.kill.Err())
		}
		p.signals <- syscall.SIGUSR1
		synctest.Wait()
		if len(reopened) != 2 || s.kill.Err() != nil {
			t.Error("SIGUSR1 while draining must reopen the log and nothing else")
		}
		p.signals <- syscall.SIGINT
		synctest.Wait()
		if s.kill.Err() == nil {
			t.Error("after the second signal: not killed")
		}
		release()
		release()
	})
}

func TestSignalsEndWithTheParent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &process{signals: make(chan os.Signal)}
	s, release := p.watchSignals(ctx, func() {})
	defer release()
	cancel()
	<-s.term.Done()
	<-s.kill.Done()
}

func TestWaitIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		wait(t.Context(), time.Minute)
		if got := time.Since(start); got != time.Minute {
			t.Errorf("waited %v, want a minute", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		wait(ctx, time.Minute)
		if got := time.Since(start); got != time.Second {
			t.Errorf("waited %v after the second signal, want a second", got)
		}
	})
}
