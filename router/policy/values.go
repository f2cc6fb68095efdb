package policy

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Values are the annotations of one Ingress that belong to one Family, keyed by Key.Name. The methods parse a value by
// ingress-nginx's rules, and return absent where the key is not there. Their errors are *ValueError.
type Values map[string]string

// ValueError says that the value of one key does not parse.
type ValueError struct {
	// Key is Key.Name: the annotation without its prefix.
	Key string
	// Value is what was written.
	Value string
	// Want says what to write instead, to be read after "write ": `a number of seconds, as in "60"`.
	Want string
	// Why is what is wrong with it, where that is not plain from Want: "a lookahead has no counterpart in RE2". It may be nil.
	Why error
}

// Error names the key, quotes the value and says what to write instead.
func (e *ValueError) Error() string {
	if e.Why != nil {
		return fmt.Sprintf("%s: %s is not valid: %v; write %s", e.Key, quote(e.Value), e.Why, e.Want)
	}
	return fmt.Sprintf("%s: %s is not valid: write %s", e.Key, quote(e.Value), e.Want)
}

// Unwrap returns Why.
func (e *ValueError) Unwrap() error { return e.Why }

// quote quotes a value of a user for a message, cut to a length that a line can bear.
func quote(value string) string {
	const most = 80
	if len(value) > most {
		return strconv.Quote(strings.ToValidUTF8(value[:most], "")) + "…"
	}
	return strconv.Quote(value)
}

// Has says whether the key is there.
func (v Values) Has(key string) bool {
	_, ok := v[key]
	return ok
}

// Text returns the text as it is, without the white space around it.
func (v Values) Text(key, absent string) string {
	s, ok := v[key]
	if !ok {
		return absent
	}
	return strings.TrimSpace(s)
}

// Bool parses with strconv.ParseBool.
func (v Values) Bool(key string, absent bool) (bool, error) {
	s, ok := v[key]
	if !ok {
		return absent, nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return absent, &ValueError{Key: key, Value: s, Want: `"true" or "false"`}
	}
	return b, nil
}

// Switch parses nginx's "on" and "off".
func (v Values) Switch(key string, absent bool) (bool, error) {
	switch s := v.Text(key, ""); {
	case !v.Has(key):
		return absent, nil
	case s == "on":
		return true, nil
	case s != "off":
		return absent, &ValueError{Key: key, Value: v[key], Want: `"on" or "off"`}
	}
	return false, nil
}

// Int parses with strconv.Atoi.
func (v Values) Int(key string, absent int) (int, error) {
	s, ok := v[key]
	if !ok {
		return absent, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return absent, &ValueError{Key: key, Value: s, Want: `a whole number, as in "10"`}
	}
	return n, nil
}

// IntRange is Int for numbers from least to most, both included.
func (v Values) IntRange(key string, absent, least, most int) (int, error) {
	n, err := v.Int(key, absent)
	if err == nil && v.Has(key) && (n < least || n > most) {
		return absent, &ValueError{Key: key, Value: v[key], Want: fmt.Sprintf("a whole number from %d to %d", least, most)}
	}
	return n, err
}

// Duration parses a number of seconds without a unit, a Go duration ("1m30s"), or a time of nginx's ("1d 12h"). It is never negative.
func (v Values) Duration(key string, absent time.Duration) (time.Duration, error) {
	s, ok := v[key]
	if !ok {
		return absent, nil
	}
	invalid := &ValueError{Key: key, Value: s, Want: `a number of seconds, as in "60", or a duration with units, as in "1m30s"`}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 || n > int64(math.MaxInt64/time.Second) {
			return absent, invalid
		}
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		var ok bool
		if d, ok = nginxTime(s); !ok {
			return absent, invalid
		}
	}
	if d < 0 {
		return absent, invalid
	}
	return d, nil
}

// nginxTime reads a time as nginx does: numbers with units, of which each is there once and the longest comes first, with or without spaces between
// them. A month has 30 days, a year 365; a number without unit, which comes last, is of seconds.
func nginxTime(s string) (total time.Duration, ok bool) {
	const day = 24 * time.Hour
	units := []struct {
		suffix string
		length time.Duration
	}{{"y", 365 * day}, {"M", 30 * day}, {"w", 7 * day}, {"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeft(s, " ") {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		n, err := strconv.ParseInt(s[:digits], 10, 64)
		if err != nil {
			return 0, false
		}
		suffix := s[digits:]
		if end := strings.IndexAny(suffix, "0123456789 "); end >= 0 {
			suffix = suffix[:end]
		}
		s = s[digits+len(suffix):]
		if suffix == "" {
			suffix = "s"
		}
		for len(units) > 0 && units[0].suffix != suffix {
			units = units[1:]
		}
		if len(units) == 0 || n > int64((math.MaxInt64-total)/units[0].length) {
			return 0, false
		}
		total, units, ok = total+time.Duration(n)*units[0].length, units[1:], true
	}
	return total, ok
}

// Size parses nginx's sizes into bytes: digits and an optional b, k, m or g in either case.
func (v Values) Size(key string, absent int64) (int64, error) {
	s, ok := v[key]
	if !ok {
		return absent, nil
	}
	digits, unit := s, int64(1)
	if s != "" {
		digits = s[:len(s)-1]
		switch s[len(s)-1] {
		case 'b', 'B':
		case 'k', 'K':
			unit = 1 << 10
		case 'm', 'M':
			unit = 1 << 20
		case 'g', 'G':
			unit = 1 << 30
		default:
			digits = s
		}
	}
	// ParseUint takes no sign and no underscores with base 10.
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > uint64(math.MaxInt64/unit) {
		return absent, &ValueError{Key: key, Value: s, Want: `a size: digits and an optional b, k, m or g, as in "8m"`}
	}
	return int64(n) * unit, nil
}

// List splits at commas, trims white space and leaves empty members out. It returns nil where nothing remains.
func (v Values) List(key string) []string {
	var list []string
	for member := range strings.SplitSeq(v[key], ",") {
		if member = strings.TrimSpace(member); member != "" {
			list = append(list, member)
		}
	}
	return list
}

// URL parses an absolute URL with scheme http or https and a host. It returns nil where the key is not there.
func (v Values) URL(key string) (*url.URL, error) {
	s, ok := v[key]
	if !ok {
		return nil, nil //nolint:nilnil // an absent key is neither a URL nor an error
	}
	text := strings.TrimSpace(s)
	u, err := url.Parse(text)
	// net/url lets a fragment hold them.
	if err != nil || strings.ContainsFunc(text, unicode.IsControl) || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, &ValueError{Key: key, Value: s, Want: `an absolute URL, as in "https://auth.example.com/check"`}
	}
	return u, nil
}
