package subrequest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// The bounds of the requests of one Client. One host gets a quarter of all connections at most, so that one service that hangs leaves room
// for the others.
const (
	maxUnderWay       = 1024
	maxPerHost        = maxUnderWay / 4
	maxIdle           = 256
	maxIdlePerHost    = 64
	maxIdleTime       = time.Minute
	maxHead           = 64 << 10
	maxBody           = 64 << 10 // of an answer: what is beyond it costs the connection
	connectTimeout    = 5 * time.Second
	keepAliveInterval = 15 * time.Second
)

// ErrBusy says that too many copies are under way.
var ErrBusy = errors.New("too many requests of the proxy's own are under way")

// errInvalid is for answers that hold what no field may hold.
var errInvalid = errors.New("the answer has a field with control characters")

// RefusedError says that a name leads to an address that may not be reached.
type RefusedError struct {
	Addr netip.Addr
	Why  string
}

// Error names the address.
func (e *RefusedError) Error() string { return fmt.Sprintf("%s may not be reached: %s", e.Addr, e.Why) }

// Options are the settings of a Client.
type Options struct {
	// Refused says why an address may not be reached, "" where it may; nil lets every address be reached.
	Refused func(netip.Addr) string
	// Dial, where set, connects in place of a net.Dialer; Refused is then its business.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Copied, where set, is told what became of each copy. It may be called concurrently, and must not block.
	Copied func(Outcome)
}

// Outcome is what became of a copy.
type Outcome uint8

// The outcomes. Sent says that there was an answer, whatever it said.
const (
	Sent Outcome = iota
	Failed
	Dropped
)

// Outcomes is the number of outcomes.
const Outcomes = 3

// String returns the outcome as a metric's label.
func (o Outcome) String() string { return [Outcomes]string{"sent", "failed", "dropped"}[o] }

// Client makes requests. It may be used concurrently; Close ends it.
type Client struct {
	options   Options
	transport *http.Transport
	slots     chan struct{} // has an element for each request under way
	copies    copies
}

// New returns a Client. Copies end with ctx.
func New(ctx context.Context, o Options) *Client {
	c := &Client{options: o, slots: make(chan struct{}, maxUnderWay)}
	c.copies.init(ctx)
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: connectTimeout, KeepAlive: keepAliveInterval, ControlContext: c.guard}).DialContext
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c.transport = &http.Transport{
		DialContext: o.Dial,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			// nginx does not verify whom it proxies to unless it is told to, and ingress-nginx has no words to tell it so for these.
			InsecureSkipVerify: true, //nolint:gosec // see above
		},
		TLSHandshakeTimeout:    connectTimeout,
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxConnsPerHost:        maxPerHost,
		IdleConnTimeout:        maxIdleTime,
		MaxResponseHeaderBytes: maxHead,
		Protocols:              protocols,
	}
	return c
}

// guard refuses addresses before they are connected to, whatever name led there.
func (c *Client) guard(_ context.Context, _, address string, _ syscall.RawConn) error {
	if c.options.Refused == nil {
		return nil
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if why := c.options.Refused(ap.Addr()); why != "" {
		return &RefusedError{ap.Addr(), why}
	}
	return nil
}

// Close ends what is under way of copies, and closes connections that are idle. Requests of Do end with their contexts.
func (c *Client) Close() {
	c.copies.close()
	c.transport.CloseIdleConnections()
}

// Request is what is sent. Its slices may be those of an Exchange: nothing is kept after Do, and Copy clones what it keeps.
type Request struct {
	Method string
	// URL is absolute, with the scheme http or https.
	URL string
	// Host is the Host field; "" is that of URL.
	Host   string
	Body   []byte
	header http.Header
}

// Forward adds the fields of a client's request but for those that are about its body or its connection.
func (r *Request) Forward(f *exchange.Fields) {
	if r.header == nil {
		r.header = make(http.Header, f.Len()+8)
	}
	for i := range f.Len() {
		id, name, value, ok := f.At(i)
		if !ok || !passes(id) {
			continue
		}
		// Known names in one spelling: the transport looks for some of them by it.
		key := id.Name()
		if key == "" {
			key = string(name)
		}
		r.header[key] = append(r.header[key], string(value))
	}
}

// passes reports whether a field of a client's request goes into a request of the proxy's own.
func passes(id exchange.ID) bool {
	switch id {
	case exchange.Host, exchange.Connection, exchange.ContentLength, exchange.TransferEncoding, exchange.Expect, exchange.Upgrade, exchange.TE,
		exchange.Trailer, exchange.KeepAlive, exchange.ProxyConnection, exchange.ProxyAuthenticate, exchange.ProxyAuthorization,
		exchange.HTTP2Settings, exchange.Proxy:
		return false
	}
	return true
}

// Set replaces the fields of that name, in any spelling; an empty value only removes them.
func (r *Request) Set(name, value string) {
	for key := range r.header {
		if exchange.EqualFold(key, name) {
			delete(r.header, key)
		}
	}
	if value == "" {
		return
	}
	if r.header == nil {
		r.header = make(http.Header)
	}
	if id := exchange.IDOf(name); id != exchange.Unknown {
		name = id.Name()
	}
	r.header[name] = []string{value}
}

// Answer is the head of an answer.
type Answer struct {
	Status int
	header http.Header
}

// Values returns the values of a field, in any spelling of its name.
func (a *Answer) Values(name string) []string { return a.header.Values(name) }

// Do sends r and returns the head of the answer. It waits for its turn, for the connection and for the answer until ctx ends. The error says
// that there was none that can be used.
func (c *Client) Do(ctx context.Context, r *Request) (*Answer, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other requests: %w", ctx.Err())
	}
	defer func() { <-c.slots }()
	return c.roundTrip(ctx, r)
}

func (c *Client) roundTrip(ctx context.Context, r *Request) (*Answer, error) {
	request, err := r.compile(ctx)
	if err != nil {
		return nil, err
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, request.URL.Host, err)
	}
	defer response.Body.Close()
	// What decides has come. A body that is whole within the bound leaves the connection usable, and nobody reads it; any other costs it.
	_, _ = io.CopyN(io.Discard, response.Body, maxBody)
	for _, values := range response.Header {
		for _, value := range values {
			if !printable(value) {
				return nil, errInvalid
			}
		}
	}
	return &Answer{response.StatusCode, response.Header}, nil
}

// compile returns r as net/http has it.
func (r *Request) compile(ctx context.Context) (*http.Request, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, fmt.Errorf("parse the URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("the URL has no host: scheme %q", u.Scheme)
	}
	request := &http.Request{
		Method: r.Method, URL: u, Host: r.Host, Header: r.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if request.Header == nil {
		request.Header = make(http.Header)
	}
	if _, given := request.Header["User-Agent"]; !given {
		request.Header["User-Agent"] = nil // or the transport names itself
	}
	if len(r.Body) > 0 {
		request.Body = io.NopCloser(bytes.NewReader(r.Body))
		request.ContentLength = int64(len(r.Body))
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
	}
	return request.WithContext(ctx), nil
}

// printable reports whether value may be the value of a field that is sent on.
func printable(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
