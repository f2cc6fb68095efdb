package http2_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http2"
)

// Of a request that is refused remains what kind it is, by which a client of gRPC is known: its answer has another form.
func TestKindOfRefusedRequests(t *testing.T) {
	t.Parallel()
	const kind = "application/grpc"
	post := append([]string{":method", "POST"}, get[2:6]...)
	long := with(post, ":path", "/"+strings.Repeat("x", 9<<10), "te", "trailers", "content-type", kind)
	var many []string
	for i := range 120 {
		many = append(many, fmt.Sprintf("f%d", i), "v")
	}
	head := with(post, ":path", "/", "content-type", kind)
	v := newServer(t, defaults(), nil)
	v.start = func(s *http2.Stream) {
		x := exchange.New()
		defer x.Release()
		var reject *exchange.Reject
		if err := s.ReadRequest(x); !errors.As(err, &reject) {
			t.Errorf("not refused: %v", err)
			s.Reset(xhttp2.ErrCodeInternal)
			return
		}
		x.Answer(reject.Status, exchange.BadRequest, string(x.Request.Fields.AppendTo(nil)))
		reply(s, x)
	}
	c := dialTo(t, v)
	for name, row := range map[string]struct {
		fields       []string
		status, kind string
	}{
		"before the fault":       {with(head, many...), "431", kind},
		"behind it":              {long, "414", kind},
		"too many before it":     {with(with(post, ":path", "/"), append(many, "content-type", kind)...), "431", ""},
		"too large":              {with(head, "x", strings.Repeat("v", 33<<10)), "431", kind},
		"none":                   {long[:len(long)-2], "414", ""},
		"of unreasonable length": {with(long[:len(long)-2], "content-type", kind+strings.Repeat("+", 99)), "414", ""},
	} {
		want := ""
		if row.kind != "" {
			want = "Content-Type: " + row.kind + "\r\n"
		}
		answer, body, _ := c.answer(c.open(row.fields...))
		if got := answer.field(":status"); got != row.status || string(body) != want {
			t.Errorf("%s: %s %q, want %s %q", name, got, body, row.status, want)
		}
	}
}

// asText answers with the request as HTTP/1.1 would write it to a Pod.
func asText(s *http2.Stream, x *exchange.Exchange) {
	q := &x.Request
	text := fmt.Appendf(nil, "%s %s %s\n", q.Method, q.Target, q.Version)
	text = q.Fields.AppendTo(text)
	x.Answer(200, exchange.NoReason, strings.ReplaceAll(string(text), "\r\n", "\n"))
	reply(s, x)
}

func TestRequestHead(t *testing.T) {
	t.Parallel()
	many := func(n int) (fields []string) {
		for i := range n {
			fields = append(fields, fmt.Sprintf("f%d", i), "v")
		}
		return fields
	}
	crumbs := func(n int) (fields []string) {
		for range n {
			fields = append(fields, "cookie", "a=b")
		}
		return fields
	}
	lines := func(fields []string) string {
		var b strings.Builder
		for i := 0; i < len(fields); i += 2 {
			b.WriteString(fields[i] + ": " + fields[i+1] + "\n")
		}
		return b.String()
	}
	const start = "GET / HTTP/2.0\nhost: a.test\n"
	path := func(p string) []string { return append(append([]string{}, get[:6]...), ":path", p) }
	method := func(m string) []string { return append([]string{":method", m}, get[2:]...) }
	authority := func(a string) []string {
		return []string{":method", "GET", ":scheme", "http", ":authority", a, ":path", "/"}
	}
	noAuthority := []string{":method", "GET", ":scheme", "http", ":path", "/"}
	for name, c := range map[string]struct {
		fields []string
		want   string // text, or "431", or the name of an error code
	}{
		"plain":                     {get, start},
		"order and duplicates stay": {with(get, "b", "1", "accept", "x", "b", "2"), start + "b: 1\naccept: x\nb: 2\n"},
		"no authority":              {with(noAuthority, "a", "b", "host", "b.test"), "GET / HTTP/2.0\na: b\nhost: b.test\n"},
		"host beside authority":     {with(get, "host", "A.test", "x", "y"), start + "x: y\n"},
		"any order of pseudo":       {[]string{":path", "/", ":authority", "a.test", ":scheme", "https", ":method", "GET"}, start},
		"unusual method":            {method("M-SEARCH"), "M-SEARCH / HTTP/2.0\nhost: a.test\n"},
		"query":                     {path("/a?x=<y>|z"), "GET /a?x=<y>|z HTTP/2.0\nhost: a.test\n"},
		"raw UTF-8":                 {path("/caf\xc3\xa9"), "GET /caf\xc3\xa9 HTTP/2.0\nhost: a.test\n"},
		"obs-text value":            {with(get, "x", "caf\xe9"), start + "x: caf\xe9\n"},
		"empty value":               {with(get, "x", ""), start + "x: \n"},
		"tab inside":                {with(get, "x", "a\tb"), start + "x: a\tb\n"},
		"underscores are dropped":   {with(get, "x_real_ip", "6.6.6.6", "a", "b"), start + "a: b\n"},
		"te":                        {with(get, "te", "trailers"), start + "TE: trailers\n"},
		"cookies":                   {with(get, "cookie", "a=b", "x", "y", "cookie", "c=d"), start + "x: y\ncookie: a=b; c=d\n"},
		"256 crumbs":                {with(get, crumbs(256)...), start + "cookie: " + strings.Repeat("a=b; ", 255) + "a=b\n"},
		"257 crumbs":                {with(get, crumbs(257)...), "431"},
		"100 fields":                {with(get, many(99)...), start + lines(many(99))},
		"100 fields, one cookie":    {with(get, append(many(98), crumbs(20)...)...), start + lines(many(98)) + "cookie: " + strings.Repeat("a=b; ", 19) + "a=b\n"},
		"101 fields":                {with(get, many(100)...), "431"},
		"long name":                 {with(get, strings.Repeat("n", 256), "v"), start + strings.Repeat("n", 256) + ": v\n"},
		"too long name":             {with(get, strings.Repeat("n", 257), "v"), "400"},
		"long target":               {path("/" + strings.Repeat("a", 8191)), "GET /" + strings.Repeat("a", 8191) + " HTTP/2.0\nhost: a.test\n"},
		"too long target":           {path("/" + strings.Repeat("a", 8192)), "414"},
		"large value":               {with(get, "x", strings.Repeat("v", 30<<10)), start + "x: " + strings.Repeat("v", 30<<10) + "\n"},
		"too large value":           {with(get, "x", strings.Repeat("v", 33<<10)), "431"},

		"upper-case name":          {with(get, "Accept", "x"), "PROTOCOL_ERROR"},
		"upper-case name, unknown": {with(get, "X-y", "x"), "PROTOCOL_ERROR"},
		"space in name":            {with(get, "x y", "x"), "PROTOCOL_ERROR"},
		"colon in name":            {with(get, "x:y", "x"), "PROTOCOL_ERROR"},
		"newline in name":          {with(get, "x\r\ny", "x"), "PROTOCOL_ERROR"},
		"empty name":               {with(get, "", "x"), "PROTOCOL_ERROR"},
		"newline in value":         {with(get, "x", "a\r\nb: c"), "PROTOCOL_ERROR"},
		"NUL in value":             {with(get, "x", "a\x00"), "PROTOCOL_ERROR"},
		"NUL in cookie":            {with(get, "cookie", "a\x00"), "PROTOCOL_ERROR"},
		"DEL in value":             {with(get, "x", "a\x7f"), "PROTOCOL_ERROR"},
		"space before value":       {with(get, "x", " a"), "PROTOCOL_ERROR"},
		"tab behind value":         {with(get, "x", "a\t"), "PROTOCOL_ERROR"},
		"newline in path":          {path("/a\r\nb"), "PROTOCOL_ERROR"},
		"newline in authority":     {authority("a\r\nb"), "PROTOCOL_ERROR"},
		"connection":               {with(get, "connection", "close"), "PROTOCOL_ERROR"},
		"keep-alive":               {with(get, "keep-alive", "5"), "PROTOCOL_ERROR"},
		"proxy-connection":         {with(get, "proxy-connection", "x"), "PROTOCOL_ERROR"},
		"transfer-encoding":        {with(get, "transfer-encoding", "chunked"), "PROTOCOL_ERROR"},
		"upgrade":                  {with(get, "upgrade", "websocket"), "PROTOCOL_ERROR"},
		"te gzip":                  {with(get, "te", "gzip"), "PROTOCOL_ERROR"},
		"te list":                  {with(get, "te", "trailers, gzip"), "PROTOCOL_ERROR"},
		"unknown pseudo":           {with(get, ":x", "y"), "PROTOCOL_ERROR"},
		"status":                   {append([]string{":status", "200"}, get...), "PROTOCOL_ERROR"},
		"pseudo behind field":      {append([]string{"x", "y"}, get...), "PROTOCOL_ERROR"},
		"second method":            {with(get[:2], get...), "PROTOCOL_ERROR"},
		"second authority":         {append([]string{":authority", "b"}, get...), "PROTOCOL_ERROR"},
		"no method":                {get[2:], "PROTOCOL_ERROR"},
		"no scheme":                {append(get[:2:2], get[4:]...), "PROTOCOL_ERROR"},
		"no path":                  {get[:6], "PROTOCOL_ERROR"},
		"empty path":               {path(""), "PROTOCOL_ERROR"},
		"empty block":              {nil, "PROTOCOL_ERROR"},
		"length without a body":    {with(get, "content-length", "1"), "PROTOCOL_ERROR"},
		"two lengths":              {with(get, "content-length", "0", "content-length", "0"), "PROTOCOL_ERROR"},
		"signed length":            {with(get, "content-length", "+0"), "PROTOCOL_ERROR"},
		"length with a leading 0":  {with(get, "content-length", "00"), "PROTOCOL_ERROR"},
		"length beyond int64":      {with(get, "content-length", "9223372036854775808"), "PROTOCOL_ERROR"},
		"protocol":                 {with(method("CONNECT"), ":protocol", "websocket"), "PROTOCOL_ERROR"},
		"connect with a path":      {method("CONNECT"), "PROTOCOL_ERROR"},

		"connect":                 {[]string{":method", "CONNECT", ":authority", "a.test:443"}, "501"},
		"trace":                   {method("TRACE"), "405"},
		"no authority, no host":   {noAuthority, "400"},
		"empty authority":         {authority(""), "400"},
		"userinfo":                {authority("u@a.test"), "400"},
		"path in authority":       {authority("a/b"), "400"},
		"two authorities":         {with(get, "host", "b.test"), "400"},
		"two hosts":               {with(get, "host", "a.test", "host", "a.test"), "400"},
		"two hosts, no authority": {with(noAuthority, "host", "a.test", "host", "a.test"), "400"},
		"relative path":           {path("a"), "400"},
		"absolute target":         {path("http://a.test/"), "400"},
		"asterisk":                {path("*"), "400"},
		"fragment":                {path("/#f"), "400"},
		"space in path":           {path("/a b"), "400"},
		"quote in path":           {path(`/"x"`), "400"},
		"backslash in path":       {path(`/a\b`), "400"},
		"encoded NUL":             {path("/%00"), "400"},
		"malformed method":        {method("GE,T"), "400"},
		"empty method":            {method(""), "400"},
		"long method":             {method(strings.Repeat("A", 65)), "400"},
		"scheme":                  {append([]string{":scheme", "ftp"}, append(get[:2:2], get[4:]...)...), "400"},
		"two content types":       {with(get, "content-type", "a/b", "content-type", "a/b"), "400"},
		"expect":                  {with(get, "expect", "100-continue"), start},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, asText)
			id := client.get(c.fields...)
			switch {
			case strings.HasSuffix(c.want, "ERROR"):
				if code := client.reset(id); code.String() != c.want {
					t.Errorf("code %v, want %s", code, c.want)
				}
			case len(c.want) == 3:
				if head, _, _ := client.answer(id); head.field(":status") != c.want {
					t.Errorf("%v, want %s", head, c.want)
				}
			default:
				_, body, _ := client.answer(id)
				if diff := cmp.Diff(c.want, string(body)); diff != "" {
					t.Error(diff)
				}
			}
			// The connection, and with it the compression's state, has not suffered.
			client.answer(client.get(with(get, "accept", "x")...))
		})
	}
}

func TestUnderscores(t *testing.T) {
	t.Parallel()
	for mode, want := range map[http2.Underscores]string{http2.RejectUnderscores: "400", http2.KeepUnderscores: "200"} {
		c := dialTo(t, newServer(t, http2.Options{Underscores: mode}, asText))
		head, body, _ := c.answer(c.get(with(get, "x_y", "z")...))
		if head.field(":status") != want || (want == "200") != strings.Contains(string(body), "x_y: z") {
			t.Errorf("%v: %v %q", mode, head, body)
		}
	}
}

func TestOptionsAsterisk(t *testing.T) {
	t.Parallel()
	c := dial(t, asText)
	_, body, _ := c.answer(c.get(":method", "OPTIONS", ":scheme", "http", ":authority", "a.test", ":path", "*"))
	if !strings.HasPrefix(string(body), "OPTIONS * ") {
		t.Errorf("%q", body)
	}
}

// TestContentLengthIsHeldTo: more or fewer bytes of DATA than were announced break the stream, and its body.
func TestContentLengthIsHeldTo(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(c *raw, id uint32){
		"more": func(c *raw, id uint32) { c.do(c.fr.WriteData(id, true, []byte("123456"))) },
		"more, later": func(c *raw, id uint32) {
			c.do(c.fr.WriteData(id, false, []byte("12345")))
			c.do(c.fr.WriteData(id, true, []byte("6")))
		},
		"fewer":         func(c *raw, id uint32) { c.do(c.fr.WriteData(id, true, []byte("1234"))) },
		"none":          func(c *raw, id uint32) { c.do(c.fr.WriteData(id, true, nil)) },
		"fewer, padded": func(c *raw, id uint32) { c.do(c.fr.WriteDataPadded(id, true, []byte("1234"), []byte{0})) },
		"fewer, trailers": func(c *raw, id uint32) {
			c.do(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.block("a", "b")}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A request that was reset before it was begun is none.
			c := dial(t, func(_ *http2.Stream, x *exchange.Exchange) {
				if _, err := readAll(x.Request.Body); err == nil {
					t.Error("the body is whole")
				}
			})
			id := c.open(with(post, "content-length", "5")...)
			send(c, id)
			if code := c.reset(id); code != xhttp2.ErrCodeProtocol {
				t.Errorf("code %v", code)
			}
		})
	}
}

// TestExtendedConnect: WebSocket over HTTP/2 looks like an upgrade to the engine, and is a tunnel afterwards.
func TestExtendedConnect(t *testing.T) {
	t.Parallel()
	v := newServer(t, http2.Options{ExtendedConnect: true}, func(s *http2.Stream, x *exchange.Exchange) {
		q := &x.Request
		if string(q.Method) != "GET" || string(q.Upgrade) != "websocket" || q.Body != nil || len(q.Fields.Get(exchange.SecWebSocketKey)) != 24 {
			t.Errorf("%s, upgrade %q, key %q", q.Method, q.Upgrade, q.Fields.Get(exchange.SecWebSocketKey))
		}
		x.Response.Status = 101
		s.StartResponse(x, http2.KeepOpen)
		if err := s.Flush(); err != nil {
			t.Error(err)
		}
		for b := s.TunnelBody(); ; {
			p, err := b.Next()
			if err != nil {
				break
			}
			_ = s.Write(p)
			_ = s.Flush()
		}
		_ = s.Finish(x)
	})
	c := dialTo(t, v)
	id := c.open(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a.test", ":path", "/chat")
	head := c.expect("the answer's head", func(e event) bool { return e.Type == xhttp2.FrameHeaders })
	if head.field(":status") != "200" || head.ends() || head.field("content-length") != "" {
		t.Errorf("%v", head)
	}
	c.do(c.fr.WriteData(id, false, []byte("frame")))
	c.expect("the echo", func(e event) bool { return string(e.data) == "frame" })
	c.do(c.fr.WriteData(id, true, nil))
	c.expect("the end", event.ends)
	bad := c.get(":method", "GET", ":protocol", "websocket", ":scheme", "https", ":authority", "a.test", ":path", "/chat")
	if code := c.reset(bad); code != xhttp2.ErrCodeProtocol {
		t.Errorf("code %v", code)
	}
}
