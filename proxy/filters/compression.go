package filters

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"podlane.dev/podlane/proxy/bodies"
	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// compression is the parsed value of the family: a filter that all routes share, because it keeps encoders, or nil, and what it was made of.
type compression struct {
	filter *bodies.Compression
	text   string
}

// String returns what the filter was made of.
func (v compression) String() string {
	if v.filter == nil {
		return "off"
	}
	return v.text
}

// Compression returns the family of shorter answers.
func Compression() Policy {
	return &Of[compression]{
		Of: policy.Of[compression]{
			Name: "compression",
			Doc: "Compresses answers for clients that say that they understand it, as nginx does with its modules for gzip and brotli: those of status 200, 403 " +
				"and 404 of the listed media types that are not short and not compressed already. It is off, because who can have text of theirs " +
				"repeated in an answer, and see how long that is over TLS, learns what else is in it (BREACH): leave out what holds secrets.",
			Keys:      compressionKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseCompression,
		},
		Response: func(_ *router.Route, v compression) exchange.ResponseFilter {
			if v.filter == nil {
				return nil
			}
			return v.filter
		},
	}
}

// The media types of ingress-nginx.
const (
	commonTypes = "application/atom+xml application/javascript application/x-javascript application/json application/rss+xml application/vnd.ms-fontobject " +
		"application/x-font-ttf application/x-web-app-manifest+json application/xhtml+xml application/xml font/opentype image/svg+xml image/x-icon " +
		"text/css text/javascript text/plain text/x-component"
	gzipTypes   = commonTypes
	brotliTypes = "application/xml+rss " + commonTypes
)

func compressionKeys() []policy.Key {
	const spaces = "Media types between spaces; text/html is always one, and \"*\" stands for all."
	return []policy.Key{
		{
			Name: "use-gzip", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "true", Doc: "Turns gzip on.",
			Differs: "answers that say Cache-Control: no-transform are left as they are; a client that accepts x-gzip, or * alone, gets gzip too",
		},
		{Name: "gzip-level", Kind: policy.Int, Where: policy.ConfigMap, Default: "1", Example: "5", Doc: "From 1, fast, to 9, small."},
		{Name: "gzip-min-length", Kind: policy.Int, Where: policy.ConfigMap, Default: "256", Example: "1024", Doc: "In bytes: shorter bodies are left as they are, if they say their length."},
		{Name: "gzip-types", Kind: policy.String, Where: policy.ConfigMap, Default: gzipTypes, Example: "application/json text/css", Doc: spaces},
		{
			Name: "gzip-disable", Kind: policy.String, Where: policy.ConfigMap, Default: "none", Example: "MSIE [1-6]\\.",
			Doc:     "A regular expression (RE2), without regard to case: clients whose User-Agent it matches get no gzip.",
			Differs: "lookaheads and back-references are not to be had, and \"msie6\" is no more than these letters",
		},
		{
			Name: "enable-brotli", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "true",
			Doc: "Turns brotli on, which goes before gzip.", Differs: "a client that says it likes gzip better, by a weight, gets gzip",
		},
		{Name: "brotli-level", Kind: policy.Int, Where: policy.ConfigMap, Default: "4", Example: "6", Doc: "From 0, fast, to 11, small."},
		{Name: "brotli-min-length", Kind: policy.Int, Where: policy.ConfigMap, Default: "20", Example: "1024", Doc: "In bytes, as gzip-min-length."},
		{Name: "brotli-types", Kind: policy.String, Where: policy.ConfigMap, Default: brotliTypes, Example: "application/json text/css", Doc: spaces},
	}
}

// codingKeys are the keys of one coding, and what holds without them.
type codingKeys struct {
	on, level, minLength, types       string
	defaultLevel, least, most, length int
	defaultTypes                      string
}

// parse returns the coding's settings, nil where it is off.
func (k *codingKeys) parse(v policy.Values) (*bodies.Coding, error) {
	on, err1 := v.Bool(k.on, false)
	level, err2 := v.IntRange(k.level, k.defaultLevel, k.least, k.most)
	length, err3 := v.IntRange(k.minLength, k.length, 0, math.MaxInt32)
	types := strings.Fields(v.Text(k.types, k.defaultTypes))
	var err4 error
	for _, t := range types {
		if kind, sub, ok := strings.Cut(t, "/"); t != "*" && (!ok || !isMediaToken(kind) || !isMediaToken(sub)) {
			err4 = &policy.ValueError{Key: k.types, Value: t, Want: `media types between spaces, as in "application/json text/css", or "*"`}
		}
	}
	if err := errors.Join(err1, err2, err3, err4); err != nil || !on {
		return nil, err
	}
	return &bodies.Coding{Level: level, MinLength: int64(length), Types: types}, nil
}

// isMediaToken reports whether s can be a part of a media type (RFC 9110 section 8.3.1).
func isMediaToken(s string) bool { return isToken(strings.NewReplacer("+", "", "*", "x").Replace(s)) }

func parseCompression(v policy.Values) (compression, error) {
	gzip := codingKeys{
		on: "use-gzip", level: "gzip-level", minLength: "gzip-min-length", types: "gzip-types",
		defaultLevel: 1, least: 1, most: 9, length: 256, defaultTypes: gzipTypes,
	}
	brotli := codingKeys{
		on: "enable-brotli", level: "brotli-level", minLength: "brotli-min-length", types: "brotli-types",
		defaultLevel: 4, least: 0, most: 11, length: 20, defaultTypes: brotliTypes,
	}
	var s bodies.CompressionSettings
	var err1, err2, err3 error
	s.Gzip, err1 = gzip.parse(v)
	s.Brotli, err2 = brotli.parse(v)
	disable := v.Text("gzip-disable", "")
	if disable != "" {
		if s.NoGzip, err3 = policy.Regexp("(?i)" + disable); err3 != nil {
			err3 = &policy.ValueError{Key: "gzip-disable", Value: disable, Why: err3, Want: `a regular expression (RE2), as in "MSIE [1-6]\\."`}
		}
	}
	if err := errors.Join(err1, err2, err3); err != nil || s.Gzip == nil && s.Brotli == nil {
		return compression{}, err
	}
	filter, err := bodies.NewCompression(s)
	if err != nil {
		return compression{}, fmt.Errorf("use-gzip: %w", err)
	}
	var text []string
	if s.Brotli != nil {
		text = append(text, "brotli "+brotli.text(s.Brotli))
	}
	if s.Gzip != nil {
		text = append(text, "gzip "+gzip.text(s.Gzip))
	}
	if disable != "" {
		text = append(text, fmt.Sprintf("no gzip for %q", disable))
	}
	return compression{filter, strings.Join(text, ", ")}, nil
}

// text returns c as text: equal settings give equal texts.
func (k *codingKeys) text(c *bodies.Coding) string {
	types := strings.Join(c.Types, " ")
	if types == k.defaultTypes {
		types = "the usual types"
	}
	return fmt.Sprintf("%d from %d bytes for %s", c.Level, c.MinLength, types)
}
