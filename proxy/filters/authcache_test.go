package filters

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router/policy"
)

func TestCacheDurations(t *testing.T) {
	for text, want := range map[string]string{
		"":                          " [200 202 401] 5m0s",
		"5m":                        " [200 301 302] 5m0s",
		"200 404 10ms":              " [200 404] 10ms",
		"200 1h 30m":                " [200] 1h30m0s",
		"any 1d":                    " [] 24h0m0s",
		" 200  1w , 401 1M, 403 1y": " [200] 168h0m0s [401] 720h0m0s [403] 8760h0m0s",
		"200 5s,":                   " [200] 5s",
	} {
		d, err := parseCacheDurations(policy.Values{"k": text}, "k")
		if got := durationsText(d); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"200", "20 5m", "200 5", "200 5m 404", "200 -5m", "2000 5m", "200 9223372036854775807y", "200 9000000000s 9000000000s", "200 5x"} {
		if d, err := parseCacheDurations(policy.Values{"k": text}, "k"); err == nil {
			t.Errorf("%q is accepted: %s", text, durationsText(d))
		}
	}
}

func TestFreshness(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	durations, err := parseCacheDurations(policy.Values{"k": "200 10s, 401 2s, any 1s"}, "k")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		status int
		header http.Header
		want   time.Duration
	}{
		{200, nil, 10 * time.Second},
		{401, nil, 2 * time.Second},
		{503, nil, time.Second},
		{200, http.Header{"Set-Cookie": {"a=1"}}, 0},
		{200, http.Header{"Vary": {"Cookie"}}, 0},
		{200, http.Header{"Cache-Control": {"public, no-store"}}, 0},
		{200, http.Header{"Cache-Control": {"Private"}}, 0},
		{200, http.Header{"Cache-Control": {"max-age=0"}}, 0},
		{200, http.Header{"Cache-Control": {"max-age=5"}}, 5 * time.Second},
		{200, http.Header{"Cache-Control": {"s-maxage=7, max-age=5"}}, 7 * time.Second},
		{200, http.Header{"Cache-Control": {"max-age=5", "s-maxage=7"}}, 7 * time.Second},
		{200, http.Header{"Cache-Control": {"max-age=5, no-cache"}}, 0},
		{200, http.Header{"Cache-Control": {"max-age=x"}}, 0},
		{200, http.Header{"Cache-Control": {"public"}}, 10 * time.Second},
		{200, http.Header{"Expires": {"Sun, 22 Nov 2026 12:00:03 GMT"}}, 3 * time.Second},
		{200, http.Header{"Expires": {"0"}}, 0},
		{200, http.Header{"Expires": {"Sun, 22 Nov 2026 11:00:00 GMT"}}, -time.Hour},
		{200, http.Header{"Expires": {"Sun, 22 Nov 2026 12:00:03 GMT"}, "Cache-Control": {"max-age=5"}}, 5 * time.Second},
		{200, http.Header{"X-Accel-Expires": {"4"}, "Cache-Control": {"no-store"}}, 4 * time.Second},
		{200, http.Header{"X-Accel-Expires": {"0"}}, 0},
		{200, http.Header{"X-Accel-Expires": {fmt.Sprint("@", now.Unix()+9)}}, 9 * time.Second},
		{200, http.Header{"X-Accel-Expires": {"off"}}, 10 * time.Second},
	} {
		if got := freshness(tt.status, tt.header, durations, now); got != tt.want {
			t.Errorf("%d %v: %v, want %v", tt.status, tt.header, got, tt.want)
		}
	}
}

func TestAuthCache(t *testing.T) {
	c := newAuthCache()
	now := time.Now()
	answer := &authAnswer{status: 200}
	key := keyOf([]byte("a"))
	if c.find(key, now) != nil {
		t.Error("an empty cache has an answer")
	}
	c.store(key, answer, now.Add(time.Second))
	if c.find(key, now.Add(time.Second)) != answer {
		t.Error("the answer is not kept for its time")
	}
	if c.find(keyOf([]byte("b")), now) != nil {
		t.Error("another key has the answer")
	}
	if c.find(key, now.Add(time.Second+1)) != nil || len(c.entries) != 0 || c.size != 0 {
		t.Error("the answer is kept for longer")
	}
}

// However many keys come, and however long answers are, the memory is bounded, and the books are right.
func TestAuthCacheIsBounded(t *testing.T) {
	c := newAuthCache()
	now := time.Now()
	long := &authAnswer{status: 200, grant: exchange.Grant{Fields: []exchange.Field{{Name: "X", Value: string(make([]byte, maxCached/2))}}}}
	for i := range 20_000 {
		answer := &authAnswer{status: 200, challenges: []string{"Basic"}}
		if i%100 == 0 {
			answer = long
		}
		key := keyOf(fmt.Append(nil, i))
		c.store(key, answer, now)
		if c.size > maxCacheSize {
			t.Fatalf("%d bytes after %d answers", c.size, i)
		}
		if c.find(key, now) != answer {
			t.Fatalf("answer %d is not there", i)
		}
	}
	if len(c.entries) < 100 {
		t.Errorf("only %d answers are kept", len(c.entries))
	}
	for _, key := range slices.Collect(maps.Keys(c.entries)) {
		c.store(key, c.entries[key].answer, now) // once more
	}
	size := 0
	for _, e := range c.entries {
		size += e.answer.size()
	}
	if size != c.size {
		t.Errorf("the cache counts %d bytes, and has %d", c.size, size)
	}
	huge := &authAnswer{grant: exchange.Grant{Cookies: []string{string(make([]byte, maxCached))}}}
	c.store(keyOf(nil), huge, now)
	if c.find(keyOf(nil), now) != nil {
		t.Error("an answer beyond the bound is kept")
	}
}
