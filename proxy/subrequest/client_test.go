package subrequest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/subrequest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service returns the URL of a server, and a Client that may ask it.
func service(t testing.TB, o subrequest.Options, h http.HandlerFunc) (string, *subrequest.Client) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c := subrequest.New(context.Background(), o)
	t.Cleanup(c.Close)
	return s.URL, c
}

// fields returns the fields of a client's request.
func fields(pairs ...string) *exchange.Fields {
	f := new(exchange.Fields)
	f.Reset(nil)
	for i := 0; i < len(pairs); i += 2 {
		f.AddString(pairs[i], pairs[i+1])
	}
	return f
}

func TestFieldsOfTheClient(t *testing.T) {
	var got *http.Request
	var body []byte
	url, c := service(t, subrequest.Options{}, func(_ http.ResponseWriter, q *http.Request) {
		got = q
		body, _ = io.ReadAll(q.Body)
	})
	r := &subrequest.Request{Method: "POST", URL: url + "/a%2Fb?c=%20", Host: "auth.example", Body: []byte("hello")}
	r.Forward(fields("host", "a.example", "user-agent", "me", "Content-Length", "7", "Transfer-Encoding", "chunked", "TE", "trailers", "Cookie", "a=1",
		"x-CASE", "1", "X-Case", "2", "Accept-Encoding", "br", "Expect", "100-continue", "Connection", "close", "Proxy", "x"))
	r.Set("X-case", "3")
	r.Set("cookie", "")
	r.Set("x-real-ip", "192.0.2.1")
	answer, err := c.Do(t.Context(), r)
	if err != nil || answer.Status != 200 {
		t.Fatal(answer, err)
	}
	want := http.Header{"User-Agent": {"me"}, "X-Case": {"3"}, "Accept-Encoding": {"br"}, "X-Real-Ip": {"192.0.2.1"}, "Content-Length": {"5"}}
	if len(got.Header) != len(want) {
		t.Errorf("got %v", got.Header)
	}
	for key := range want {
		if got.Header.Get(key) != want.Get(key) || len(got.Header[key]) != 1 {
			t.Errorf("%s is %q, want %q", key, got.Header[key], want[key])
		}
	}
	if got.Host != "auth.example" || got.RequestURI != "/a%2Fb?c=%20" || got.Method != "POST" || string(body) != "hello" || got.ProtoMajor != 1 {
		t.Errorf("got %s %s %s of %s: %q", got.Method, got.RequestURI, got.Proto, got.Host, body)
	}
	if _, err := c.Do(t.Context(), &subrequest.Request{Method: "GET", URL: url}); err != nil || len(got.Header) != 0 || got.RequestURI != "/" {
		t.Errorf("a request without fields has %v: %v", got.Header, err)
	}
}

func TestWhatIsNoURL(t *testing.T) {
	_, c := service(t, subrequest.Options{}, nil)
	for _, url := range []string{"", "a.example", "ftp://a.example/", "http://", "http://a b/", "http://a.example/%zz", "https://:80/"} {
		if _, err := c.Do(t.Context(), &subrequest.Request{Method: "GET", URL: url}); err == nil {
			t.Errorf("%q is asked", url)
		}
	}
}

func TestRefusedAddresses(t *testing.T) {
	var asked atomic.Int32
	url, c := service(t, subrequest.Options{Refused: func(a netip.Addr) string {
		if a.IsLoopback() {
			return "it is loopback"
		}
		return ""
	}}, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	_, err := c.Do(t.Context(), &subrequest.Request{Method: "GET", URL: url})
	var refused *subrequest.RefusedError
	if !errors.As(err, &refused) || !refused.Addr.IsLoopback() || asked.Load() != 0 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
}

// Connections are kept, and not more than some requests go to one host at a time; the others wait for their turn, or end with their contexts.
func TestRequestsAreBounded(t *testing.T) {
	var now, most atomic.Int32
	var mu sync.Mutex
	peers := map[string]bool{}
	release := make(chan struct{})
	url, c := service(t, subrequest.Options{}, func(_ http.ResponseWriter, q *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		mu.Lock()
		peers[q.RemoteAddr] = true
		mu.Unlock()
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-release
	})
	const all, limit = 300, 256
	var done sync.WaitGroup
	var failed atomic.Int32
	for range all {
		done.Go(func() {
			if _, err := c.Do(t.Context(), &subrequest.Request{Method: "GET", URL: url}); err != nil {
				failed.Add(1)
			}
		})
	}
	for end := time.Now().Add(20 * time.Second); now.Load() < limit && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, &subrequest.Request{Method: "GET", URL: url}); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended: %v", err)
	}
	close(release)
	done.Wait()
	if most.Load() != limit || failed.Load() != 0 {
		t.Errorf("%d at a time, %d failed", most.Load(), failed.Load())
	}
	if len(peers) > limit {
		t.Errorf("%d connections", len(peers))
	}
}

// Copies are dropped where too many are under way, and end with the Client.
func TestCopies(t *testing.T) {
	var outcomes [subrequest.Outcomes]atomic.Int32
	arrived := make(chan string, 1000)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		arrived <- string(body)
		if q.URL.Path == "/hang" {
			<-q.Context().Done()
		}
	}))
	defer s.Close()
	c := subrequest.New(context.Background(), subrequest.Options{Copied: func(o subrequest.Outcome) { outcomes[o].Add(1) }})
	first := c.Copy(&subrequest.Request{Method: "POST", URL: s.URL})
	first.Write([]byte("hello"))
	first.Write([]byte(" world"))
	first.Send()
	if body := <-arrived; body != "hello world" {
		t.Errorf("the copy has %q", body)
	}
	for outcomes[subrequest.Sent].Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := first.Close(); err != nil || c.Busy() {
		t.Errorf("busy with nothing: %v", err)
	}
	const limit = 256
	for range limit + 10 {
		c.Copy(&subrequest.Request{Method: "GET", URL: s.URL + "/hang"}).Send()
	}
	for range limit {
		<-arrived
	}
	if !c.Busy() {
		t.Error("not busy with all that it can")
	}
	c.Close()
	c.Copy(&subrequest.Request{Method: "GET", URL: s.URL}).Send()
	if sent, failed, dropped := outcomes[0].Load(), outcomes[1].Load(), outcomes[2].Load(); sent != 1 || failed != limit || dropped != 10+1+1 {
		t.Errorf("%d sent, %d failed, %d dropped", sent, failed, dropped)
	}
	for o, want := range []string{"sent", "failed", "dropped"} {
		if got := subrequest.Outcome(o).String(); got != want {
			t.Errorf("outcome %d is %q", o, got)
		}
	}
}

// The memory of copies is bounded, by copy and in all, and is given back however they end.
func TestCopiesBoundTheirMemory(t *testing.T) {
	var dropped atomic.Int32
	_, c := service(t, subrequest.Options{Copied: func(o subrequest.Outcome) {
		if o == subrequest.Dropped {
			dropped.Add(1)
		}
	}}, func(http.ResponseWriter, *http.Request) {})
	begin := func() *subrequest.Copy { return c.Copy(&subrequest.Request{Method: "POST", URL: "http://a.example"}) }
	const one, all = 1 << 20, 32
	for range 3 { // what was given back can be taken again
		before := dropped.Load()
		long := begin()
		long.Write(make([]byte, one))
		if dropped.Load() != before {
			t.Fatal("a body that is as long as it may be is dropped")
		}
		long.Write([]byte("x"))
		long.Write([]byte("x"))
		if dropped.Load() != before+1 {
			t.Fatal("a body that is too long is not dropped")
		}
		held := make([]*subrequest.Copy, all)
		for i := range held {
			held[i] = begin()
			held[i].Write(make([]byte, one))
		}
		if dropped.Load() != before+1 {
			t.Fatal("bodies within the bound are dropped")
		}
		begin().Write([]byte("x"))
		if dropped.Load() != before+2 {
			t.Fatal("a body beyond the bound is not dropped")
		}
		if err := long.Close(); err != nil {
			t.Fatal(err)
		}
		for _, h := range held {
			if err := errors.Join(h.Close(), h.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if dropped.Load() != before+2+all {
			t.Fatalf("%d are dropped", dropped.Load()-before)
		}
	}
}
