package exchange_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"podlane.dev/podlane/proxy/exchange"
)

// line is a field as the model keeps it; gone ones keep their place.
type line struct {
	name, value string
	gone        bool
}

// model is what Fields should be: a slice, and nothing clever.
type model []line

func (m model) each(name string, f func(i int)) {
	for i, l := range m {
		if !l.gone && strings.EqualFold(l.name, name) {
			f(i)
		}
	}
}

func (m model) del(name string) (found bool) {
	m.each(name, func(i int) { m[i].gone, found = true, true })
	return found
}

func (m model) text() string {
	var b strings.Builder
	for _, l := range m {
		if !l.gone {
			fmt.Fprintf(&b, "%s: %s\r\n", l.name, l.value)
		}
	}
	return b.String()
}

// compare checks every way of reading f against m.
func (m model) compare(t *rapid.T, f *exchange.Fields, names []string) {
	if got := string(f.AppendTo([]byte("x"))); got != "x"+m.text() {
		t.Fatalf("AppendTo: %q, want %q", got, "x"+m.text())
	}
	if got, want := f.Size(), len(m.text()); got != want {
		t.Fatalf("Size = %d, want %d", got, want)
	}
	if f.Len() != len(m) {
		t.Fatalf("Len = %d, want %d", f.Len(), len(m))
	}
	for i, l := range m {
		id, name, value, ok := f.At(i)
		if ok == l.gone || ok && (string(name) != l.name || string(value) != l.value || id != exchange.IDOf(l.name)) {
			t.Fatalf("At(%d) = %d %q %q %v, want %+v", i, id, name, value, ok, l)
		}
	}
	for _, name := range names {
		var values []string
		m.each(name, func(i int) { values = append(values, m[i].value) })
		v, ok := f.Lookup(name)
		if ok != (len(values) > 0) || ok && string(v) != values[0] {
			t.Fatalf("Lookup(%q) = %q %v, want %q", name, v, ok, values)
		}
		id := exchange.IDOf(name)
		if id == exchange.Unknown {
			continue
		}
		if f.Has(id) != ok || f.Count(id) != len(values) {
			t.Fatalf("%q: Has = %v, Count = %d, want %q", name, f.Has(id), f.Count(id), values)
		}
		switch got := f.Get(id); {
		case !ok && got != nil:
			t.Fatalf("Get(%q) = %q, want nil", name, got)
		case ok && (got == nil || string(got) != values[0]):
			t.Fatalf("Get(%q) = %q, want %q", name, got, values[0])
		}
	}
}

var fieldNames = []string{
	"Host", "host", "Cookie", "COOKIE", "cookie", "Connection", "X-Forwarded-For", "x-forwarded-for", "Via", "X-a", "x-A", "X-b", "Xb",
}

// parseInto writes a head of generated lines, with untidy white space, and gives f their offsets, as a codec does.
func parseInto(t *rapid.T, f *exchange.Fields) (head []byte, m model) {
	type span [4]int
	var spans []span
	head = append(head, "GET / HTTP/1.1\r\n"...)
	gap := rapid.SampledFrom([]string{"", " ", "  ", "\t", " \t"})
	for range rapid.IntRange(0, 8).Draw(t, "parsed") {
		l := line{name: rapid.SampledFrom(fieldNames).Draw(t, "name"), value: rapid.SampledFrom([]string{"", "a", "b c", "long value"}).Draw(t, "value")}
		at := len(head)
		head = append(head, l.name+":"...)
		head = append(head, gap.Draw(t, "before")...)
		from := len(head)
		head = append(head, l.value...)
		to := len(head)
		head = append(head, gap.Draw(t, "after")...)
		head = append(head, "\r\n"...)
		if rapid.IntRange(0, 4).Draw(t, "dropped") == 0 {
			continue // a field that the codec did not pass on
		}
		spans = append(spans, span{at, at + len(l.name), from, to})
		m = append(m, l)
	}
	f.Reset(head)
	for i, s := range spans {
		f.Parsed(exchange.IDOf(m[i].name), s[0], s[1], s[2], s[3])
	}
	return head, m
}

func TestFieldsAgainstModel(t *testing.T) {
	var f exchange.Fields // one for all, as in a pooled Exchange
	rapid.Check(t, func(t *rapid.T) {
		head, m := parseInto(t, &f)
		m.compare(t, &f, fieldNames)
		name := rapid.SampledFrom(fieldNames)
		known := rapid.SampledFrom([]exchange.ID{exchange.Host, exchange.Cookie, exchange.Connection, exchange.XForwardedFor, exchange.Via, exchange.Server})
		value := rapid.SampledFrom([]string{"", "1", "two", strings.Repeat("3", 5000)})
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { m.compare(t, &f, fieldNames) },
			"Add": func(t *rapid.T) {
				n, v := name.Draw(t, "name"), value.Draw(t, "value")
				f.Add(n, []byte(v))
				m = append(m, line{name: n, value: v})
			},
			"AddString": func(t *rapid.T) {
				n, v := name.Draw(t, "name"), value.Draw(t, "value")
				f.AddString(n, v)
				m = append(m, line{name: n, value: v})
			},
			"Set": func(t *rapid.T) {
				id, v := known.Draw(t, "id"), value.Draw(t, "value")
				f.Set(id, []byte(v))
				m.del(id.Name())
				m = append(m, line{name: id.Name(), value: v})
			},
			"SetString": func(t *rapid.T) {
				id, v := known.Draw(t, "id"), value.Draw(t, "value")
				f.SetString(id, v)
				m.del(id.Name())
				m = append(m, line{name: id.Name(), value: v})
			},
			"SetToItself": func(t *rapid.T) {
				id := known.Draw(t, "id")
				if !f.Has(id) {
					t.Skip("none")
				}
				v := f.Get(id) // may lie in the memory to which Set appends
				want := string(v)
				f.Set(id, v)
				m.del(id.Name())
				m = append(m, line{name: id.Name(), value: want})
			},
			"Del": func(t *rapid.T) {
				id := known.Draw(t, "id")
				if got, want := f.Del(id), m.del(id.Name()); got != want {
					t.Fatalf("Del = %v, want %v", got, want)
				}
			},
			"DelName": func(t *rapid.T) {
				n := name.Draw(t, "name")
				f.DelName([]byte(n))
				m.del(n)
			},
			"DelAt": func(t *rapid.T) {
				if len(m) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(m)-1).Draw(t, "i")
				f.DelAt(i)
				m[i].gone = true
			},
			"Rebase": func(*rapid.T) {
				// The codec's buffer moves: what was there before must not be read again.
				moved := append([]byte(nil), head...)
				for i := range head {
					head[i] = '!'
				}
				head = moved
				f.Rebase(head)
			},
		})
	})
}

func TestFieldsResetForgets(t *testing.T) {
	var f exchange.Fields
	f.Reset([]byte("Host: a\r\n"))
	f.Parsed(exchange.Host, 0, 4, 6, 7)
	f.AddString("X-Y", "z")
	f.Reset(nil)
	if f.Len() != 0 || f.Size() != 0 || f.Has(exchange.Host) || f.Get(exchange.Host) != nil || len(f.AppendTo(nil)) != 0 {
		t.Error("something is left after Reset")
	}
	if _, ok := f.Lookup("x-y"); ok {
		t.Error("an added field is left after Reset")
	}
}

// TestReleasedExchangeIsEmpty: what one request left must not be visible to the next, whoever forgets to reset what.
func TestReleasedExchangeIsEmpty(t *testing.T) {
	x := exchange.New()
	sections := []*exchange.Fields{&x.Request.Fields, &x.Request.Trailers, &x.Response.Fields, &x.Response.Trailers}
	for _, f := range sections {
		f.Reset([]byte("Cookie: secret\r\n"))
		f.Parsed(exchange.Cookie, 0, 6, 8, 14)
		f.AddString("Authorization", "secret")
	}
	x.Answer(403, exchange.Filter, "no\n")
	x.Request.Target, x.Request.Forward, x.RequestID = []byte("/secret"), []byte("/secret"), []byte("1")
	x.Request.Upgrade, x.Request.ExpectContinue, x.Request.Close, x.Request.TrailersOK = []byte("x"), true, true, true
	x.Scratch = append(x.Scratch, "secret"...)
	x.BytesIn, x.BytesOut, x.Upstream.Tries = 1, 1, 1
	x.Release()
	// Only x itself is looked at: what the pool returns next may be another. A reader of x here stands for its next owner.
	for i, f := range sections {
		if f.Len() != 0 || f.Size() != 0 || f.Has(exchange.Cookie) || f.Has(exchange.Authorization) || f.Count(exchange.Cookie) != 0 {
			t.Errorf("section %d is not empty", i)
		}
		if _, ok := f.Lookup("cookie"); ok {
			t.Errorf("section %d still has a cookie", i)
		}
	}
	q, r := &x.Request, &x.Response
	if q.Target != nil || q.Forward != nil || q.Upgrade != nil || q.ExpectContinue || q.Close || q.TrailersOK || q.Body != nil {
		t.Errorf("request: %+v", q)
	}
	if r.Status != 0 || r.Local || r.Why != exchange.NoReason || r.Body != nil {
		t.Errorf("response: %+v", r)
	}
	if len(x.Scratch) != 0 || x.RequestID != nil || x.BytesIn != 0 || x.BytesOut != 0 || x.Upstream.Tries != 0 {
		t.Error("the exchange is not empty")
	}
}

func TestAnswer(t *testing.T) {
	x := exchange.New()
	defer x.Release()
	x.Response.Fields.Reset(nil)
	x.Response.Fields.SetString(exchange.SetCookie, "a=b")
	x.Answer(404, exchange.NoRoute, "nothing here\n")
	r := &x.Response
	if r.Status != 404 || !r.Local || r.Why != exchange.NoRoute || r.Fields.Has(exchange.SetCookie) || r.Body.Length() != 13 {
		t.Errorf("%+v", r)
	}
	if b, err := r.Body.Next(); string(b) != "nothing here\n" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if b, err := r.Body.Next(); len(b) != 0 || err == nil {
		t.Errorf("%q %v", b, err)
	}
	x.Answer(200, exchange.NoReason, "")
	if r.Body != nil || r.Fields.Has(exchange.ContentType) {
		t.Error("an empty answer has a body or a type")
	}
}

// Own makes fields outlive the codec's buffer: nothing else about them changes.
func TestFieldsOwn(t *testing.T) {
	head := []byte("Host: a.test\r\nX-A:1\r\nCookie: c\r\n")
	var f exchange.Fields
	f.Reset(head)
	f.Parsed(exchange.Host, 0, 4, 6, 12)
	f.Parsed(exchange.Unknown, 14, 17, 18, 19)
	f.Parsed(exchange.Cookie, 21, 27, 29, 30)
	f.Del(exchange.Cookie)
	f.AddString("X-B", "2")
	f.Own()
	for i := range head {
		head[i] = '!'
	}
	if got, want := string(f.AppendTo(nil)), "Host: a.test\r\nX-A: 1\r\nX-B: 2\r\n"; got != want {
		t.Errorf("fields are %q, want %q", got, want)
	}
	if got := string(f.Get(exchange.Host)); got != "a.test" {
		t.Errorf("Host is %q", got)
	}
}
