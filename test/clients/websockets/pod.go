package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

// A closing is what ended a connection at the Pod.
type closing struct {
	code   int
	reason string
}

// A pod serves WebSocket: every message is sent back, but for "close CODE REASON", which closes so.
type pod struct {
	mu     sync.Mutex
	number int
	closed map[string]chan closing
}

func newPod() *pod { return &pod{closed: map[string]chan closing{}} }

// expect makes an id for a connection, and returns where its end will be told.
func (p *pod) expect() (id string, closed <-chan closing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	id = strconv.Itoa(p.number)
	c := make(chan closing, 1)
	p.closed[id] = c
	return id, c
}

// ServeHTTP takes a connection with the library that the path names.
func (p *pod) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	p.mu.Lock()
	closed := p.closed[q.FormValue("id")]
	p.mu.Unlock()
	var end closing
	var err error
	switch {
	case closed == nil:
		http.NotFound(w, q)
		return
	case q.URL.Path == "/coder":
		end, err = serveCoder(w, q)
	default:
		end, err = serveGorilla(w, q)
	}
	if err != nil {
		end = closing{reason: err.Error()}
	}
	closed <- end
}

// command is the close that a message asks for.
func command(message []byte) (c closing, ok bool) {
	rest, ok := strings.CutPrefix(string(message), "close ")
	if !ok {
		return c, false
	}
	code, reason, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	return closing{n, reason}, err == nil
}

func serveCoder(w http.ResponseWriter, q *http.Request) (closing, error) {
	c, err := coder.Accept(w, q, &coder.AcceptOptions{Subprotocols: []string{subprotocol}, CompressionMode: coder.CompressionContextTakeover, CompressionThreshold: 1})
	if err != nil {
		return closing{}, err
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxMessage)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		kind, message, err := c.Read(ctx)
		if e, ok := errors.AsType[coder.CloseError](err); ok {
			return closing{int(e.Code), e.Reason}, nil
		}
		if err != nil {
			return closing{}, err
		}
		if end, ok := command(message); ok {
			return end, c.Close(coder.StatusCode(end.code), end.reason)
		}
		if err := c.Write(ctx, kind, message); err != nil {
			return closing{}, err
		}
	}
}

func serveGorilla(w http.ResponseWriter, q *http.Request) (closing, error) {
	upgrader := gorilla.Upgrader{Subprotocols: []string{subprotocol}, EnableCompression: true, WriteBufferSize: 1024}
	c, err := upgrader.Upgrade(w, q, nil)
	if err != nil {
		return closing{}, err
	}
	defer func() { _ = c.Close() }()
	end := time.Now().Add(patience)
	_ = c.SetReadDeadline(end)
	_ = c.SetWriteDeadline(end)
	for {
		kind, message, err := c.ReadMessage()
		if e, ok := errors.AsType[*gorilla.CloseError](err); ok {
			return closing{e.Code, e.Text}, nil
		}
		if err != nil {
			return closing{}, err
		}
		if asked, ok := command(message); ok {
			if err := c.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(asked.code, asked.reason), end); err != nil {
				return closing{}, err
			}
			_, _, err := c.ReadMessage()
			if e, ok := errors.AsType[*gorilla.CloseError](err); !ok || e.Code != asked.code {
				return closing{}, fmt.Errorf("closed with %d, the client said %v", asked.code, err) //nolint:errorlint // there may be none
			}
			return asked, nil
		}
		if err := c.WriteMessage(kind, message); err != nil {
			return closing{}, err
		}
	}
}
