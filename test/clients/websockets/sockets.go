package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

// subprotocol is what every client offers and every Pod takes.
const subprotocol = "podlane.test"

// maxMessage bounds a message.
const maxMessage = 8 << 20

// A kind is the opcode of a message (RFC 6455 section 5.2), which is what both libraries call it by too.
type kind int

const (
	text   kind = 1
	binary kind = 2
)

// An answer is what the Pod's handshake said.
type answer struct {
	status int
	fields http.Header
}

// A socket is a client's connection, whatever the library.
type socket interface {
	// send sends a message in as many frames as there are pieces.
	send(ctx context.Context, k kind, pieces ...[]byte) error
	receive(ctx context.Context) (k kind, message []byte, err error)
	// ping returns when the pong has come.
	ping(ctx context.Context) error
	// leave closes with a code and waits for the Pod's close; awaitClose waits for a close that the Pod begins.
	leave(code int, reason string) error
	awaitClose(ctx context.Context) (code int, reason string, err error)
	subprotocol() string
	cut()
}

// A library is a client.
type library struct {
	name string
	dial func(ctx context.Context, d dialer, target string) (socket, answer, error)
}

func clients() []library { return []library{{"coder", dialCoder}, {"gorilla", dialGorilla}} }

// libraries are the paths at which the Pod serves one each.
func libraries() []string { return []string{"coder", "gorilla"} }

type coderSocket struct{ *coder.Conn }

func dialCoder(ctx context.Context, d dialer, target string) (socket, answer, error) {
	transport := &http.Transport{TLSClientConfig: d.tls, DialContext: network}
	o := &coder.DialOptions{HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{subprotocol}}
	if d.deflate {
		o.CompressionMode, o.CompressionThreshold = coder.CompressionContextTakeover, 1
	}
	c, res, err := coder.Dial(ctx, target, o) //nolint:bodyclose // the library says that it need not be closed
	if err != nil {
		return nil, answer{}, err
	}
	c.SetReadLimit(maxMessage)
	return coderSocket{c}, answer{res.StatusCode, res.Header}, nil
}

func (c coderSocket) send(ctx context.Context, k kind, pieces ...[]byte) error {
	w, err := c.Writer(ctx, coder.MessageType(k))
	if err != nil {
		return err
	}
	for _, p := range pieces {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return w.Close()
}

func (c coderSocket) receive(ctx context.Context) (k kind, message []byte, err error) {
	t, b, err := c.Read(ctx)
	return kind(t), b, err
}

func (c coderSocket) ping(ctx context.Context) error {
	// Pongs are noticed by a reader.
	reading, stop := context.WithCancel(c.CloseRead(ctx))
	defer stop()
	return c.Ping(reading)
}

func (c coderSocket) leave(code int, reason string) error {
	return c.Close(coder.StatusCode(code), reason)
}

func (c coderSocket) awaitClose(ctx context.Context) (code int, reason string, err error) {
	_, _, err = c.Read(ctx)
	e, ok := errors.AsType[coder.CloseError](err)
	if !ok {
		return 0, "", err
	}
	return int(e.Code), e.Reason, nil
}

func (c coderSocket) subprotocol() string { return c.Subprotocol() }
func (c coderSocket) cut()                { _ = c.CloseNow() }

type gorillaSocket struct{ *gorilla.Conn }

func dialGorilla(ctx context.Context, d dialer, target string) (socket, answer, error) {
	dial := gorilla.Dialer{
		TLSClientConfig: d.tls, NetDialContext: network, Subprotocols: []string{subprotocol}, EnableCompression: d.deflate,
		HandshakeTimeout: patience, WriteBufferSize: 1024,
	}
	c, res, err := dial.DialContext(ctx, target, nil) //nolint:bodyclose // the library says that it need not be closed
	if err != nil {
		return nil, answer{}, err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	return gorillaSocket{c}, answer{res.StatusCode, res.Header}, nil
}

// send leaves it to the library to begin a frame whenever its buffer is full.
func (c gorillaSocket) send(_ context.Context, k kind, pieces ...[]byte) error {
	w, err := c.NextWriter(int(k))
	if err != nil {
		return err
	}
	for _, p := range pieces {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return w.Close()
}

func (c gorillaSocket) receive(context.Context) (k kind, message []byte, err error) {
	t, b, err := c.ReadMessage()
	return kind(t), b, err
}

func (c gorillaSocket) ping(context.Context) error {
	const payload = "are you there"
	var got []string
	c.SetPongHandler(func(text string) error {
		got = append(got, text)
		return nil
	})
	if err := c.WriteControl(gorilla.PingMessage, []byte(payload), time.Now().Add(patience)); err != nil {
		return err
	}
	// Pongs are noticed by a reader: what the Pod sends back comes after the pong.
	if err := c.WriteMessage(gorilla.TextMessage, []byte("after")); err != nil {
		return err
	}
	if _, message, err := c.ReadMessage(); err != nil || string(message) != "after" || len(got) != 1 || got[0] != payload {
		return fmt.Errorf("pongs %q, then %q %v", got, message, err) //nolint:errorlint // there may be none
	}
	return nil
}

func (c gorillaSocket) leave(code int, reason string) error {
	if err := c.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(code, reason), time.Now().Add(patience)); err != nil {
		return err
	}
	if got, _, err := c.awaitClose(context.Background()); got != code {
		return fmt.Errorf("the Pod closed with %d %v", got, err) //nolint:errorlint // there may be none
	}
	return nil
}

func (c gorillaSocket) awaitClose(context.Context) (code int, reason string, err error) {
	_, _, err = c.ReadMessage()
	e, ok := errors.AsType[*gorilla.CloseError](err)
	if !ok {
		return 0, "", err
	}
	return e.Code, e.Text, nil
}

func (c gorillaSocket) subprotocol() string { return c.Subprotocol() }
func (c gorillaSocket) cut()                { _ = c.Close() }
