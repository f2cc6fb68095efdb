package bodies

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
)

// both are the defaults of ingress-nginx with both codings on.
func both(t testing.TB) *Compression {
	t.Helper()
	return newCompression(t, CompressionSettings{
		Gzip:   &Coding{Level: 1, MinLength: 256, Types: []string{"text/plain", "application/json"}},
		Brotli: &Coding{Level: 4, MinLength: 20, Types: []string{"text/plain", "application/json"}},
	})
}

func newCompression(t testing.TB, s CompressionSettings) *Compression {
	t.Helper()
	c, err := NewCompression(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answer is an exchange whose answer may be compressed unless edit says otherwise. Fields are "Name: value".
type answer struct {
	method  string
	version exchange.Version
	status  int
	request []string
	fields  []string
	body    exchange.Body
}

func (a answer) exchange(t testing.TB) *exchange.Exchange {
	t.Helper()
	x := exchange.New()
	t.Cleanup(x.Release)
	x.Request.Method, x.Request.Version = []byte(a.method), a.version
	x.Response.Status, x.Response.Body = a.status, a.body
	for i, list := range [][]string{a.request, a.fields} {
		f := &x.Request.Fields
		if i == 1 {
			f = &x.Response.Fields
		}
		for _, line := range list {
			name, value, _ := strings.Cut(line, ": ")
			f.AddString(name, value)
		}
	}
	return x
}

func plain(accept string) answer {
	a := answer{
		method: "GET", version: exchange.HTTP11, status: 200, fields: []string{"Content-Type: text/plain"},
		body: &exchange.Text{S: strings.Repeat("hello ", 1000)},
	}
	if accept != "" {
		a.request = []string{"Accept-Encoding: " + accept}
	}
	return a
}

// all returns the values of a field, joined.
func all(f *exchange.Fields, want string) string {
	var values []string
	for i := range f.Len() {
		if _, name, value, ok := f.At(i); ok && exchange.EqualFold(name, want) {
			values = append(values, string(value))
		}
	}
	return strings.Join(values, "|")
}

func TestNegotiation(t *testing.T) {
	for accept, want := range map[string]string{
		"":                             "",
		"gzip":                         "gzip",
		"GZip":                         "gzip",
		"x-gzip":                       "gzip",
		"br":                           "br",
		"gzip, deflate, br, zstd":      "br",
		"gzip,br":                      "br",
		"deflate, zstd":                "",
		"gzip;q=0":                     "",
		"gzip;q=0.0, br;q=0.000":       "",
		"gzip;q=0.001":                 "gzip",
		"gzip; q=0.5 , br ; q=0.5":     "br",
		"gzip;q=1.0, br;q=0.9":         "gzip",
		"gzip;q=0.8, br;q=0.9":         "br",
		"*":                            "br",
		"*;q=0":                        "",
		"br;q=0, *":                    "gzip",
		"gzip;q=0, *;q=0.1":            "br",
		"identity":                     "",
		"identity;q=1, gzip;q=0.5":     "",
		"identity;q=0.5, gzip;q=0.5":   "gzip",
		"identity;q=0, gzip":           "gzip",
		"gzip;q=2":                     "",
		"gzip;q=1.001":                 "",
		"gzip;q=0.0001":                "",
		"gzip;q=":                      "",
		"gzip;q":                       "",
		"gzip;q=-1":                    "",
		"gzip;q=1,0":                   "gzip",
		"gzip;Q=1":                     "gzip",
		"gzip;level=1":                 "",
		"gzip;q=0, gzip":               "",
		" , ,gzip,":                    "gzip",
		"gzippy, brx, xgzip":           "",
		"gzip br":                      "",
		"deflate;q=1, *;q=0.5, br;q=0": "gzip",
	} {
		x := plain(accept).exchange(t)
		both(t).FilterResponse(x)
		if got := all(&x.Response.Fields, "Content-Encoding"); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
		if got := all(&x.Response.Fields, "Vary"); got != "Accept-Encoding" {
			t.Errorf("%q: Vary %q", accept, got)
		}
	}
	// Several lines are one list.
	a := plain("deflate")
	a.request = append(a.request, "Accept: br", "Accept-Encoding: gzip")
	x := a.exchange(t)
	if both(t).FilterResponse(x); all(&x.Response.Fields, "Content-Encoding") != "gzip" {
		t.Error("the second line was not read")
	}
}

// Which answers are compressed, and which say that they might have been.
func TestEligible(t *testing.T) {
	const maybe, never = "maybe", "never"
	for name, row := range map[string]struct {
		edit func(a *answer)
		want string
	}{
		"plain":                {func(*answer) {}, "br"},
		"403":                  {func(a *answer) { a.status = 403 }, "br"},
		"404":                  {func(a *answer) { a.status = 404 }, "br"},
		"201":                  {func(a *answer) { a.status = 201 }, never},
		"206":                  {func(a *answer) { a.status = 206 }, never},
		"500":                  {func(a *answer) { a.status = 500 }, never},
		"POST":                 {func(a *answer) { a.method = "POST" }, "br"},
		"HTTP/1.0":             {func(a *answer) { a.version = exchange.HTTP10 }, maybe},
		"HTTP/2":               {func(a *answer) { a.version = exchange.HTTP2 }, "br"},
		"no body":              {func(a *answer) { a.body = nil }, never},
		"empty body":           {func(a *answer) { a.body = &exchange.Text{} }, never},
		"for brotli only":      {func(a *answer) { a.body = &exchange.Text{S: strings.Repeat("x", 20)} }, "br"},
		"too short for brotli": {func(a *answer) { a.body = &exchange.Text{S: strings.Repeat("x", 19)} }, never},
		"too short for gzip": {func(a *answer) {
			a.body, a.request = &exchange.Text{S: strings.Repeat("x", 255)}, []string{"Accept-Encoding: gzip"}
		}, maybe},
		"as long as gzip wants": {func(a *answer) {
			a.body, a.request = &exchange.Text{S: strings.Repeat("x", 256)}, []string{"Accept-Encoding: gzip"}
		}, "gzip"},
		"of unknown length":       {func(a *answer) { a.body = &script{pieces: [][]byte{{'x'}}} }, "br"},
		"type with a charset":     {func(a *answer) { a.fields = []string{"Content-Type: TEXT/Plain ; charset=utf-8"} }, "br"},
		"html is always listed":   {func(a *answer) { a.fields = []string{"Content-Type: text/html;charset=utf-8"} }, "br"},
		"type that is not listed": {func(a *answer) { a.fields = []string{"Content-Type: image/png"} }, never},
		"type like one listed":    {func(a *answer) { a.fields = []string{"Content-Type: text/plainer"} }, never},
		"no type":                 {func(a *answer) { a.fields = nil }, never},
		"coded already":           {func(a *answer) { a.fields = append(a.fields, "Content-Encoding: zstd") }, never},
		"coded as nothing":        {func(a *answer) { a.fields = append(a.fields, "Content-Encoding: identity") }, never},
		"no-transform":            {func(a *answer) { a.fields = append(a.fields, "Cache-Control: public, No-Transform") }, never},
		"other directives":        {func(a *answer) { a.fields = append(a.fields, "Cache-Control: no-transformer, no-cache") }, "br"},
	} {
		a := plain("gzip, br")
		row.edit(&a)
		x := a.exchange(t)
		both(t).FilterResponse(x)
		got := all(&x.Response.Fields, "Content-Encoding")
		vary := all(&x.Response.Fields, "Vary")
		_, wraps := x.Response.Body.(*encoded)
		switch row.want {
		case never, maybe:
			if wraps || vary != map[string]string{never: "", maybe: "Accept-Encoding"}[row.want] {
				t.Errorf("%s: coded %v as %q, Vary %q; want %s", name, wraps, got, vary, row.want)
			}
		default:
			if got != row.want || !wraps || vary != "Accept-Encoding" || x.Response.Body.Length() != -1 {
				t.Errorf("%s: coded %v as %q, Vary %q; want %s", name, wraps, got, vary, row.want)
			}
		}
	}
}

// An answer to HEAD has the fields that GET would get, whether its body's length is known or not, and no encoder is taken for it.
func TestHeadIsAsGet(t *testing.T) {
	for _, row := range []struct{ length, accept, coding, vary string }{
		{"6000", "gzip", "gzip", "Accept-Encoding"},
		{"", "br", "br", "Accept-Encoding"},
		{"6000", "", "", "Accept-Encoding"},
		{"255", "gzip", "", "Accept-Encoding"},
		{"19", "gzip, br", "", ""},
		{"0", "gzip", "", ""},
	} {
		a := plain(row.accept)
		a.method, a.body = "HEAD", nil
		if a.fields = append(a.fields, `ETag: "a"`); row.length != "" {
			a.fields = append(a.fields, "Content-Length: "+row.length)
		}
		x, c := a.exchange(t), both(t)
		c.FilterResponse(x)
		f := &x.Response.Fields
		if all(f, "Content-Encoding") != row.coding || all(f, "Vary") != row.vary || (all(f, "Content-Length") == "") != (row.length == "" || row.coding != "") ||
			(all(f, "ETag") == `W/"a"`) != (row.coding != "") || c.Active() != 0 || x.Response.Body != nil {
			t.Errorf("%v: %q", row, f.AppendTo(nil))
		}
	}
	a := plain("gzip")
	a.method = "HEAD"
	x := a.exchange(t)
	x.Response.Local = true
	if both(t).FilterResponse(x); x.Response.Body != nil || all(&x.Response.Fields, "Content-Encoding") != "gzip" {
		t.Errorf("an answer of the proxy's own says the length of its body in clear: %q", x.Response.Fields.AppendTo(nil))
	}
}

// What compression changes in the head of an answer.
func TestCodedHead(t *testing.T) {
	for _, row := range []struct{ name, before, after string }{
		{"Content-Length", "6000", ""},
		{"Accept-Ranges", "bytes", ""},
		{"ETag", `"a"`, `W/"a"`},
		{"ETag", `W/"a"`, `W/"a"`},
		{"ETag", `a`, ``},
		{"ETag", `"`, ``},
		{"Vary", "Cookie", "Cookie|Accept-Encoding"},
		{"Vary", "Cookie, accept-encoding", "Cookie, accept-encoding"},
		{"Vary", "*", "*"},
		{"Content-Language", "de", "de"},
		{"Cache-Control", "max-age=1", "max-age=1"},
	} {
		a := plain("gzip")
		a.fields = append(a.fields, row.name+": "+row.before)
		x := a.exchange(t)
		x.Scratch = append(x.Scratch, "kept"...)
		both(t).FilterResponse(x)
		if got := all(&x.Response.Fields, row.name); got != row.after {
			t.Errorf("%s: %s became %q, want %q", row.name, row.before, got, row.after)
		}
		if string(x.Scratch) != "kept" {
			t.Errorf("scratch is %q", x.Scratch)
		}
	}
}

func TestClientsWithoutGzip(t *testing.T) {
	c := newCompression(t, CompressionSettings{Gzip: &Coding{Level: 1}, NoGzip: regexp.MustCompile("(?i)msie [1-6]")})
	for agent, want := range map[string]string{"Mozilla/4.0 (compatible; MSIE 6.0)": "", "Mozilla/5.0": "gzip", "": "gzip"} {
		a := plain("gzip")
		a.fields = []string{"Content-Type: text/html"}
		a.request = append(a.request, "User-Agent: "+agent)
		x := a.exchange(t)
		if c.FilterResponse(x); all(&x.Response.Fields, "Content-Encoding") != want {
			t.Errorf("%q: coded as %q", agent, all(&x.Response.Fields, "Content-Encoding"))
		}
	}
}

func TestAllTypes(t *testing.T) {
	c := newCompression(t, CompressionSettings{Brotli: &Coding{Types: []string{"*"}}})
	for _, kind := range []string{"image/png", "x"} {
		a := plain("gzip, br")
		a.fields = []string{"Content-Type: " + kind}
		x := a.exchange(t)
		if c.FilterResponse(x); all(&x.Response.Fields, "Content-Encoding") != "br" {
			t.Errorf("%s is not coded", kind)
		}
	}
}

func TestNewCompressionRefuses(t *testing.T) {
	for _, s := range []CompressionSettings{
		{Gzip: &Coding{Level: 0}},
		{Gzip: &Coding{Level: 10}},
		{Brotli: &Coding{Level: -1}},
		{Brotli: &Coding{Level: 12}, Gzip: &Coding{Level: 1}},
		{Encoders: -1},
	} {
		if c, err := NewCompression(s); err == nil || c != nil {
			t.Errorf("%+v is taken", s)
		}
	}
	x := plain("gzip, br").exchange(t)
	if newCompression(t, CompressionSettings{}).FilterResponse(x); all(&x.Response.Fields, "Vary") != "" {
		t.Error("with both codings off an answer was changed")
	}
}

func FuzzAcceptEncoding(f *testing.F) {
	for _, s := range []string{"gzip;q=0.5, br", "*;q=0", ";;,=", "gzip;q=1.", "identity;q=0.999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var fields exchange.Fields
		fields.AddString("Accept-Encoding", value)
		w := weigh(&fields)
		for coding := range codings {
			if n := w.of(coding); n < 0 || n > 1000 {
				t.Errorf("%q: weight %d of coding %d", value, n, coding)
			}
		}
		lower := strings.ToLower(value)
		if c := codingOfText(t, value); c == "br" && !strings.Contains(lower, "br") && !strings.Contains(lower, "*") ||
			c == "gzip" && !strings.Contains(lower, "gzip") && !strings.Contains(lower, "*") {
			t.Errorf("%q got %s", value, c)
		}
	})
}

func codingOfText(t *testing.T, accept string) string {
	t.Helper()
	x := plain("").exchange(t)
	x.Request.Fields.AddString("Accept-Encoding", accept)
	both(t).FilterResponse(x)
	return all(&x.Response.Fields, "Content-Encoding")
}

func ExampleCompression() {
	c, err := NewCompression(CompressionSettings{Gzip: &Coding{Level: 1, MinLength: 256, Types: strings.Fields("application/json text/css")}})
	fmt.Println(c != nil, err)
	// Output: true <nil>
}
