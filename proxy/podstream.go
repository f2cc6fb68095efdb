package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"podlane.dev/podlane/proxy/http2"
	"podlane.dev/podlane/proxy/upstream"
)

// podConns are the HTTP/2 connections to Pods. Each has a goroutine that reads its frames; the engine's sweeper keeps their times.
type podConns struct {
	mu      sync.Mutex
	all     []*http2.ClientConn
	closed  bool
	serving sync.WaitGroup
}

// add enters a connection and reads its frames until it ends; it reports whether the engine still takes connections.
func (p *podConns) add(e *Engine, cc *http2.ClientConn, uc *upstream.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.all = append(p.all, cc)
	p.serving.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				e.panicked(v)
			}
			p.remove(cc)
			_ = uc.Close()
		}()
		// What happened the streams are told; an idle connection that ends is nobody's concern.
		_ = cc.Serve()
	})
	return true
}

func (p *podConns) remove(cc *http2.ClientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.all, cc); i >= 0 {
		last := len(p.all) - 1
		p.all[i], p.all[last] = p.all[last], nil
		p.all = p.all[:last]
	}
}

// sweep keeps the connections' times.
func (p *podConns) sweep(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cc := range p.all {
		cc.Sweep(time.Duration(now) * time.Millisecond)
	}
}

// close ends all connections, and returns when they have ended.
func (p *podConns) close() {
	p.mu.Lock()
	p.closed = true
	for _, cc := range p.all {
		cc.Close()
	}
	p.mu.Unlock()
	p.serving.Wait()
}

// podOptions are the limits of HTTP/2 connections to Pods.
func (e *Engine) podOptions(uc *upstream.Conn) http2.Options {
	return http2.Options{
		HeaderList: e.limits.ResponseHead, Fields: e.limits.ResponseFields,
		Secure: uc.Profile().TLS != nil,
		Grow:   func() bool { return e.memory.now() == calm },
		// The time for connecting bounds the greeting.
		Timeouts: http2.Timeouts{FirstByte: -1, Idle: e.registry.Reuse().IdleTimeout, Stall: e.timeouts.Stall},
	}
}

// podStream is the podWire of a stream of HTTP/2. It is one exchange's, because those who interrupt may come late, when the stream is another's.
type podStream struct {
	e  *Engine
	ep *upstream.Endpoint

	mu    sync.Mutex // guards what follows: nobody touches a stream that was given back
	st    *http2.ClientStream
	ended bool

	counted bool // the exchange's own
}

// openStream returns a leg to ep over a connection that others may share: one that is younger than since.
func (s *session) openStream(ep *upstream.Endpoint, p *upstream.Profile, since int64) (*pod, error) {
	if err := ep.Reserve(); err != nil {
		return nil, err
	}
	w := &podStream{e: s.e, ep: ep, counted: true}
	_, fresh, err := ep.Share(*p, since, s.chain.limits.connect, w)
	if err != nil {
		ep.Cancel()
		return nil, err
	}
	return &pod{podSide: w.st, podWire: w, ep: ep, reused: !fresh}, nil
}

var (
	errNotHTTP2 = errors.New("the pod does not speak HTTP/2")
	errStopped  = errors.New("the engine is shut down")
)

// Begin implements upstream.Sharer.
func (w *podStream) Begin(ctx context.Context, uc *upstream.Conn) (upstream.Carrier, error) {
	cc := http2.NewClientConn(uc.Conn, w.e.podOptions(uc))
	if !w.e.pods.add(w.e, cc, uc) {
		return nil, errStopped
	}
	select {
	case <-cc.Greeted():
	case <-ctx.Done():
		cc.Close()
		return nil, ctx.Err()
	}
	if !cc.Usable() {
		return nil, errNotHTTP2
	}
	return cc, nil
}

// Take implements upstream.Sharer.
func (w *podStream) Take(c upstream.Carrier) bool {
	st, err := c.(*http2.ClientConn).Open()
	if err != nil {
		return false
	}
	w.st = st
	return true
}

// live calls f while the stream is w's.
func (w *podStream) live(f func(*http2.ClientStream)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		f(w.st)
	}
}

func (w *podStream) interruptRead()  { w.live((*http2.ClientStream).InterruptRead) }
func (w *podStream) interruptWrite() { w.live((*http2.ClientStream).InterruptWrite) }
func (w *podStream) abort()          { w.live((*http2.ClientStream).Cancel) }

func (w *podStream) uncount() {
	if w.counted {
		w.counted = false
		w.ep.Cancel()
	}
}

// end has nothing to keep: what is left of either side goes nowhere, and the Pod is told so.
func (w *podStream) end(ending) { w.lose() }

func (w *podStream) lose() {
	w.uncount()
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.st.Close()
}

// limitHead does nothing: heads are bounded for the whole connection, which other routes use too.
func (w *podStream) limitHead(int) {}

func (w *podStream) refused(err error) bool { return w.st.Refused(err) }

// tunnel is not to be had: the engine sends no upgrades to Pods that speak HTTP/2.
func (w *podStream) tunnel() tunnelEnd { return nil }
