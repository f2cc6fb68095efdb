package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"podlane.dev/podlane/proxy/observe"
)

// asked counts what a list was asked for.
type asked struct{ texts, values int }

// numbered are n rows, of which row i says "row i" and whether i is even.
func numbered(n int, a *asked) func() Rows {
	return func() Rows {
		return Rows{
			Number: n,
			Text: func(i int) string {
				a.texts++
				return fmt.Sprintf("row %d %s", i, []string{"even", "odd"}[i%2])
			},
			Value: func(i int) any {
				a.values++
				return i
			},
		}
	}
}

func newTest(a *asked) *Dashboard {
	synced := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return New(Options{
		Lists:  map[string]func() Rows{"routes": numbered(120, a), "problems": numbered(0, a)},
		State:  func() State { return State{Version: "v1", Generation: 7, NotReady: "why", Synced: synced} },
		Totals: func() observe.Totals { return observe.Totals{Bounds: []float64{1}, Times: make([]uint64, 2)} },
	})
}

// ask sends a request and returns what was answered.
func ask(d *Dashboard, method, target string) (*http.Response, string) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w.Result(), w.Body.String()
}

func TestList(t *testing.T) {
	for _, test := range []struct {
		query          string
		matched, first int
		rows           int
		asked          asked
	}{
		{"", 120, 0, 50, asked{0, 50}},
		{"offset=100", 120, 100, 20, asked{0, 20}},
		{"offset=119&limit=1000", 120, 119, 1, asked{0, 1}},
		{"offset=120", 120, 0, 0, asked{}},
		{"offset=1073741824", 120, 0, 0, asked{}},
		{"limit=0", 120, 0, 0, asked{}},
		{"limit=3&offset=2", 120, 2, 3, asked{0, 3}},
		{"q=++", 120, 0, 50, asked{0, 50}},
		{"q=odd", 60, 1, 50, asked{120, 50}},
		{"q=odd&offset=50", 60, 101, 10, asked{120, 10}},
		{"q=ODD+row+11", 6, 11, 6, asked{120, 6}}, // 11, and 111, 113, 115, 117, 119
		{"q=11+even&limit=2&offset=1", 5, 112, 2, asked{120, 2}},
		{"q=nowhere", 0, 0, 0, asked{120, 0}},
		{"q=odd&offset=60", 60, 0, 0, asked{120, 0}},
	} {
		var a asked
		r, body := ask(newTest(&a), http.MethodGet, Path+"api/list/routes?"+test.query)
		var got struct {
			Total, Matched, Offset *int
			Rows                   []int
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s %v %s", test.query, r.Status, err, body)
			continue
		}
		if *got.Total != 120 || *got.Matched != test.matched || len(got.Rows) != test.rows || test.rows > 0 && got.Rows[0] != test.first || got.Rows == nil {
			t.Errorf("%s: %s", test.query, body)
		}
		if a != test.asked {
			t.Errorf("%s: asked for %+v, want %+v", test.query, a, test.asked)
		}
	}
}

func TestEmptyList(t *testing.T) {
	for _, query := range []string{"", "?q=word"} {
		if _, body := ask(newTest(new(asked)), http.MethodGet, Path+"api/list/problems"+query); body != `{"total":0,"matched":0,"offset":0,"rows":[]}` {
			t.Errorf("%q: %s", query, body)
		}
	}
}

func TestRefused(t *testing.T) {
	d := newTest(new(asked))
	for _, test := range []struct {
		method, target string
		status         int
		says           string
	}{
		{http.MethodGet, "api/list/pods", http.StatusNotFound, `there is no list "pods"`},
		{http.MethodGet, "api/list/", http.StatusNotFound, ""},
		{http.MethodGet, "api/list/routes/x", http.StatusNotFound, ""},
		{http.MethodGet, "api/list/routes?offset=-1", http.StatusBadRequest, `offset: "-1" is no number from 0 to`},
		{http.MethodGet, "api/list/routes?offset=1073741825", http.StatusBadRequest, "offset: "},
		{http.MethodGet, "api/list/routes?offset=99999999999999999999", http.StatusBadRequest, "offset: "},
		{http.MethodGet, "api/list/routes?limit=1001", http.StatusBadRequest, `limit: "1001" is no number from 0 to 1000`},
		{http.MethodGet, "api/list/routes?limit=x", http.StatusBadRequest, "limit: "},
		{http.MethodGet, "nothing.js", http.StatusNotFound, ""},
		{http.MethodGet, "../dashboard.go", http.StatusTemporaryRedirect, ""}, // to /dashboard.go, which is not here
		{http.MethodPost, "api/state", http.StatusMethodNotAllowed, ""},
		{http.MethodDelete, "api/list/routes", http.StatusMethodNotAllowed, ""},
		{http.MethodPost, "", http.StatusMethodNotAllowed, ""},
	} {
		r, body := ask(d, test.method, Path+test.target)
		if r.StatusCode != test.status || !strings.Contains(body, test.says) {
			t.Errorf("%s %s: %s %q, want %d and %q", test.method, test.target, r.Status, body, test.status, test.says)
		}
		if r.StatusCode != http.StatusNotFound { // a file server's 404 says nothing of caches
			checkHeader(t, test.target, r.Header)
		}
	}
}

// checkHeader looks at what every answer says to browsers.
func checkHeader(t *testing.T, name string, h http.Header) {
	t.Helper()
	csp := h.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(csp, part) {
			t.Errorf("%s: no %s in %q", name, part, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("%s: %q", name, csp)
	}
	for field, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
		"Access-Control-Allow-Origin": "",
	} {
		if got := h.Get(field); got != want {
			t.Errorf("%s: %s is %q, want %q", name, field, got, want)
		}
	}
}

// TestAssets: the page is whole, has no script and no style but its files, and asks nobody else.
func TestAssets(t *testing.T) {
	d := newTest(new(asked))
	for name, kind := range map[string]string{
		"": "text/html; charset=utf-8", "style.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		r, body := ask(d, http.MethodGet, Path+name)
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != kind || body == "" {
			t.Errorf("%q: %s %s", name, r.Status, r.Header)
		}
		checkHeader(t, name, r.Header)
		body = strings.ReplaceAll(body, "http://www.w3.org/2000/svg", "")
		for _, never := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "<style", " style=", " onclick=", "//cdn", `src="http`} {
			if strings.Contains(body, never) {
				t.Errorf("%q has %s", name, never)
			}
		}
	}
	if _, body := ask(d, http.MethodGet, Path); !strings.Contains(body, `<script src="page.js" type="module"></script>`) || strings.Count(body, "<script") != 1 {
		t.Error("the page has other scripts")
	}
}

func TestState(t *testing.T) {
	var a asked
	d := newTest(&a)
	_, body := ask(d, http.MethodGet, Path+"api/state")
	var got struct {
		Version      string
		Generation   int
		NotReady     string
		Synced, Now  time.Time
		Counts       map[string]int
		EverySeconds float64
		Samples      []Sample
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != "v1" || got.Generation != 7 || got.NotReady != "why" || got.Synced.Year() != 2026 || time.Since(got.Now).Abs() > time.Hour {
		t.Error(body)
	}
	if got.Counts["routes"] != 120 || got.Counts["problems"] != 0 || len(got.Counts) != 2 || got.EverySeconds != 5 || got.Samples == nil {
		t.Error(body)
	}
	if a != (asked{}) {
		t.Errorf("counting asked for %+v", a)
	}
}

// TestUnmarshalable: what cannot be sent is an error, and not half an answer.
func TestUnmarshalable(t *testing.T) {
	d := New(Options{Lists: map[string]func() Rows{"odd": func() Rows {
		return Rows{Number: 1, Value: func(int) any { return func() {} }}
	}}})
	if r, body := ask(d, http.MethodGet, Path+"api/list/odd"); r.StatusCode != http.StatusInternalServerError || strings.Contains(body, "rows") {
		t.Errorf("%s %s", r.Status, body)
	}
}

// TestRun: a sample every five seconds, the first one after five, and none once it has ended.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests uint64
		d := New(Options{Totals: func() observe.Totals {
			requests += 50
			return observe.Totals{Requests: requests, InFlight: 3, Bounds: []float64{1}, Times: make([]uint64, 2)}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			d.Run(ctx)
			close(ended)
		}()
		synctest.Wait()
		if n := len(d.samples.all()); n != 0 {
			t.Errorf("%d samples at once", n)
		}
		time.Sleep(12 * time.Second)
		synctest.Wait()
		samples := d.samples.all()
		if len(samples) != 2 || samples[0].Rate != 10 || samples[1].InFlight != 3 || samples[1].At-samples[0].At != 5000 {
			t.Errorf("%+v", samples)
		}
		cancel()
		<-ended
		time.Sleep(time.Minute)
		if n := len(d.samples.all()); n != 2 {
			t.Errorf("%d samples after the end", n)
		}
	})
}
