package filters

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

// defaultCacheDuration is ingress-nginx's.
const defaultCacheDuration = "200 202 401 5m"

// cacheDuration says how long answers of some statuses are kept: a line of nginx's proxy_cache_valid.
type cacheDuration struct {
	statuses []int // nil is any
	keep     time.Duration
}

// The units of nginx's times. A month has 30 days, a year 365.
var timeUnits = []struct {
	suffix string
	length time.Duration
}{
	{"ms", time.Millisecond},
	{"s", time.Second},
	{"m", time.Minute},
	{"h", time.Hour},
	{"d", 24 * time.Hour},
	{"w", 7 * 24 * time.Hour},
	{"M", 30 * 24 * time.Hour},
	{"y", 365 * 24 * time.Hour},
}

// parseCacheDurations parses a list of statuses and times.
func parseCacheDurations(v policy.Values, key string) ([]cacheDuration, error) {
	text := v.Text(key, "")
	if text == "" {
		text = defaultCacheDuration
	}
	var durations []cacheDuration
	for line := range strings.SplitSeq(text, ",") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		d, ok := parseCacheDuration(words)
		if !ok {
			return nil, &policy.ValueError{Key: key, Value: v[key], Want: `statuses and a time, as in "200 202 401 5m", or several of them, separated by commas`}
		}
		durations = append(durations, d)
	}
	return durations, nil
}

// parseCacheDuration parses statuses, and times, which are added up.
func parseCacheDuration(words []string) (d cacheDuration, ok bool) {
	anyStatus, timed := false, false
	for _, word := range words {
		status, err := strconv.ParseUint(word, 10, 16)
		isStatus := err == nil && len(word) == 3 && status >= 100
		switch keep, isTime := parseTime(word); {
		case isTime && d.keep+keep >= d.keep:
			d.keep += keep
			timed = true
		case timed:
			return d, false
		case word == "any":
			anyStatus = true
		case isStatus:
			d.statuses = append(d.statuses, int(status))
		default:
			return d, false
		}
	}
	switch {
	case anyStatus:
		d.statuses = nil
	case len(d.statuses) == 0:
		d.statuses = []int{200, 301, 302}
	}
	return d, timed
}

// parseTime parses a number with a unit.
func parseTime(word string) (time.Duration, bool) {
	for _, unit := range timeUnits {
		digits, ok := strings.CutSuffix(word, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || n > uint64(1<<63-1)/uint64(unit.length) {
			continue // "5ms" is no number of seconds
		}
		return time.Duration(n) * unit.length, true
	}
	return 0, false
}

// durationsText returns them for the text of a Table, "" for the default.
func durationsText(durations []cacheDuration) string {
	var b strings.Builder
	for _, d := range durations {
		fmt.Fprintf(&b, " %v %v", d.statuses, d.keep)
	}
	return b.String()
}

// values are the fields of an answer.
type values interface{ Values(name string) []string }

// freshness is how long an answer may be kept, 0 for not at all: what it says itself, else what durations say, by nginx's rules.
func freshness(status int, a values, durations []cacheDuration, now time.Time) time.Duration {
	if len(a.Values(exchange.SetCookie.Name())) > 0 || len(a.Values("Vary")) > 0 {
		return 0
	}
	if d, said := accelExpires(a, now); said {
		return d
	}
	if d, said := cacheControl(a); said {
		return d
	}
	if expires := a.Values("Expires"); len(expires) > 0 {
		at, err := time.Parse(time.RFC1123, expires[0])
		if err != nil {
			return 0
		}
		return at.Sub(now)
	}
	for _, d := range durations {
		if d.statuses == nil || slices.Contains(d.statuses, status) {
			return d.keep
		}
	}
	return 0
}

// accelExpires reads X-Accel-Expires: seconds, or a time since 1970 behind an @.
func accelExpires(a values, now time.Time) (d time.Duration, said bool) {
	values := a.Values("X-Accel-Expires")
	if len(values) == 0 {
		return 0, false
	}
	text, absolute := strings.CutPrefix(values[0], "@")
	n, err := strconv.ParseUint(text, 10, 31)
	switch {
	case err != nil:
		return 0, false
	case absolute:
		return time.Unix(int64(n), 0).Sub(now), true
	}
	return time.Duration(n) * time.Second, true
}

// cacheControl reads Cache-Control as a shared cache does.
func cacheControl(a values) (d time.Duration, said bool) {
	shared := false
	for _, value := range a.Values(exchange.CacheControl.Name()) {
		for directive := range strings.SplitSeq(value, ",") {
			name, text, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
			switch {
			case name == "no-cache" || name == "no-store" || name == "private":
				return 0, true
			case name == "s-maxage" || name == "max-age" && !shared:
				seconds, err := strconv.ParseUint(strings.Trim(text, `"`), 10, 31)
				if err != nil {
					return 0, true
				}
				d, said, shared = time.Duration(seconds)*time.Second, true, name == "s-maxage"
			}
		}
	}
	return d, said
}

// The bounds of the cache of one Route.
const (
	maxCacheSize = 1 << 20
	maxCached    = maxCacheSize / 16 // of one answer
	cacheCost    = 256               // of an answer, beside its text
)

// cacheKey is a hash of what a key expression came to, so that keys are short, and no secret is kept.
type cacheKey [sha256.Size]byte

func keyOf(text []byte) cacheKey { return sha256.Sum256(text) }

// authCache keeps the answers of one Route.
type authCache struct {
	mu      sync.Mutex
	entries map[cacheKey]cachedAnswer
	size    int
}

type cachedAnswer struct {
	answer *authAnswer
	until  time.Time
}

func newAuthCache() *authCache { return &authCache{entries: make(map[cacheKey]cachedAnswer)} }

// find returns the answer for key, or nil.
func (c *authCache) find(key cacheKey, now time.Time) *authAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return nil
	}
	if now.After(e.until) {
		c.remove(key)
		return nil
	}
	return e.answer
}

// store keeps an answer. Where there is no room, some others go: those that the map yields first, which are as good as any.
func (c *authCache) store(key cacheKey, answer *authAnswer, until time.Time) {
	size := answer.size()
	if size > maxCached {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
	for other := range c.entries {
		if c.size+size <= maxCacheSize {
			break
		}
		c.remove(other)
	}
	c.entries[key] = cachedAnswer{answer, until}
	c.size += size
}

func (c *authCache) remove(key cacheKey) {
	if e, ok := c.entries[key]; ok {
		c.size -= e.answer.size()
		delete(c.entries, key)
	}
}

// size is about what an answer costs in memory.
func (a *authAnswer) size() int {
	n := cacheCost
	for _, f := range a.grant.Fields {
		n += len(f.Name) + len(f.Value)
	}
	for _, text := range slices.Concat(a.grant.Cookies, a.challenges) {
		n += len(text)
	}
	return n
}
