package filters

import (
	"errors"
	"strings"
	"time"

	"podlane.dev/podlane/router/policy"
)

// timeouts is the parsed value of the family; 0 where nothing is said.
type timeouts struct{ connect, send, read time.Duration }

// String returns t for the text of a Table.
func (t timeouts) String() string {
	var parts []string
	for _, part := range []struct {
		name  string
		limit time.Duration
	}{{"connect", t.connect}, {"send", t.send}, {"read", t.read}} {
		if part.limit > 0 {
			parts = append(parts, part.name+" "+part.limit.String())
		}
	}
	return strings.Join(parts, ", ")
}

// Timeouts returns the family of the times that requests wait for Pods.
func Timeouts() Policy {
	return &Of[timeouts]{
		Of: policy.Of[timeouts]{
			Name: "timeouts",
			Doc: "Says how long requests wait for a Pod: for its connection, and for its next byte in either direction, never for an answer as a whole. " +
				"What is silent for long by nature, which is upgraded connections (WebSockets), event streams and gRPC, may be so for an hour where " +
				"proxy-read-timeout is not given, and as long as it says where it is.",
			Keys:      timeoutKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseTimeouts,
		},
		Forward: func(f *Forwarding, v timeouts) { f.Connect, f.Send, f.Read = v.connect, v.send, v.read },
	}
}

// nothingAtAll is what the keys have in common that differs.
const nothingAtAll = "0, with which nothing would ever be answered, is not taken; a duration may have units"

func timeoutKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "proxy-connect-timeout", Kind: policy.Duration, Where: policy.Everywhere, Default: "5, or --proxy-connect-timeout", Example: "2",
			Doc:     "How long the connect to one endpoint may take, TLS included. Then the next one is tried; where none is left, the answer is 504.",
			Differs: nothingAtAll,
		},
		{
			Name: "proxy-send-timeout", Kind: policy.Duration, Where: policy.Everywhere, Default: "60", Compat: "60", Example: "120",
			Doc:     "How long a Pod may take no byte of the request. Then the answer is 504.",
			Differs: nothingAtAll,
		},
		{
			Name: "proxy-read-timeout", Kind: policy.Duration, Where: policy.Everywhere, Default: "60, and 1h for what is silent by nature", Compat: "60", Example: "3600",
			Doc: "How long a Pod may send no byte of its answer. Before the answer's first byte it is 504 then, after it the client's connection is cut. " +
				"An upgraded connection ends when neither side has sent anything for so long.",
			Differs: nothingAtAll,
		},
	}
}

func parseTimeouts(v policy.Values) (timeouts, error) {
	var t timeouts
	var errs []error
	for _, k := range []struct {
		name string
		to   *time.Duration
	}{{"proxy-connect-timeout", &t.connect}, {"proxy-send-timeout", &t.send}, {"proxy-read-timeout", &t.read}} {
		d, err := v.Duration(k.name, 0)
		if err != nil || v.Has(k.name) && d < time.Millisecond {
			err = &policy.ValueError{Key: k.name, Value: v[k.name], Want: `a number of seconds from 1, as in "60", or a duration with units, as in "1m30s"`}
		}
		*k.to = d
		errs = append(errs, err)
	}
	return t, errors.Join(errs...)
}
