package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// A session is a client's connection under test.
type session struct {
	socket
	answer  answer
	closed  <-chan closing
	deflate bool
}

// A trialCase is what is tried on a connection of its own.
type trialCase struct {
	name string
	run  func(ctx context.Context, s *session) error
}

func cases() []trialCase {
	return []trialCase{
		{"what was agreed", agreed},
		{"small messages", small},
		{"a megabyte", megabyte},
		{"fragments", fragments},
		{"ping", func(ctx context.Context, s *session) error { return s.ping(ctx) }},
		{"the client closes", clientCloses(1000, "")},
		{"the client closes with a code of its own", clientCloses(4001, "enough of it")},
		{"the Pod closes", podCloses(1000, "done")},
		{"the Pod closes with an error", podCloses(1011, "it broke")},
		{"the Pod closes with a code of its own", podCloses(4999, "höchste Zeit")},
		{"the client is cut", cut},
	}
}

// agreed: the answer's fields come as the Pod wrote them, and both sides follow them.
func agreed(ctx context.Context, s *session) error {
	h := s.answer.fields
	deflated := strings.HasPrefix(h.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
	if s.answer.status != http.StatusSwitchingProtocols || deflated != s.deflate || s.subprotocol() != subprotocol {
		return fmt.Errorf("%d %q, subprotocol %q", s.answer.status, h, s.subprotocol())
	}
	return small(ctx, s)
}

// echo sends a message in pieces and expects it back.
func echo(ctx context.Context, s *session, k kind, pieces ...[]byte) error {
	if err := s.send(ctx, k, pieces...); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	want := bytes.Join(pieces, nil)
	gotKind, got, err := s.receive(ctx)
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	if gotKind != k || !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes came back, not the %d that were sent", len(got), len(want))
	}
	return nil
}

func small(ctx context.Context, s *session) error {
	var errs []error
	for range 50 {
		errs = append(errs,
			echo(ctx, s, text, []byte("grüße")), echo(ctx, s, binary, []byte{0, 1, 2, 0xff}), echo(ctx, s, text, nil),
			// The lengths at which a frame's head grows.
			echo(ctx, s, binary, make([]byte, 125)), echo(ctx, s, binary, make([]byte, 126)), echo(ctx, s, binary, make([]byte, 65536)))
	}
	return errors.Join(errs...)
}

// pattern is n bytes that compress a little.
func pattern(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = 'a' + byte(x>>24)%16
	}
	return b
}

func megabyte(ctx context.Context, s *session) error {
	return errors.Join(echo(ctx, s, binary, pattern(1<<20)), echo(ctx, s, text, pattern(1<<20)))
}

func fragments(ctx context.Context, s *session) error {
	var pieces [][]byte
	for i := range 100 {
		pieces = append(pieces, pattern(i*37))
	}
	return errors.Join(echo(ctx, s, binary, pieces...), echo(ctx, s, text, pieces...))
}

// clientCloses: the Pod sees the code and the reason, and the client sees the Pod's answer.
func clientCloses(code int, reason string) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		if err := s.leave(code, reason); err != nil {
			return err
		}
		return s.ends(ctx, closing{code, reason})
	}
}

// podCloses: the client sees the code and the reason.
func podCloses(code int, reason string) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		if err := s.send(ctx, text, fmt.Appendf(nil, "close %d %s", code, reason)); err != nil {
			return err
		}
		got, why, err := s.awaitClose(ctx)
		if got != code || why != reason || err != nil {
			return fmt.Errorf("closed with %d %q: %v", got, why, err) //nolint:errorlint // there may be none
		}
		return s.ends(ctx, closing{code, reason})
	}
}

// cut: a connection that ends without a close ends at the Pod too, which takes it for an abnormal one.
func cut(ctx context.Context, s *session) error {
	if err := echo(ctx, s, text, []byte("still there")); err != nil {
		return err
	}
	s.cut()
	select {
	case end := <-s.closed:
		const abnormal = 1006
		if end.code != 0 && end.code != abnormal {
			return fmt.Errorf("the Pod saw %+v", end)
		}
		return nil
	case <-ctx.Done():
		return errors.New("the Pod does not see that the client is gone")
	}
}

// ends waits until the Pod's side has ended, and compares how.
func (s *session) ends(ctx context.Context, want closing) error {
	select {
	case end := <-s.closed:
		if end != want {
			return fmt.Errorf("the Pod saw %+v, want %+v", end, want)
		}
		return nil
	case <-ctx.Done():
		return errors.New("the Pod's side does not end")
	}
}
