// Package dashboard is the page on the admin port that shows what is live: routes, endpoints, certificates, Problems, rates, and a form that
// explains a request. It is read-only, holds everything that it needs in the binary, and knows of what it shows only rows and their text: who
// makes a Dashboard says where they come from.
package dashboard

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/observe"
)

// Path is where the page is served.
const Path = "/dashboard/"

// Rows are the lines of a list as they were at one moment. There may be thousands, and few are shown: what a line says is asked for when it is
// needed.
type Rows struct {
	// Number is how many there are.
	Number int
	// Text is what a search looks in, in lower case, and Value is sent as JSON; both of the row i, from 0 to Number-1.
	Text  func(i int) string
	Value func(i int) any
}

// State is what stands at the top of the page.
type State struct {
	// Version is Podlane's; Generation that of the live Table.
	Version    string `json:"version"`
	Generation uint64 `json:"generation"`
	// NotReady is why the replica gets no traffic, "" where it does.
	NotReady string `json:"notReady,omitempty"`
	// Synced is up to when what is live is known to be what the source says; zero where the age of that says nothing.
	Synced time.Time `json:"synced,omitzero"`
}

// Options say what is shown. All fields are required; the functions are called concurrently, and what they return is only read.
type Options struct {
	// Lists are rows by the name of their list: those of the page are routes, endpoints, certificates and problems.
	Lists map[string]func() Rows
	State func() State
	// Totals is read every few seconds.
	Totals func() observe.Totals
}

// Dashboard serves the page. It is safe for concurrent use.
type Dashboard struct {
	options Options
	mux     *http.ServeMux
	samples ring
}

//go:embed assets
var assets embed.FS

// New returns a Dashboard. Its plots stay empty until Run is called.
func New(o Options) *Dashboard {
	d := &Dashboard{options: o, mux: http.NewServeMux()}
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the folder is a part of the program
	}
	d.mux.Handle("GET "+Path, http.StripPrefix(Path, http.FileServerFS(files)))
	d.mux.HandleFunc("GET "+Path+"api/list/{name}", d.list)
	d.mux.HandleFunc("GET "+Path+"api/state", d.state)
	return d
}

// Run takes samples for the plots until ctx ends.
func (d *Dashboard) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	d.samples.take(d.options.Totals(), time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.samples.take(d.options.Totals(), now)
		}
	}
}

// ServeHTTP implements http.Handler. Nothing that users of the cluster write can become a script: there are no scripts but the page's own file, and
// other sites may neither frame the page nor read its answers.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	d.mux.ServeHTTP(w, r)
}

// The bounds of a page of rows.
const (
	usualRows = 50
	mostRows  = 1000
)

// listJSON is a page of rows.
type listJSON struct {
	// Total is how many rows there are, Matched how many have all words of the search.
	Total   int `json:"total"`
	Matched int `json:"matched"`
	Offset  int `json:"offset"`
	// Rows are those from Offset on, as many as were asked for.
	Rows []any `json:"rows"`
}

// list answers with a page of the rows that a search finds.
func (d *Dashboard) list(w http.ResponseWriter, r *http.Request) {
	rows, ok := d.options.Lists[r.PathValue("name")]
	if !ok {
		http.Error(w, fmt.Sprintf("there is no list %q", r.PathValue("name")), http.StatusNotFound)
		return
	}
	q := r.URL.Query()
	offset, err := number(q.Get("offset"), 0, 1<<30)
	if err != nil {
		http.Error(w, "offset: "+err.Error(), http.StatusBadRequest)
		return
	}
	limit, err := number(q.Get("limit"), usualRows, mostRows)
	if err != nil {
		http.Error(w, "limit: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, rows().page(strings.Fields(strings.ToLower(q.Get("q"))), offset, limit))
}

// page returns at most limit of the rows that have all words, from the one at offset on.
func (r Rows) page(words []string, offset, limit int) listJSON {
	page := listJSON{Total: r.Number, Offset: offset, Rows: []any{}}
	if len(words) == 0 {
		page.Matched = r.Number
		for i := offset; i < min(offset+limit, r.Number); i++ {
			page.Rows = append(page.Rows, r.Value(i))
		}
		return page
	}
	for i := range r.Number {
		if !hasAll(r.Text(i), words) {
			continue
		}
		if page.Matched++; page.Matched > offset && len(page.Rows) < limit {
			page.Rows = append(page.Rows, r.Value(i))
		}
	}
	return page
}

func hasAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// number reads a whole number of a query, from 0 to most.
func number(text string, usual, most int) (int, error) {
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%q is no number from 0 to %d", text, most)
	}
	return n, nil
}

// stateJSON is the state with the samples of the plots.
type stateJSON struct {
	State
	// Now is this machine's time: the browser's clock may be another.
	Now     time.Time      `json:"now"`
	Counts  map[string]int `json:"counts"`
	Every   float64        `json:"everySeconds"`
	Samples []Sample       `json:"samples"`
}

func (d *Dashboard) state(w http.ResponseWriter, _ *http.Request) {
	s := stateJSON{State: d.options.State(), Now: time.Now(), Counts: map[string]int{}, Every: every.Seconds(), Samples: d.samples.all()}
	for name, rows := range d.options.Lists {
		s.Counts[name] = rows().Number
	}
	answer(w, s)
}

func answer(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client is gone
}
