package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what to send. Address and Host are required.
type Options struct {
	// Name distinguishes the ids of this load from others'.
	Name string
	// Address is asked where to connect to, as host:port, before each new connection; Fixed gives an answer that never changes.
	Address func() string
	// Source is where clients connect from, unless it is zero.
	Source netip.Addr
	// Host is the value of the field of that name.
	Host string
	// Method is GET unless set, Path is /check unless set.
	Method, Path string
	// Rate is the number of requests a second, of all clients together; Clients how many take turns (8 unless set).
	Rate, Clients int
	// KeepAlive keeps each client's connection. Without it each request has a connection of its own.
	KeepAlive bool
	// Reconnects is how often a client tries again, over a new connection and a little later each time, when it got no answer at all: that
	// is what a client does whose connection broke. An answer is taken as it is. None unless set.
	Reconnects int
	// Upload and Download are the lengths of the bodies.
	Upload, Download int
}

func (o *Options) path() string {
	if o.Path == "" {
		return "/check"
	}
	return o.Path
}

// Fixed returns an Options.Address that never changes.
func Fixed(address string) func() string { return func() string { return address } }

// A Result is what became of a load. It may be added up.
type Result struct {
	Sent, Failed int
	// Reconnected counts the tries that got no answer and were followed by another; Breaks are some of them with the time.
	Reconnected int
	Breaks      []string
	// Corrupt counts the failures that are wrong bytes; they are in Failed too.
	Corrupt int
	// Failures counts by kind; Examples are some of them with the time.
	Failures map[string]int
	Examples []string
	// Pods counts the good answers by Pod.
	Pods map[string]int
	// Took has the times of the good answers.
	Took []time.Duration
}

// String is one line for the log of a test.
func (r *Result) String() string {
	parts := []string{fmt.Sprintf("%d sent, %d failed, p50 %s, p99 %s, max %s", r.Sent, r.Failed,
		r.Quantile(0.5).Round(time.Microsecond), r.Quantile(0.99).Round(time.Microsecond), r.Quantile(1).Round(time.Microsecond))}
	if r.Reconnected > 0 {
		parts = append(parts, fmt.Sprintf("%d reconnected, first: %s", r.Reconnected, strings.Join(r.Breaks, " | ")))
	}
	for _, k := range slices.Sorted(maps.Keys(r.Failures)) {
		parts = append(parts, fmt.Sprintf("%d× %s", r.Failures[k], k))
	}
	if len(r.Examples) > 0 {
		parts = append(parts, "first: "+strings.Join(r.Examples, " | "))
	}
	return strings.Join(parts, "; ")
}

// Quantile is the time within which that part of the good answers came, 0 without any.
func (r *Result) Quantile(q float64) time.Duration {
	if len(r.Took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.Took))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Add adds another result to r.
func (r *Result) Add(o *Result) {
	r.Sent, r.Failed, r.Corrupt, r.Reconnected = r.Sent+o.Sent, r.Failed+o.Failed, r.Corrupt+o.Corrupt, r.Reconnected+o.Reconnected
	r.Failures, r.Pods = sum(r.Failures, o.Failures), sum(r.Pods, o.Pods)
	r.Examples, r.Breaks = append(r.Examples, o.Examples...), append(r.Breaks, o.Breaks...)
	r.Took = append(r.Took, o.Took...)
}

func sum(a, b map[string]int) map[string]int {
	out := map[string]int{}
	for _, m := range []map[string]int{a, b} {
		for k, n := range m {
			out[k] += n
		}
	}
	return out
}

// maxExamples bounds Result.Examples and Result.Breaks of one load.
const maxExamples = 5

// A Load is a stream of requests that goes on until Stop.
type Load struct {
	o       Options
	cancel  context.CancelFunc
	clients sync.WaitGroup

	mu     sync.Mutex
	result Result
}

// Start begins to send.
func Start(o Options) *Load {
	if o.Method == "" {
		o.Method = http.MethodGet
	}
	if o.Clients == 0 {
		o.Clients = 8
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{o: o, cancel: cancel, result: Result{Failures: map[string]int{}, Pods: map[string]int{}}}
	period := time.Second * time.Duration(o.Clients) / time.Duration(o.Rate)
	for i := range o.Clients {
		c := &client{o: &l.o, name: fmt.Sprintf("%s.%d", o.Name, i)}
		if o.Source.IsValid() {
			c.dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.Source, 0))
		}
		l.clients.Go(func() { l.run(ctx, c, period, time.Duration(i)*period/time.Duration(o.Clients)) })
	}
	return l
}

// run sends at the client's own pace. A client that falls behind catches up: the rate is that of the users, who do not wait for
// each other.
func (l *Load) run(ctx context.Context, c *client, period, offset time.Duration) {
	defer c.close()
	next := time.Now().Add(offset)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		next = next.Add(period)
		began := time.Now()
		// Stop ends the load between requests, never within one.
		pod, err := l.exchange(context.WithoutCancel(ctx), c)
		l.note(pod, began, err)
	}
}

// exchange is one request, over as many connections as the client has patience for.
func (l *Load) exchange(ctx context.Context, c *client) (pod string, err error) {
	for try := 1; ; try++ {
		began := time.Now()
		pod, err = c.exchange(ctx)
		if err == nil || c.answered || try > l.o.Reconnects {
			return pod, err
		}
		l.mu.Lock()
		l.result.Reconnected++
		if len(l.result.Breaks) < maxExamples {
			l.result.Breaks = append(l.result.Breaks, example(began, err))
		}
		l.mu.Unlock()
		time.Sleep(time.Duration(try) * pause)
	}
}

// pause is how long a client waits before it connects again for the first time.
const pause = 50 * time.Millisecond

func (l *Load) note(pod string, began time.Time, err error) {
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.result
	r.Sent++
	if err == nil {
		r.Pods[pod]++
		r.Took = append(r.Took, took)
		return
	}
	r.Failed++
	r.Failures[kind(err)]++
	if wrong := new(IntegrityError); errors.As(err, &wrong) {
		r.Corrupt++
	}
	if len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, example(began, err))
	}
}

// example says when a try began that has just failed, how long it took, and what was wrong.
func example(began time.Time, err error) string {
	return fmt.Sprintf("%s after %s: %v", began.Format("15:04:05.000"), time.Since(began).Round(time.Millisecond), err)
}

// Sent is the number of requests that were answered or failed so far.
func (l *Load) Sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.result.Sent
}

// FromPod is the number of good answers that a Pod gave so far.
func (l *Load) FromPod(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.result.Pods[name]
}

// Failed is the number of failed requests so far.
func (l *Load) Failed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.result.Failed
}

// Reconnected is the number of tries so far that got no answer and were followed by another.
func (l *Load) Reconnected() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.result.Reconnected
}

// Stop lets the requests in flight end and returns what became of all.
func (l *Load) Stop() *Result {
	l.cancel()
	l.clients.Wait()
	return &l.result
}
