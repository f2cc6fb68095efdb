package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValues(t *testing.T) {
	tests := []struct {
		kind, text string
		want       any
		ok         bool
	}{
		{"bool", "true", true, true},
		{"bool", "T", true, true},
		{"bool", "0", false, true},
		{"bool", "yes", false, false},
		{"bool", "on", false, false},
		{"bool", "", false, false},
		{"int", "10", 10, true},
		{"int", "-3", -3, true},
		{"int", "+3", 3, true},
		{"int", "1_000", 0, false},
		{"int", "10/s", 0, false},
		{"int", "99999999999999999999", 0, false},
		{"range", "100", 100, true},
		{"range", "0", 0, false},
		{"range", "101", 0, false},
		{"duration", "60", time.Minute, true},
		{"duration", "0", time.Duration(0), true},
		{"duration", "1m30s", 90 * time.Second, true},
		{"duration", "500ms", 500 * time.Millisecond, true},
		{"duration", "1d", 24 * time.Hour, true},
		{"duration", "1w 2d 3h30m5s", (7*24+2*24+3)*time.Hour + 30*time.Minute + 5*time.Second, true},
		{"duration", "1y1M", (365 + 30) * 24 * time.Hour, true},
		{"duration", "1d 60", 24*time.Hour + time.Minute, true},
		{"duration", "2d1d", time.Duration(0), false},
		{"duration", "1h 1d", time.Duration(0), false},
		{"duration", "d", time.Duration(0), false},
		{"duration", "1D", time.Duration(0), false},
		{"duration", "300y", time.Duration(0), false},
		{"duration", "292y 300d", time.Duration(0), false},
		{"duration", "", time.Duration(0), false},
		{"duration", "-1", time.Duration(0), false},
		{"duration", "-1s", time.Duration(0), false},
		{"duration", "9223372036854775807", time.Duration(0), false},
		{"duration", "1 minute", time.Duration(0), false},
		{"size", "0", int64(0), true},
		{"size", "512", int64(512), true},
		{"size", "512b", int64(512), true},
		{"size", "8k", int64(8 << 10), true},
		{"size", "1M", int64(1 << 20), true},
		{"size", "2g", int64(2 << 30), true},
		{"size", "8589934592g", int64(0), false},
		{"size", "9223372036854775807", int64(1<<63 - 1), true},
		{"size", "8mb", int64(0), false},
		{"size", "m", int64(0), false},
		{"size", "-1m", int64(0), false},
		{"size", "1.5m", int64(0), false},
		{"size", "", int64(0), false},
		{"url", "https://a.example:8443/x?y", "https://a.example:8443/x?y", true},
		{"url", " http://a ", "http://a", true},
		{"url", "https://$host/oauth2/start", "https://$host/oauth2/start", true},
		{"url", "ftp://a", "", false},
		{"url", "//a/b", "", false},
		{"url", "https://", "", false},
		{"url", "https://a b", "", false},
	}
	for _, tt := range tests {
		v := Values{"key": tt.text}
		var got any
		var err error
		switch tt.kind {
		case "bool":
			got, err = v.Bool("key", false)
		case "int":
			got, err = v.Int("key", 0)
		case "range":
			got, err = v.IntRange("key", 0, 1, 100)
		case "duration":
			got, err = v.Duration("key", 0)
		case "size":
			got, err = v.Size("key", 0)
		case "url":
			u, urlErr := v.URL("key")
			if got, err = "", urlErr; u != nil {
				got = u.String()
			}
		}
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s %q = %v, %v; want %v", tt.kind, tt.text, got, err, tt.want)
		}
		var value *ValueError
		if err != nil && (!errors.As(err, &value) || value.Key != "key" || !strings.Contains(err.Error(), "key: ")) {
			t.Errorf("%s %q: error %q does not name the key", tt.kind, tt.text, err)
		}
	}
}

func TestValuesAbsent(t *testing.T) {
	var v Values
	b, err1 := v.Bool("k", true)
	n, err2 := v.Int("k", 7)
	r, err3 := v.IntRange("k", 0, 1, 2)
	d, err4 := v.Duration("k", time.Hour)
	s, err5 := v.Size("k", 9)
	u, err6 := v.URL("k")
	if !b || n != 7 || r != 0 || d != time.Hour || s != 9 || u != nil || v.List("k") != nil || v.Text("k", "x") != "x" || v.Has("k") {
		t.Errorf("absent keys gave %v %v %v %v %v %v", b, n, r, d, s, u)
	}
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Error(err)
	}
}

func TestValuesList(t *testing.T) {
	if got := (Values{"k": " a, b ,,c ,"}).List("k"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("List = %q", got)
	}
	if got := (Values{"k": " , "}).List("k"); got != nil {
		t.Errorf("List of nothing = %q", got)
	}
}

func TestValueErrorIsBounded(t *testing.T) {
	_, err := Values{"k": strings.Repeat("é", 10_000)}.Bool("k", false)
	if len(err.Error()) > 300 {
		t.Errorf("a long value makes a message of %d bytes", len(err.Error()))
	}
}

// limit is a policy value for the tests.
type limit struct{ N int }

func goodFamily() *Of[limit] {
	return &Of[limit]{
		Name: "limit", Doc: "Limits something.", IfInvalid: Ignore,
		Keys: []Key{{Name: "limit-n", Kind: Int, Doc: "How many.", Default: "none", Example: "10"}},
		Parse: func(v Values) (limit, error) {
			n, err := v.Int("limit-n", 0)
			return limit{n}, err
		},
	}
}

func TestValidate(t *testing.T) {
	if err := Validate([]Family{goodFamily()}); err != nil {
		t.Fatalf("a good family: %v", err)
	}
	if err := Validate(nil); err != nil {
		t.Fatalf("no families: %v", err)
	}
	tests := map[string]func(*Of[limit]){
		"IfInvalid must be":                        func(f *Of[limit]) { f.IfInvalid = 0 },
		"there is no doc":                          func(f *Of[limit]) { f.Doc = " " },
		"there are no keys":                        func(f *Of[limit]) { f.Keys = nil },
		"there is no example":                      func(f *Of[limit]) { f.Keys[0].Example = "" },
		`key "limit-n": limit-n: "x" is not valid`: func(f *Of[limit]) { f.Keys[0].Example = "x" },
		`there is no kind "number"`:                func(f *Of[limit]) { f.Keys[0].Kind = "number" },
		"the name must be":                         func(f *Of[limit]) { f.Name = "Limit" },
		`key "limit_n": the name must be`:          func(f *Of[limit]) { f.Keys[0].Name = "limit_n" },
		"the examples do not parse":                func(f *Of[limit]) { f.Parse = func(Values) (limit, error) { return limit{}, errors.New("no") } },
		"parsing the examples panics: boom":        func(f *Of[limit]) { f.Parse = func(Values) (limit, error) { panic("boom") } },
		"needs a String method": func(f *Of[limit]) {
			calls := 0
			f.Parse = func(Values) (limit, error) { calls++; return limit{calls}, nil }
		},
	}
	for want, spoil := range tests {
		f := goodFamily()
		spoil(f)
		if err := Validate([]Family{f}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	other := goodFamily()
	other.Name = "other"
	if err := Validate([]Family{goodFamily(), other}); err == nil || !strings.Contains(err.Error(), `key "limit-n" belongs to family "limit" already`) {
		t.Errorf("a key of two families: %v", err)
	}
	if err := Validate([]Family{goodFamily(), goodFamily(), nil}); err == nil || !strings.Contains(err.Error(), "listed twice") || !strings.Contains(err.Error(), "family 2 is nil") {
		t.Errorf("a family listed twice, and nil: %v", err)
	}
}

func TestValueString(t *testing.T) {
	if got := (Value{Family: "limit", Parsed: &limit{3}}).String(); got != "limit &{N:3}" {
		t.Errorf("got %q", got)
	}
	if got := (Value{Family: "limit", Parsed: secretive{}}).String(); got != "limit (hidden)" {
		t.Errorf("a Stringer gave %q", got)
	}
	if got := (Value{Family: "limit"}).String(); got != "limit" {
		t.Errorf("no value gave %q", got)
	}
}

type secretive struct{}

func (secretive) String() string { return "(hidden)" }

func FuzzValues(f *testing.F) {
	for _, s := range []string{"60", "1m", "8k", "", "-", "0x10", "1e9", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := Values{"k": text}
		if n, err := v.Size("k", 0); n < 0 {
			t.Errorf("Size(%q) = %d, %v", text, n, err)
		}
		if d, err := v.Duration("k", 0); d < 0 {
			t.Errorf("Duration(%q) = %v, %v", text, d, err)
		}
		for _, member := range v.List("k") {
			if member == "" || strings.ContainsRune(member, ',') {
				t.Errorf("List(%q) has the member %q", text, member)
			}
		}
		if u, err := v.URL("k"); (u == nil) == (err == nil) {
			t.Errorf("URL(%q) = %v, %v", text, u, err)
		}
		_ = fmt.Sprint(v.Text("k", ""))
	})
}
