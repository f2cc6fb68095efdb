package router

// Place is where a lookup looked.
type Place uint8

// The places, in the order in which a lookup looks.
const (
	ExactHost    Place = iota // the host itself
	WildcardHost              // the wildcard that stands for the host's first label
	PatternHost               // the first alias that is a regular expression and matches the host
	AnyHost                   // the rules without a host
	ExactPath                 // the Exact paths of the host that was found
	RegexPath                 // the regular expressions of the host; only the one that matched is visited
	PrefixPath                // a Prefix that the path lies under; the last one visited is the longest
	HostDefault               // the defaultBackend of an Ingress that names the host
	CatchAll                  // the defaultBackend for everything else
)

// String returns the place in words.
func (p Place) String() string {
	switch p {
	case ExactHost:
		return "exact host"
	case WildcardHost:
		return "wildcard host"
	case PatternHost:
		return "host pattern"
	case AnyHost:
		return "rules without host"
	case ExactPath:
		return "exact path"
	case RegexPath:
		return "path pattern"
	case PrefixPath:
		return "path prefix"
	case HostDefault:
		return "default backend of the host"
	}
	return "default backend of all hosts"
}

// Visit is one thing that a lookup looked at.
type Visit struct {
	Place Place
	// Key is what was looked for: a host, "*.suffix", a path or the part of the path that a Prefix covers.
	Key string
	// Found says whether it is there. For hosts Route is nil even if it is.
	Found bool
	Route *Route
}

// Trace records what one Match looked at. The zero value is ready; the methods work on nil, where they do nothing, so that
// the matching code is the same with and without it. A Trace is used by one goroutine.
type Trace struct {
	// Visits are in the order in which they happened.
	Visits []Visit
	// Steps counts the comparisons with the Table: map lookups and trie nodes.
	Steps int
}

// step counts a comparison that found nothing worth a Visit.
func (t *Trace) step() {
	if t != nil {
		t.Steps++
	}
}

// visit records a place and the route found there, which may be nil.
func (t *Trace) visit(place Place, key string, r *Route) {
	if t != nil {
		t.Steps++
		t.Visits = append(t.Visits, Visit{Place: place, Key: key, Found: r != nil, Route: r})
	}
}

// visitHost records that a host was looked for.
func (t *Trace) visitHost(place Place, key string, h *Host) {
	if t != nil {
		t.Steps++
		t.Visits = append(t.Visits, Visit{Place: place, Key: key, Found: h != nil})
	}
}
