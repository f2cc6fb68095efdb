package observe

import (
	"bytes"
	"crypto/tls"
	"net/netip"
	"strconv"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

// Entry is one line of the access log: one request, what became of it, and what decided that. The engine fills it from
// its Exchange; byte slices are only read during AccessLog.Append. There is no place in it for header fields that carry
// credentials, and there must not be one.
type Entry struct {
	// Time is when the first byte of the request arrived.
	Time time.Time
	// Client is the address that is believed to be the client's.
	Client netip.AddrPort
	// Scheme is what the client used, http or https; TLSVersion is crypto/tls's number, 0 without TLS.
	Scheme     string
	TLSVersion uint16
	// Method, Host and Target are as the client sent them; Target is the path with the query.
	Method, Host, Target []byte
	// Protocol is HTTP/1.0, HTTP/1.1 or HTTP/2.0.
	Protocol string
	// Status is what the client got, 499 where it went away before.
	Status int
	// Reason is why the proxy answered by itself, "" for a Pod's answer.
	Reason string
	// BytesIn and BytesOut are the body bytes from and to the client.
	BytesIn, BytesOut int64
	// Duration is from the first byte of the request to the last of the answer; FirstByte until the first byte of the
	// Pod's answer, 0 where there was none.
	Duration, FirstByte time.Duration
	// Generation is that of the Table that routed the request.
	Generation uint64
	// Namespace, Ingress, and the rule's host, path (Route) and pathType as declared are what matched; all are empty without a match.
	Namespace, Ingress, RuleHost, Route, PathType string
	// Canary says that the canary was chosen, and CanaryBy what decided; NoDecider where there is none.
	Canary   bool
	CanaryBy exchange.Decider
	// Service and Port name the Backend; Pod and Endpoint are where the last try went.
	Service, Port, Pod string
	Endpoint           netip.AddrPort
	// Tries counts attempts that reached for an endpoint, and Retry is why the last of several was made.
	Tries int
	Retry string
	// Legs are the tries, each with its endpoint, why it failed, and its times.
	Legs []exchange.Leg
	// Trace is where the request stands in a trace, the zero value for nowhere.
	Trace exchange.TraceContext
	// RequestID is the value of X-Request-ID; UserAgent and Referer are the client's header fields.
	RequestID, UserAgent, Referer []byte
}

// encoder writes Entries as JSON objects, one a line. Fields that do not apply to a request are left out.
type encoder struct {
	dropQuery bool
}

// append appends e's line, with its newline.
func (c *encoder) append(b []byte, e *Entry) []byte {
	b = append(b, `{"time":"`...)
	b = appendTime(b, e.Time)
	b = append(b, '"')
	b = appendAddr(b, `,"client":"`, e.Client)
	b = appendBytes(b, `,"method":`, e.Method)
	b = appendText(b, `,"scheme":`, e.Scheme)
	b = appendBytes(b, `,"host":`, e.Host)
	b = c.appendURL(b, `,"path":`, e.Target)
	b = appendText(b, `,"protocol":`, e.Protocol)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = appendText(b, `,"reason":`, e.Reason)
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendInt(b, e.BytesIn, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendInt(b, e.BytesOut, 10)
	b = append(b, `,"duration":`...)
	b = appendSeconds(b, e.Duration)
	if e.FirstByte > 0 {
		b = append(b, `,"first_byte":`...)
		b = appendSeconds(b, e.FirstByte)
	}
	b = appendDecision(b, e)
	if e.Trace.Known() {
		b = append(exchange.AppendHex(append(b, `,"trace_id":"`...), e.Trace.TraceID[:]), '"')
	}
	b = appendBytes(b, `,"request_id":`, e.RequestID)
	b = appendBytes(b, `,"user_agent":`, e.UserAgent)
	b = c.appendURL(b, `,"referer":`, e.Referer)
	if e.TLSVersion != 0 {
		b = appendText(b, `,"tls":`, tlsName(e.TLSVersion))
	}
	return append(b, "}\n"...)
}

// appendDecision appends what the request met on its way: table, route, backend, endpoint and tries.
func appendDecision(b []byte, e *Entry) []byte {
	if e.Generation != 0 {
		b = append(b, `,"generation":`...)
		b = strconv.AppendUint(b, e.Generation, 10)
	}
	b = appendText(b, `,"namespace":`, e.Namespace)
	b = appendText(b, `,"ingress":`, e.Ingress)
	b = appendText(b, `,"rule_host":`, e.RuleHost)
	b = appendText(b, `,"route":`, e.Route)
	b = appendText(b, `,"path_type":`, e.PathType)
	if e.CanaryBy != exchange.NoDecider {
		b = strconv.AppendBool(append(b, `,"canary":`...), e.Canary)
		b = appendText(b, `,"canary_by":`, string(e.CanaryBy))
	}
	b = appendText(b, `,"service":`, e.Service)
	b = appendText(b, `,"port":`, e.Port)
	b = appendText(b, `,"pod":`, e.Pod)
	b = appendAddr(b, `,"endpoint":"`, e.Endpoint)
	if e.Tries > 0 {
		b = append(b, `,"tries":`...)
		b = strconv.AppendInt(b, int64(e.Tries), 10)
	}
	b = appendText(b, `,"retry":`, e.Retry)
	switch n := len(e.Legs); {
	case n == 1:
		// Endpoint and Pod are the line's.
		b = appendTimes(b, &e.Legs[0])
	case n > 1:
		b = appendLegs(b, e.Legs)
	}
	return b
}

// appendTimes appends the times of a try.
func appendTimes(b []byte, l *exchange.Leg) []byte {
	if l.Connect > 0 {
		b = appendSeconds(append(b, `,"connect":`...), l.Connect)
	}
	if l.FirstByte > 0 {
		b = appendSeconds(append(b, `,"upstream_first_byte":`...), l.FirstByte)
	}
	return appendSeconds(append(b, `,"upstream_duration":`...), l.Whole)
}

// appendLegs appends several tries.
func appendLegs(b []byte, legs []exchange.Leg) []byte {
	b = append(b, `,"attempts":[`...)
	for i := range legs {
		l := &legs[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(l.Addr.AppendTo(append(b, `{"endpoint":"`...)), '"')
		b = appendText(b, `,"pod":`, l.Pod)
		b = appendText(b, `,"why":`, string(l.Why))
		if l.Status != 0 {
			b = strconv.AppendInt(append(b, `,"status":`...), int64(l.Status), 10)
		}
		b = append(appendTimes(b, l), '}')
	}
	return append(b, ']')
}

// appendURL appends the key and a URL or request target: without user information, which is a credential that Referer and a
// target in absolute form can carry, and without the query where the operator wants that.
func (c *encoder) appendURL(b []byte, key string, raw []byte) []byte {
	if c.dropQuery {
		raw, _, _ = bytes.Cut(raw, []byte("?"))
	}
	if len(raw) == 0 {
		return b
	}
	before, after := withoutUser(raw)
	b = append(append(b, key...), '"')
	return append(appendEscaped(appendEscaped(b, before), after), '"')
}

// withoutUser returns what stands before and after the user information of an absolute URL (RFC 3986 section 3.2.1).
func withoutUser(raw []byte) (before, after []byte) {
	scheme := bytes.IndexByte(raw, ':')
	if scheme <= 0 || bytes.ContainsAny(raw[:scheme], "/?#") || !bytes.HasPrefix(raw[scheme:], []byte("://")) {
		return raw, nil
	}
	start := scheme + len("://")
	end := len(raw)
	if i := bytes.IndexAny(raw[start:], "/?#"); i >= 0 {
		end = start + i
	}
	at := bytes.LastIndexByte(raw[start:end], '@')
	if at < 0 {
		return raw, nil
	}
	return raw[:start], raw[start+at+1:]
}

// appendBytes appends the key, which includes quotes, colon and comma, and the quoted value, or nothing where it is empty.
func appendBytes(b []byte, key string, value []byte) []byte {
	if len(value) == 0 {
		return b
	}
	return appendQuoted(append(b, key...), value)
}

func appendText(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendQuoted(append(b, key...), value)
}

// appendAddr appends the key, which includes the opening quote, and the address, or nothing where it is not valid.
func appendAddr(b []byte, key string, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	return append(a.AppendTo(append(b, key...)), '"')
}

// appendTime appends t in UTC as RFC 3339 with microseconds: 2006-01-02T15:04:05.000000Z. It takes a third of the time of
// time.AppendFormat, which has no fast way for a fixed number of decimals.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendPadded(b, year, 4)
	b = appendPadded(append(b, '-'), int(month), 2)
	b = appendPadded(append(b, '-'), day, 2)
	b = appendPadded(append(b, 'T'), hour, 2)
	b = appendPadded(append(b, ':'), minute, 2)
	b = appendPadded(append(b, ':'), second, 2)
	b = appendPadded(append(b, '.'), t.Nanosecond()/int(time.Microsecond), 6)
	return append(b, 'Z')
}

// appendSeconds appends d in seconds with microseconds: 0.001234. A negative duration, from a clock that no one should
// have stepped, is 0.
func appendSeconds(b []byte, d time.Duration) []byte {
	d = max(d, 0)
	b = strconv.AppendInt(b, int64(d/time.Second), 10)
	return appendPadded(append(b, '.'), int(d%time.Second/time.Microsecond), 6)
}

// appendPadded appends the last digits of n, which is not negative.
func appendPadded(b []byte, n, digits int) []byte {
	for range digits {
		b = append(b, '0')
	}
	for i := len(b) - 1; digits > 0; i, digits = i-1, digits-1 {
		b[i] = '0' + byte(n%10)
		n /= 10
	}
	return b
}

// tlsName returns nginx's name of a TLS version.
func tlsName(version uint16) string {
	switch version {
	case tls.VersionTLS10:
		return "TLSv1"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return "unknown"
}
