package router

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestParseTicketKeys(t *testing.T) {
	random := func(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n) }
	encode := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	a, b, c := random('a', 32), random('b', 48), random('c', 80)
	want := func(texts ...[]byte) *TicketKeys {
		k, err := ParseTicketKeys(texts...)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if first := want(a).Keys()[0]; !bytes.Equal(first[:], a) {
		t.Errorf("a key of 32 bytes is %q", first)
	}
	if want(b).Equal(want(random('b', 80))) || want(random('b', 33)[:32]).Equal(want(b)) {
		t.Error("not all of a long key counts")
	}
	for _, tc := range []struct {
		story string
		texts []string
		want  *TicketKeys // nil: an error
	}{
		{"binary", []string{string(a), string(b), string(c)}, want(a, b, c)},
		{"base64", []string{encode(c)}, want(c)},
		{"lines", []string{encode(a) + "\n\n" + encode(b) + "\r\n" + encode(c) + "\n"}, want(a, b, c)},
		{"the order counts", []string{encode(b) + "\n" + encode(a)}, want(b, a)},
		{"twice", []string{encode(a) + "\n" + encode(a), string(a)}, want(a)},
		{"an empty text beside a key", []string{"", string(a)}, want(a)},
		{"nothing", nil, nil},
		{"empty", []string{""}, nil},
		{"a short key", []string{encode(random('a', 31))}, nil},
		{"a long key", []string{encode(random('a', 81))}, nil},
		{"48 and 80 bytes are nginx's, 64 is nobody's", []string{encode(random('a', 64))}, nil},
		{"no base64", []string{strings.Repeat("?", 44)}, nil},
		{"one bad line", []string{encode(a) + "\nx\n"}, nil},
		{"a bad text beside a key", []string{string(a), "x"}, nil},
	} {
		var texts [][]byte
		for _, text := range tc.texts {
			texts = append(texts, []byte(text))
		}
		got, err := ParseTicketKeys(texts...)
		switch {
		case (err != nil) != (tc.want == nil):
			t.Errorf("%s: error %v", tc.story, err)
		case err == nil && !got.Equal(tc.want):
			t.Errorf("%s: got %x, want %x", tc.story, got.Keys(), tc.want.Keys())
		case err != nil && strings.ContainsAny(err.Error(), "?\n"):
			t.Errorf("%s: the error holds what was read: %v", tc.story, err)
		}
	}
	var many [][]byte
	for i := range MaxTicketKeys + 1 {
		many = append(many, random(byte(i), 32))
	}
	if _, err := ParseTicketKeys(many...); err == nil {
		t.Error("too many keys are taken")
	}
	if k, err := ParseTicketKeys(many[1:]...); err != nil || len(k.Keys()) != MaxTicketKeys {
		t.Errorf("%v, %v", k, err)
	}
	if k := want(a); k.Equal(want(a, b)) || k.Equal(nil) || !(*TicketKeys)(nil).Equal(nil) {
		t.Error("Equal")
	}
}

// TestTicketKeysPrintNothing: whoever logs a Table logs no key.
func TestTicketKeysPrintNothing(t *testing.T) {
	k, err := ParseTicketKeys(bytes.Repeat([]byte{0xAB}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		if got := fmt.Sprintf(verb, k); got != "1 session ticket keys" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func FuzzParseTicketKeys(f *testing.F) {
	f.Add([]byte("x"), []byte(base64.StdEncoding.EncodeToString(make([]byte, 80))+"\n"))
	f.Add(make([]byte, 32), []byte("\r\n"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		k, err := ParseTicketKeys(one, two)
		if (k == nil) == (err == nil) {
			t.Fatalf("%v, %v", k, err)
		}
		if err != nil {
			return
		}
		seen := map[[32]byte]bool{}
		for _, key := range k.Keys() {
			if seen[key] {
				t.Error("a key comes twice")
			}
			seen[key] = true
		}
		if n := len(k.Keys()); n == 0 || n > MaxTicketKeys {
			t.Errorf("%d keys", n)
		}
	})
}
