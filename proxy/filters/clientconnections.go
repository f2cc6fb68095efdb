package filters

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"podlane.dev/podlane/router/policy"
)

// Clients are the limits of connections with clients. Where a field is 0 the proxy's own setting holds.
type Clients struct {
	// KeepAlive is how long a connection may be idle between requests; negative means that it ends after its answer.
	KeepAlive time.Duration
	// Requests is the number of requests after which it is closed, Streams how many it may have under way.
	Requests, Streams int
	// Header bounds the wait for a request's head, Body a pause in its body.
	Header, Body time.Duration
	// RequestLine and HeaderBlock are sizes of a head in bytes.
	RequestLine, HeaderBlock int
	// Shutdown is how long requests may take that are under way when the process ends.
	Shutdown time.Duration
}

// ClientConnections returns the family of limits of connections with clients.
func ClientConnections() Policy {
	return &Of[Clients]{
		Of: policy.Of[Clients]{
			Name: "client-connections",
			Doc: "How long clients may take, and how much they may send before it is refused. What is not said here is as the flags of the same names say. " +
				"Sizes and numbers of streams hold for new connections, the rest from the next request on.",
			Keys:      clientKeys(),
			IfInvalid: policy.Ignore,
			Global:    true,
			Parse:     parseClients,
		},
		Global: func(s *Settings, v Clients) { s.Clients = v },
	}
}

func clientKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "keep-alive", Kind: policy.Duration, Where: policy.ConfigMap, Default: "as --keep-alive says (75s)", Example: "75",
			Doc:     "How long a connection may be idle between requests; 0 ends it after its answer.",
			Differs: "5s where connections run out",
		},
		{
			Name: "keep-alive-requests", Kind: policy.Int, Where: policy.ConfigMap, Default: "as --keep-alive-requests says (10000)", Example: "1000",
			Doc:     "How many requests one connection may carry.",
			Differs: "the default is 10000, and without the key requests over HTTP/2 are not counted",
		},
		{
			Name: "client-header-timeout", Kind: policy.Duration, Where: policy.ConfigMap, Default: "as --client-header-timeout says (10s)", Example: "60",
			Doc:     "How long a new connection may be silent, and then a request's head may take.",
			Differs: "the default is 10s; a head that begins and does not end in time is answered with 408",
		},
		{
			Name: "client-body-timeout", Kind: policy.Duration, Where: policy.ConfigMap, Default: "as --client-body-timeout says (60s)", Example: "60",
			Doc: "How long a request's body may pause.",
		},
		{
			Name: "large-client-header-buffers", Kind: policy.String, Where: policy.ConfigMap, Default: "as --request-line-size and --request-header-size say (4 8k)", Example: "4 16k",
			Doc:     "Two numbers: the second is the size of the longest request line, beyond which the answer is 414; the first times the second that of all fields.",
			Differs: "a head that is too large is answered with 431, not 400; one field may be as large as all",
		},
		{
			Name: "http2-max-concurrent-streams", Kind: policy.Int, Where: policy.ConfigMap, Default: "as --http2-max-concurrent-streams says (100)", Example: "128",
			Doc:     "How many requests one HTTP/2 connection may have under way.",
			Differs: "the default is 100",
		},
		{
			Name: "worker-shutdown-timeout", Kind: policy.Duration, Where: policy.ConfigMap, Default: "as --shutdown-timeout says (240s)", Example: "240s",
			Doc:     "How long requests under way may take when the process ends.",
			Differs: "it counts only then: a change of Ingresses ends no connection",
		},
	}
}

func parseClients(v policy.Values) (Clients, error) {
	var c Clients
	var err [7]error
	c.KeepAlive, err[0] = v.Duration("keep-alive", 0)
	if v.Has("keep-alive") && c.KeepAlive == 0 {
		c.KeepAlive = -1
	}
	c.Requests, err[1] = v.IntRange("keep-alive-requests", 0, 1, math.MaxInt32)
	c.Header, err[2] = positive(v, "client-header-timeout")
	c.Body, err[3] = positive(v, "client-body-timeout")
	c.RequestLine, c.HeaderBlock, err[4] = headerBuffers(v)
	c.Streams, err[5] = v.IntRange("http2-max-concurrent-streams", 0, 1, math.MaxUint16)
	c.Shutdown, err[6] = positive(v, "worker-shutdown-timeout")
	return c, errors.Join(err[:]...)
}

// The bounds of heads: below the least ordinary requests are refused, and the most is what every client may make the proxy keep.
const (
	leastBuffer = 1 << 10
	mostBuffers = 1 << 20
)

// headerBuffers reads nginx's "number size": a request line must fit into one, all of the fields into all.
func headerBuffers(v policy.Values) (line, block int, err error) {
	const key = "large-client-header-buffers"
	if !v.Has(key) {
		return 0, 0, nil
	}
	words := strings.Fields(v[key])
	if len(words) == 2 {
		n, err1 := strconv.Atoi(words[0])
		size, err2 := policy.Values{key: words[1]}.Size(key, 0)
		if err1 == nil && err2 == nil && n > 0 && n <= mostBuffers && size >= leastBuffer && size <= mostBuffers/int64(n) {
			return int(size), n * int(size), nil
		}
	}
	return 0, 0, &policy.ValueError{Key: key, Value: v[key], Want: `a number and a size of at least 1k, at most 1m in all, as in "4 8k"`}
}
