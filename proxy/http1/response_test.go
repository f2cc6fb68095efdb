package http1_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/http1"
)

// answer reads one answer to a request of the given method.
func answer(conn net.Conn, method string, limits http1.Limits) outcome {
	c := http1.NewClient(conn, limits)
	defer c.Close()
	x := exchange.New()
	defer x.Release()
	x.Request.Method = []byte(method)
	var o outcome
	if err := c.ReadResponse(x); err != nil {
		if http1.IsInvalid(err) {
			o.status = 502
		}
		o.err = err.Error()
		return o
	}
	r := &x.Response
	length := int64(-2)
	if r.Body != nil {
		length = r.Body.Length()
	}
	o.status = r.Status
	o.head = fmt.Sprintf("%v %d %q length=%d\n%s", r.Version, r.Status, r.Reason, length, r.Fields.AppendTo(nil))
	var err error
	if o.body, err = drain(r.Body); err != nil {
		if o.err = err.Error(); http1.IsInvalid(err) {
			o.err = "invalid"
		}
		return o
	}
	o.head += string(r.Trailers.AppendTo(nil))
	if p, ok := conn.(*piecewise); ok {
		o.used = p.read - len(c.Unread())
	}
	o.head += fmt.Sprint("reusable=", c.Finished())
	return o
}

// sample is one answer of a Pod. Where err is "", head and body are what the codec makes of it.
type sample struct {
	method, in string
	open       bool // the Pod keeps the connection open
	err        string
	reason     string
	length     int64
	fields     string // joined by "|"
	body       string
	reusable   bool
}

const invalid = "invalid response"

// fields joins n fields.
func fields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X%d: y\r\n", i)
	}
	return b.String()
}

var samples = map[string]sample{
	// Status lines.
	"S1 plain":             {in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", reason: "OK", length: 2, fields: "Content-Length: 2", body: "hi", reusable: true},
	"S1 no reason":         {in: "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", length: -2, fields: "Content-Length: 0", reusable: true},
	"S1 no reason, no sp":  {in: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", length: -2, fields: "Content-Length: 0", reusable: true},
	"S1 reason, 8 bit":     {in: "HTTP/1.1 200 caf\xe9\t!\r\nContent-Length: 0\r\n\r\n", reason: "caf\xe9\t!", length: -2, fields: "Content-Length: 0", reusable: true},
	"S1 status 999":        {in: "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", reason: "x", length: -2, fields: "Content-Length: 0", reusable: true},
	"S2 http/2":            {in: "HTTP/2 200 OK\r\n\r\n", err: invalid},
	"S2 http/1.2":          {in: "HTTP/1.2 200 OK\r\n\r\n", err: invalid},
	"S2 http/0.9":          {in: "hello world, here is no status line\r\n", err: invalid},
	"S2 lower case":        {in: "http/1.1 200 OK\r\n\r\n", err: invalid},
	"S2 status 099":        {in: "HTTP/1.1 099 OK\r\n\r\n", err: invalid},
	"S2 status 20":         {in: "HTTP/1.1 20 OK\r\n\r\n", err: invalid},
	"S2 status 2000":       {in: "HTTP/1.1 2000 OK\r\n\r\n", err: invalid},
	"S2 status +20":        {in: "HTTP/1.1 +20 OK\r\n\r\n", err: invalid},
	"S2 two spaces":        {in: "HTTP/1.1  200 OK\r\n\r\n", err: invalid},
	"S2 tab":               {in: "HTTP/1.1\t200 OK\r\n\r\n", err: invalid},
	"S2 empty line first":  {in: "\r\nHTTP/1.1 200 OK\r\n\r\n", err: invalid},
	"S2 nul in the reason": {in: "HTTP/1.1 200 O\x00K\r\n\r\n", err: invalid},
	"S2 cr in the reason":  {in: "HTTP/1.1 200 O\rK\r\n\r\n", err: invalid},
	"S2 space first":       {in: " HTTP/1.1 200 OK\r\n\r\n", err: invalid},
	// Lines and fields.
	"S3 bare lf":            {in: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", err: invalid},
	"S3 bare lf, one":       {in: "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", err: invalid},
	"S3 bare lf, last":      {in: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n", err: invalid},
	"S3 bare cr":            {in: "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", err: invalid},
	"S3 nul":                {in: "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", err: invalid},
	"S3 vt":                 {in: "HTTP/1.1 200 OK\r\nX: a\x0bb\r\n\r\n", err: invalid},
	"S3 space before colon": {in: "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", err: invalid},
	"S3 no colon":           {in: "HTTP/1.1 200 OK\r\nX\r\n\r\n", err: invalid},
	"S3 no name":            {in: "HTTP/1.1 200 OK\r\n: x\r\n\r\n", err: invalid},
	"S3 kept": {
		in:     "HTTP/1.1 200 OK\r\nX_y: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Type: a\r\nContent-Type: b\r\nX: caf\xe9\r\nContent-Length: 0\r\n\r\n",
		reason: "OK", length: -2, fields: "X_y: 1|Set-Cookie: a|Set-Cookie: b|Content-Type: a|Content-Type: b|X: caf\xe9|Content-Length: 0", reusable: true,
	},
	// Obsolete line folding becomes one space.
	"S4 fold":            {in: "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\t c \r\nY: z\r\nContent-Length: 0\r\n\r\n", reason: "OK", length: -2, fields: "X: a b c|Y: z|Content-Length: 0", reusable: true},
	"S4 empty value":     {in: "HTTP/1.1 200 OK\r\nX:\r\n b\r\nContent-Length: 0\r\n\r\n", reason: "OK", length: -2, fields: "X: b|Content-Length: 0", reusable: true},
	"S4 empty fold":      {in: "HTTP/1.1 200 OK\r\nX: a\r\n  \r\nContent-Length: 0\r\n\r\n", reason: "OK", length: -2, fields: "X: a|Content-Length: 0", reusable: true},
	"S4 first line":      {in: "HTTP/1.1 200 OK\r\n X: a\r\n\r\n", err: invalid},
	"S4 in the length":   {in: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n", err: invalid},
	"S4 before length":   {in: "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nhi", reason: "OK", length: 2, fields: "Content-Length: 2", body: "hi", reusable: true},
	"S4 in the coding":   {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: x,\r\n chunked\r\n\r\n", err: invalid},
	"S4 hides a coding":  {in: "HTTP/1.1 200 OK\r\nX: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi", reason: "OK", length: 2, fields: "X: a Transfer-Encoding: chunked|Content-Length: 2", body: "hi", reusable: true},
	"S4 nul in the fold": {in: "HTTP/1.1 200 OK\r\nX: a\r\n \x00\r\n\r\n", err: invalid},
	// Framing.
	"S5 two lengths, equal": {in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", err: invalid},
	"S5 two lengths":        {in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", err: invalid},
	"S5 list":               {in: "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", err: invalid},
	"S5 sign":               {in: "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", err: invalid},
	"S5 negative":           {in: "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", err: invalid},
	"S5 zero first":         {in: "HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nhi", err: invalid},
	"S5 empty":              {in: "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhi", err: invalid},
	"S5 too large":          {in: "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nhi", err: invalid},
	"S6 chunked":            {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x\r\nhi\r\n0\r\nX-T: v\r\nContent-Length: 9\r\n\r\n", reason: "OK", length: -1, fields: "Transfer-Encoding: Chunked|X-T: v", body: "hi", reusable: true},
	"S6 and a length":       {in: "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", reason: "OK", length: -1, fields: "Transfer-Encoding: chunked", body: "hi"},
	"S6 a length behind":    {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n2\r\nhi\r\n0\r\n\r\n", reason: "OK", length: -1, fields: "Transfer-Encoding: chunked", body: "hi"},
	"S6 gzip, chunked":      {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", err: invalid},
	"S6 identity":           {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi", err: invalid},
	"S6 twice":              {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", err: invalid},
	"S6 in http/1.0":        {in: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", err: invalid},
	"S6 bad chunk":          {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhiX\r\n0\r\n\r\n", err: "invalid", body: "hi"},
	"S6 bare lf":            {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n", err: "invalid"},
	// The end of the body.
	"S7 until close":        {in: "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhi", reason: "OK", length: -1, fields: "X: y", body: "hi"},
	"S7 until close, empty": {in: "HTTP/1.1 200 OK\r\n\r\n", reason: "OK", length: -1},
	"S7 short":              {in: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", err: "unexpected EOF", body: "hi"},
	"S7 no body at all":     {in: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", err: "unexpected EOF"},
	"S7 chunks, short":      {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", err: "unexpected EOF", body: "hi"},
	"S7 chunks, last crlf":  {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", err: "unexpected EOF", body: "hi"},
	"S7 head, short":        {in: "HTTP/1.1 200 OK\r\nContent-Le", err: "unexpected EOF"},
	"S7 nothing":            {in: "", err: "EOF"},
	"S7 bytes behind":       {in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n", open: true, reason: "OK", length: 2, fields: "Content-Length: 2", body: "hi"},
	// Without a body.
	"S8 head":               {method: "HEAD", in: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", open: true, reason: "OK", length: -2, fields: "Content-Length: 5", reusable: true},
	"S8 head, chunked":      {method: "HEAD", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", open: true, reason: "OK", length: -2, fields: "Transfer-Encoding: chunked", reusable: true},
	"S8 head with a body":   {method: "HEAD", in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", open: true, reason: "OK", length: -2, fields: "Content-Length: 2"},
	"S8 204":                {in: "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", open: true, reason: "No Content", length: -2, fields: "X: y", reusable: true},
	"S8 204 with a length":  {in: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", open: true, reason: "No Content", length: -2, fields: "Content-Length: 5"},
	"S8 304 with a length":  {in: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", open: true, reason: "Not Modified", length: -2, fields: "Content-Length: 5", reusable: true},
	"S8 interim":            {in: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", open: true, reason: "Early Hints", length: -2, fields: "Link: x", reusable: true},
	"S8 101":                {in: "HTTP/1.1 101 x\r\nUpgrade: e\r\nConnection: upgrade\r\n\r\ntunnel", open: true, reason: "x", length: -2, fields: "Upgrade: e|Connection: upgrade"},
	"S8 head, lower method": {method: "head", in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", reason: "OK", length: 2, fields: "Content-Length: 2", body: "hi", reusable: true},
	// Persistence.
	"S9 close":           {in: "HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 0\r\n\r\n", reason: "OK", length: -2, fields: "Connection: x, CLOSE|Content-Length: 0"},
	"S9 close, two":      {in: "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", reason: "OK", length: -2, fields: "Connection: keep-alive|Connection: close|Content-Length: 0"},
	"S9 http/1.0":        {in: "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", reason: "OK", length: -2, fields: "Content-Length: 0"},
	"S9 http/1.0, keeps": {in: "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", reason: "OK", length: 2, fields: "Connection: Keep-Alive|Content-Length: 2", body: "hi", reusable: true},
	// Sizes.
	"S10 256 fields":     {in: "HTTP/1.1 200 OK\r\n" + fields(255) + "Content-Length: 0\r\n\r\n", reason: "OK", length: -2, fields: strings.ReplaceAll(fields(255), "\r\n", "|") + "Content-Length: 0", reusable: true},
	"S10 257 fields":     {in: "HTTP/1.1 200 OK\r\n" + fields(257) + "\r\n", err: invalid},
	"S10 64 KiB":         {in: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + strings.Repeat("x", 64<<10-17-19-3-4) + "\r\n\r\n", reason: "OK", length: -2, fields: "Content-Length: 0|X: " + strings.Repeat("x", 64<<10-17-19-3-4), reusable: true},
	"S10 64 KiB and one": {in: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + strings.Repeat("x", 64<<10-17-19-3-3) + "\r\n\r\n", err: invalid},
	"S10 endless line":   {in: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10), open: true, err: invalid},
	"S10 endless status": {in: "HTTP/1.1 200 " + strings.Repeat("x", 100<<10), open: true, err: invalid},
}

// want is the outcome that s describes.
func (s sample) matches(o outcome) string {
	if s.err != "" {
		if !strings.HasPrefix(o.err, s.err) || o.body != s.body {
			return fmt.Sprintf("error %q behind %q, want %q behind %q", o.err, o.body, s.err, s.body)
		}
		return ""
	}
	_, head, _ := strings.Cut(o.head, " ")
	status, _, _ := strings.Cut(strings.TrimPrefix(s.in, "HTTP/1."), "\r\n")
	want := fmt.Sprintf("%s %q length=%d\n", status[2:5], s.reason, s.length)
	if s.fields != "" {
		want += strings.ReplaceAll(s.fields, "|", "\r\n") + "\r\n"
	}
	want += fmt.Sprint("reusable=", s.reusable)
	if o.err != "" || head != want || o.body != s.body {
		return fmt.Sprintf("error %q, head %.400q, body %q; want head %.400q, body %q", o.err, head, o.body, want, s.body)
	}
	return ""
}

// TestAnswers reads answers of Pods whole, cut in two at every byte, and byte by byte, over both kinds of connections.
func TestAnswers(t *testing.T) {
	for name, s := range samples {
		t.Run(name, func(t *testing.T) {
			if s.method == "" {
				s.method = "GET"
			}
			end := io.EOF
			if s.open {
				end = errSilent
			}
			run := func(pieces [][]byte) outcome {
				return answer(&piecewise{pieces: pieces, end: end}, s.method, http1.Limits{})
			}
			whole := run(split(s.in))
			if problem := s.matches(whole); problem != "" {
				t.Fatal(problem)
			}
			for _, at := range cuts(s.in) {
				if got := run(split(s.in, at)); !equal(got, whole) {
					t.Fatalf("cut at %d: %v, want %v", at, got, whole)
				}
			}
			if got := run(every(s.in)); !equal(got, whole) {
				t.Fatalf("byte by byte: %v, want %v", got, whole)
			}
			for _, pieces := range [][][]byte{split(s.in), split(s.in, len(s.in)/2), split(s.in, len(s.in)/3, len(s.in)/2)} {
				conn, stop := overSocket(t, pieces, end)
				got := answer(conn, s.method, http1.Limits{})
				got.used = whole.used
				if !equal(got, whole) {
					t.Errorf("over a socket: %v, want %v", got, whole)
				}
				stop()
			}
		})
	}
}

// equal compares all but what depends on when bytes behind the message arrive, which is not of this message.
func equal(a, b outcome) bool {
	if strings.HasSuffix(a.head, "reusable=true") && strings.HasSuffix(b.head, "reusable=false") && b.used > 0 {
		a.head = strings.TrimSuffix(a.head, "true") + "false"
	}
	return a == b
}

// TestTightAnswerLimits moves the limit over every position of a head.
func TestTightAnswerLimits(t *testing.T) {
	for _, in := range []string{
		"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: y\r\nA\rB: 0\r\n\r\n",
	} {
		for n := 1; n < len(in)+3; n++ {
			for _, limits := range []http1.Limits{{ResponseHead: n}, {ResponseFields: n}} {
				run := func(pieces [][]byte) outcome {
					return answer(&piecewise{pieces: pieces, end: errSilent}, "GET", limits)
				}
				whole := run(split(in))
				if limits.ResponseHead > 0 && n < len(in) && whole.status != 502 {
					t.Fatalf("limit %d: a head of %d bytes: %v", n, len(in), whole)
				}
				for at := 1; at < len(in); at++ {
					if got := run(split(in, at)); got != whole {
						t.Fatalf("%q, limit %d, cut at %d: %v, whole %v", in, n, at, got, whole)
					}
				}
				if got := run(every(in)); got != whole {
					t.Fatalf("%q, limit %d, byte by byte: %v, whole %v", in, n, got, whole)
				}
			}
		}
	}
}

// TestInterimThenFinal: heads follow each other on one connection, whatever the pieces.
func TestInterimThenFinal(t *testing.T) {
	const in = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	pieces := [][][]byte{split(in), every(in)}
	for at := 1; at < len(in); at++ {
		pieces = append(pieces, split(in, at))
	}
	for _, p := range pieces {
		c := http1.NewClient(&piecewise{pieces: slices.Clone(p), end: errSilent}, http1.Limits{})
		x := exchange.New()
		for _, want := range []int{100, 103, 200} {
			if err := c.ReadResponse(x); err != nil || x.Response.Status != want {
				t.Fatalf("%d pieces: status %d, %v; want %d", len(p), x.Response.Status, err, want)
			}
		}
		if got, err := drain(x.Response.Body); got != "hi" || err != nil || !c.Finished() {
			t.Fatalf("%q %v", got, err)
		}
		x.Release()
		c.Close()
	}
}
