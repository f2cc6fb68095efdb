package exchange_test

import (
	"io"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
)

// ask describes a request as a codec leaves it. Lines are "Name: value".
type ask struct {
	method, target string
	version        exchange.Version
	tls, body      bool
	lines          []string
}

// get is a GET of target on host a with more fields.
func get(target string, lines ...string) ask {
	return ask{method: "GET", target: target, version: exchange.HTTP11, lines: append([]string{"Host: a"}, lines...)}
}

// on is a GET of / with exactly the given fields.
func on(v exchange.Version, lines ...string) ask {
	return ask{method: "GET", target: "/", version: v, lines: lines}
}

func (a ask) with(change func(*ask)) ask { change(&a); return a }

// exchange fills x as a codec does: offsets in a head.
func (a ask) fill(x *exchange.Exchange) {
	r := &x.Request
	r.Method, r.Target, r.Version = []byte(a.method), []byte(a.target), a.version
	x.Client.TLS = a.tls
	head := []byte(strings.Join(a.lines, "\r\n") + "\r\n")
	r.Fields.Reset(head)
	at := 0
	for _, l := range a.lines {
		name, value, _ := strings.Cut(l, ":")
		from := at + len(name) + 1 + len(value) - len(strings.TrimLeft(value, " "))
		r.Fields.Parsed(exchange.IDOf(name), at, at+len(name), from, at+len(l))
		at += len(l) + 2
	}
	if a.body {
		r.Body = endless{}
	}
}

// endless is a body that the test never reads.
type endless struct{}

func (endless) Next() ([]byte, error) { return nil, io.ErrUnexpectedEOF }
func (endless) Length() int64         { return -1 }

// judge validates a and returns the status of the refusal, 0 for none, and the request.
func (a ask) judge(t *testing.T) (int, *exchange.Request) {
	t.Helper()
	x := exchange.New()
	t.Cleanup(x.Release)
	a.fill(x)
	if reject := x.Validate(); reject != nil {
		if reject.Error() == "" || reject.Detail != reject.Error() {
			t.Errorf("refusal %d has no detail", reject.Status)
		}
		return reject.Status, &x.Request
	}
	return 0, &x.Request
}

func TestTargetForms(t *testing.T) {
	overTLS := func(a *ask) { a.tls = true }
	for name, c := range map[string]struct {
		ask    ask
		status int
		target string
	}{
		"origin":               {ask: get("/a?b"), target: "/a?b"},
		"absolute":             {ask: get("http://a/b?c"), target: "/b?c"},
		"absolute, port":       {ask: get("HTTP://A:80/b"), target: "/b"},
		"absolute, empty port": {ask: get("http://a:/b"), target: "/b"},
		"absolute, no path":    {ask: get("http://a"), target: "/"},
		"absolute, query only": {ask: get("http://a?b"), target: "/?b"},
		"absolute, tls":        {ask: get("https://a:443/b").with(overTLS), target: "/b"},
		"wrong scheme, tls":    {ask: get("http://a/b").with(overTLS), status: 400},
		"wrong scheme":         {ask: get("https://a/b"), status: 400},
		"other port":           {ask: get("http://a:443/b"), status: 400},
		"other host":           {ask: get("http://b/"), status: 400},
		"longer host":          {ask: get("http://a.b/"), status: 400},
		"userinfo":             {ask: get("http://u@a/"), status: 400},
		"no host":              {ask: get("http:///"), status: 400},
		"scheme only":          {ask: get("http://"), status: 400},
		"other scheme":         {ask: get("ftp://a/"), status: 400},
		"no form":              {ask: get("a"), status: 400},
		"authority":            {ask: get("a:80"), status: 400},
		"asterisk":             {ask: get("*"), status: 400},
		"asterisk, options":    {ask: get("*").with(func(a *ask) { a.method = "OPTIONS" }), target: "*"},
		"asterisk and more":    {ask: get("*/").with(func(a *ask) { a.method = "OPTIONS" }), status: 400},
		"connect":              {ask: get("a:443").with(func(a *ask) { a.method = "CONNECT" }), status: 501},
		"connect without host": {ask: ask{method: "CONNECT", target: "/", version: exchange.HTTP11}, status: 501},
		"trace":                {ask: get("/").with(func(a *ask) { a.method = "TRACE" }), status: 405},
		"lower-case trace":     {ask: get("/").with(func(a *ask) { a.method = "trace" }), target: "/"},
		"ipv6":                 {ask: get("http://[::1]:80/x").with(func(a *ask) { a.lines = []string{"Host: [::1]"} }), target: "/x"},
		"ipv6, port inside":    {ask: get("http://[::80]/x").with(func(a *ask) { a.lines = []string{"Host: [::80]"} }), target: "/x"},
		"absolute in http/1.0": {ask: get("http://a/x").with(func(a *ask) { a.version = exchange.HTTP10 }), target: "/x"},
		"absolute, 1.0, no host field": {
			ask: ask{method: "GET", target: "http://a/x", version: exchange.HTTP10}, status: 400,
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, r := c.ask.judge(t)
			if status != c.status || status == 0 && string(r.Target) != c.target {
				t.Errorf("status %d, target %q; want %d, %q", status, r.Target, c.status, c.target)
			}
		})
	}
}

func TestHost(t *testing.T) {
	long := strings.Repeat("a", 255)
	for host, want := range map[string]string{
		"a": "a", "A.ExAmple.COM.": "a.example.com", "a.example.com:8080": "a.example.com", "a:": "a", "a:00080": "a",
		"[::1]:80": "[::1]", "[2001:DB8::A]": "[2001:db8::a]", "_svc.a~b-c": "_svc.a~b-c", "1.2.3.4:1": "1.2.3.4",
		long: long, "a..": "a.",
	} {
		status, r := on(exchange.HTTP11, "Host: "+host).judge(t)
		if status != 0 || string(r.Hostname) != want || string(r.Authority) != host {
			t.Errorf("%q: status %d, route key %q, authority %q; want key %q", host, status, r.Hostname, r.Authority, want)
		}
	}
	for _, host := range []string{
		"", ".", ":80", "a:x", "a:-1", "a:65536", "a:123456", "a:1:1", "a b", "a,b", "u@a", "a/", "a?", "a#", "a%41", "a\\", "a\xe9",
		"a\x00", "[::1", "[a]", "[1.2.3.4]", "[::1%25eth0]", "[::1%eth0]", "[]", "[::1]x", "[::1].", "[::1]:x", "::1", long + "a", "a]", "[",
		"a*", "*.a", "\"a\"", "a;b", "[" + strings.Repeat("0:", 40) + "1]",
	} {
		if status, _ := on(exchange.HTTP11, "Host: "+host).judge(t); status != 400 {
			t.Errorf("%q: status %d, want 400", host, status)
		}
	}
	for name, c := range map[string]struct {
		ask    ask
		status int
	}{
		"none":        {on(exchange.HTTP11), 400},
		"two equal":   {on(exchange.HTTP11, "Host: a", "host: a"), 400},
		"none, 1.0":   {on(exchange.HTTP10), 0},
		"empty, 1.0":  {on(exchange.HTTP10, "Host:"), 0},
		"bad, 1.0":    {on(exchange.HTTP10, "Host: a b"), 400},
		"two, 1.0":    {on(exchange.HTTP10, "Host: a", "Host: a"), 400},
		"none, h2":    {on(exchange.HTTP2), 400},
		"one, http/2": {on(exchange.HTTP2, "Host: a"), 0},
	} {
		status, r := c.ask.judge(t)
		if status != c.status || strings.Contains(name, "1.0") && len(r.Hostname) != 0 {
			t.Errorf("%s: status %d, want %d; route key %q", name, status, c.status, r.Hostname)
		}
	}
}

// text is what is left of the fields, as a Pod would get them.
func text(r *exchange.Request) string { return string(r.Fields.AppendTo(nil)) }

func TestConnectionNominations(t *testing.T) {
	for _, c := range []struct{ lines, left string }{
		{"Connection: close", ""},
		{"Connection: X-Foo|X-Foo: 1|x-fOO: 2|X-Bar: 3", "X-Bar: 3"},
		{"X-Foo: 1|Connection: close, x-foo", ""},
		{"Connection: X-Foo|Connection: X-Bar|X-Foo: 1|X-Bar: 2", ""},
		{"Connection: ,, X-Foo ,|X-Foo: 1", ""},
		{"Connection:|X-Foo: 1", "X-Foo: 1"},
		{"Connection: Accept|Accept: a|Accept: b|Accept-Encoding: c", "Accept-Encoding: c"},
		{"Connection: X-Request-ID|X-Request-ID: 1", ""},
		// Naming Connection itself must not hide what its other lines say.
		{"Connection: Connection|Connection: X-Foo|X-Foo: 1", ""},
		{"Connection: te|TE: trailers, deflate", "TE: trailers"},
		{"Keep-Alive: 5|Proxy-Connection: keep-alive|Proxy-Authorization: x|Proxy-Authenticate: x|Trailer: x|HTTP2-Settings: x|Proxy: x", ""},
		{"TE: gzip", ""},
		{"TE: trailers;q=0.5", ""},
		{"TE: gzip, Trailers", "TE: trailers"},
		{"Upgrade: websocket", ""},
	} {
		status, r := get("/", strings.Split(c.lines, "|")...).judge(t)
		want := "Host: a\r\n"
		if c.left != "" {
			want += c.left + "\r\n"
		}
		if status != 0 || text(r) != want {
			t.Errorf("%s: status %d, left %q, want %q", c.lines, status, text(r), want)
		}
	}
	for _, bad := range []string{
		"host", "Content-Length", "transfer-encoding", "Content-Type", "AUTHORIZATION", "cookie", "forwarded", "x-real-ip", "X-Forwarded-For",
		"x-forwarded-proto", "x-forwarded-no-such", ":path", ";", "a b", "a\x00", "a=b", "\"close\"", "clos\xe9", "close, cookie",
		"connection|Connection: cookie", "x" + strings.Repeat(",x", 16),
	} {
		if status, _ := get("/", strings.Split("Connection: "+bad, "|")...).judge(t); status != 400 {
			t.Errorf("Connection: %s: status %d, want 400", bad, status)
		}
	}
	if status, _ := get("/", "Connection: x"+strings.Repeat(",x", 15)).judge(t); status != 0 {
		t.Errorf("16 options: status %d", status)
	}
}

func TestClose(t *testing.T) {
	for _, c := range []struct {
		version exchange.Version
		lines   string
		want    bool
	}{
		{exchange.HTTP11, "", false},
		{exchange.HTTP11, "Connection: keep-alive", false},
		{exchange.HTTP11, "Connection: CLOSE", true},
		{exchange.HTTP11, "Connection: close|Connection: keep-alive", true},
		{exchange.HTTP11, "Connection: keep-alive|Connection: close", true},
		{exchange.HTTP11, "Connection: connection|Connection: close", true},
		{exchange.HTTP11, "Connection: closed", false},
		{exchange.HTTP10, "", true},
		{exchange.HTTP10, "Connection: keep-alive", false},
		{exchange.HTTP10, "Connection: keep-alive, close", true},
		{exchange.HTTP10, "Connection: close, keep-alive", true},
	} {
		lines := []string{"Host: a"}
		if c.lines != "" {
			lines = append(lines, strings.Split(c.lines, "|")...)
		}
		if status, r := on(c.version, lines...).judge(t); status != 0 || r.Close != c.want {
			t.Errorf("%v %q: status %d, Close = %v, want %v", c.version, c.lines, status, r.Close, c.want)
		}
	}
}

func TestExpect(t *testing.T) {
	withBody := func(a *ask) { a.body = true }
	old := func(a *ask) { a.body, a.version = true, exchange.HTTP10 }
	for _, c := range []struct {
		ask    ask
		status int
		waits  bool
	}{
		{get("/", "Expect: 100-continue").with(withBody), 0, true},
		{get("/", "Expect: 100-Continue").with(withBody), 0, true},
		{get("/", "Expect: 100-continue"), 0, false},
		{get("/", "Expect: other"), 0, false},
		{get("/", "Expect: 100-continue").with(old), 0, false},
		{get("/", "Expect: other").with(old), 0, false},
		{get("/", "Expect: other").with(withBody), 417, false},
		{get("/", "Expect:").with(withBody), 417, false},
		{get("/", "Expect: 100-continue, x").with(withBody), 417, false},
		{get("/", "Expect: 100-continue", "Expect: 100-continue").with(withBody), 400, false},
		{get("/").with(withBody), 0, false},
	} {
		status, r := c.ask.judge(t)
		if status != c.status || r.ExpectContinue != c.waits || status == 0 && r.Fields.Has(exchange.Expect) {
			t.Errorf("%q: status %d, waits %v; want %d, %v", c.ask.lines, status, r.ExpectContinue, c.status, c.waits)
		}
	}
}

func TestUpgrade(t *testing.T) {
	const asked = "Connection: Upgrade"
	for _, c := range []struct {
		lines, token string
		status       int
	}{
		{asked + "|Upgrade: websocket", "websocket", 0},
		{"Connection: keep-alive, UPGRADE|Upgrade: SPDY/3.1", "SPDY/3.1", 0},
		{asked + "|Upgrade: h2c", "", 0},
		{asked + "|Upgrade: H2C, websocket", "websocket", 0},
		{asked + "|Upgrade: TLS/1.0", "", 0},
		{asked + "|Upgrade: tls/1.2, h2c, echo", "echo", 0},
		{asked + "|Upgrade: tlsish", "tlsish", 0},
		{asked + "|Upgrade:", "", 0},
		{asked + "|Upgrade: ,,", "", 0},
		{asked, "", 0},
		{"Upgrade: websocket", "", 0},
		{"Connection: upgrade-insecure|Upgrade: websocket", "", 0},
		{asked + "|Upgrade: a b", "", 400},
		{asked + "|Upgrade: a/b/c", "", 400},
		{asked + "|Upgrade: a/", "", 400},
		{asked + "|Upgrade: websocket|Upgrade: websocket", "", 400},
	} {
		status, r := get("/", strings.Split(c.lines, "|")...).judge(t)
		if status != c.status || status == 0 && (!strings.EqualFold(string(r.Upgrade), c.token) || r.Fields.Has(exchange.Upgrade)) {
			t.Errorf("%s: status %d, token %q; want %d, %q", c.lines, status, r.Upgrade, c.status, c.token)
		}
	}
	body := func(a *ask) { a.body = true }
	if status, _ := get("/", asked, "Upgrade: websocket").with(body).judge(t); status != 400 {
		t.Errorf("upgrade with a body: status %d, want 400", status)
	}
	if status, r := get("/", asked, "Upgrade: h2c").with(body).judge(t); status != 0 || len(r.Upgrade) > 0 {
		t.Errorf("h2c with a body: status %d, token %q", status, r.Upgrade)
	}
	old := func(a *ask) { a.version = exchange.HTTP10 }
	if status, r := get("/", asked, "Upgrade: websocket").with(old).judge(t); status != 0 || len(r.Upgrade) > 0 {
		t.Errorf("upgrade in HTTP/1.0: status %d, token %q", status, r.Upgrade)
	}
}

func TestFieldsThatComeOnce(t *testing.T) {
	for _, name := range []string{
		"Content-Type", "Authorization", "Expect", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Origin",
	} {
		if status, _ := get("/", name+": 100-continue", "X: y", strings.ToUpper(name)+": 100-continue").judge(t); status != 400 {
			t.Errorf("two %s: status %d, want 400", name, status)
		}
		if status, _ := get("/", name+": 100-continue").judge(t); status != 0 {
			t.Errorf("one %s: status %d", name, status)
		}
	}
	for _, name := range []string{"Cookie", "Accept", "X-Forwarded-For", "X-Any"} {
		if status, _ := get("/", name+": 1", name+": 1").judge(t); status != 0 {
			t.Errorf("two %s: status %d", name, status)
		}
	}
}

func TestFramingFieldsAreASCII(t *testing.T) {
	for _, name := range []string{"Connection", "Upgrade", "Expect", "TE", "Trailer", "Keep-Alive"} {
		for _, value := range []string{"\xe9", "caf\xc3\xa9", "\x80"} {
			if status, _ := get("/", name+": "+value).judge(t); status != 400 {
				t.Errorf("%s: %q: status %d, want 400", name, value, status)
			}
		}
	}
	for _, name := range []string{"Connection", "TE", "Trailer", "Keep-Alive"} {
		if status, _ := get("/", name+": x", name+": \xe9").judge(t); status != 400 {
			t.Errorf("second %s: status %d, want 400", name, status)
		}
	}
	if status, _ := get("/", "X: caf\xe9").judge(t); status != 0 {
		t.Errorf("another field: status %d", status)
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct{ target, path, query, send string }{
		{"/a/b?c=d?e", "/a/b", "c=d?e", "/a/b"},
		{"/", "/", "", "/"},
		{"//a//b", "/a/b", "", "//a//b"},
		{"/a/../b", "/b", "", "/b"},
		{"/a/%2e%2e/b", "/b", "", "/b"},
		{"/%7euser", "/~user", "", "/%7euser"},
		{"/a%2fb", "/a%2Fb", "", "/a%2fb"},
		{"/x/../a%2fb", "/a%2Fb", "", "/a%2Fb"},
		{"/caf\xe9", "/caf%E9", "", "/caf\xe9"},
		{"/?../..", "/", "../..", "/"},
	} {
		status, r := get(c.target).judge(t)
		if status != 0 || string(r.Path) != c.path || string(r.RawQuery) != c.query || string(r.SendPath()) != c.send {
			t.Errorf("%s: status %d, path %q, query %q, sent %q", c.target, status, r.Path, r.RawQuery, r.SendPath())
		}
	}
	if _, r := get("/a?").judge(t); !r.HasQuery || len(r.RawQuery) != 0 {
		t.Error("an empty query was lost")
	}
	if _, r := get("/a").judge(t); r.HasQuery {
		t.Error("a query was invented")
	}
	for _, bad := range []string{"/..", "/a/../..", "/%", "/%0", "/%zz", "/%00", "/a%2g"} {
		if status, _ := get(bad).judge(t); status != 400 {
			t.Errorf("%s: status %d, want 400", bad, status)
		}
	}
}

func TestRemoveHopByHopFromAnswers(t *testing.T) {
	x := exchange.New()
	defer x.Release()
	f := &x.Response.Fields
	f.Reset(nil)
	for _, l := range []string{
		"Connection: X-Hop, close, Set-Cookie, Content-Type, Connection", "X-Hop: 1", "Set-Cookie: a=b", "Content-Type: text/plain",
		"Keep-Alive: 5", "Transfer-Encoding: chunked", "Upgrade: h2", "TE: x", "Proxy-Authenticate: x", "Proxy-Connection: x", "X-Stay: 1",
		"Connection: x-second", "X-Second: 2",
	} {
		name, value, _ := strings.Cut(l, ": ")
		f.AddString(name, value)
	}
	x.Response.RemoveHopByHop()
	const want = "Set-Cookie: a=b\r\nContent-Type: text/plain\r\nX-Stay: 1\r\n"
	if got := string(f.AppendTo(nil)); got != want {
		t.Errorf("left %q, want %q", got, want)
	}
}

// TestValidateAllocatesNothing holds the budget of the message model: a typical request is validated and written without allocation.
func TestValidateAllocatesNothing(t *testing.T) {
	x := exchange.New()
	defer x.Release()
	typical := get("/static/app.js?v=3", "User-Agent: Mozilla/5.0", "Accept: */*", "Accept-Encoding: gzip", "Connection: keep-alive",
		"Cookie: session=1", "Referer: http://a/", "X-Forwarded-For: 1.2.3.4")
	head := []byte(strings.Join(typical.lines, "\r\n") + "\r\n")
	type span struct {
		id       exchange.ID
		at       int
		name, to int
	}
	var spans []span
	at := 0
	for _, l := range typical.lines {
		spans = append(spans, span{exchange.IDOf(strings.Split(l, ":")[0]), at, strings.IndexByte(l, ':'), at + len(l)})
		at += len(l) + 2
	}
	method, target, ip, out := []byte("GET"), []byte(typical.target), []byte("127.0.0.1"), make([]byte, 0, 4096)
	run := func() {
		r := &x.Request
		r.Method, r.Target, r.Version = method, target, exchange.HTTP11
		r.Fields.Reset(head)
		for _, s := range spans {
			r.Fields.Parsed(s.id, s.at, s.at+s.name, s.at+s.name+2, s.to)
		}
		if reject := x.Validate(); reject != nil {
			t.Fatal(reject)
		}
		r.Fields.Set(exchange.XForwardedFor, ip)
		r.Fields.Set(exchange.XRealIP, ip)
		out = r.Fields.AppendTo(out[:0])
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
