package filters

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"podlane.dev/podlane/router/policy"
)

// Causes are the reasons for which a request is tried again elsewhere.
type Causes uint16

// The reasons, as nginx has them.
const (
	// OnError: no connection, or one that ended before the head of the answer was there.
	OnError Causes = 1 << iota
	// OnTimeout: no connection in time, or no answer.
	OnTimeout
	// OnInvalidHead: an answer that is not HTTP.
	OnInvalidHead
	on500
	on502
	on503
	on504
	on403
	on404
	on429
	nonIdempotent
)

// Again says what is tried again elsewhere. It is immutable.
type Again struct {
	// On are the reasons for which it is.
	On Causes
	// Tries is how often a request is tried in all, 0 for no limit; after Timeout, unless it is 0, it is not tried again.
	Tries   int
	Timeout time.Duration
}

// NextUpstream returns the family of what is tried again, on another Pod.
func NextUpstream() Policy {
	return &Of[Again]{
		Of: policy.Of[Again]{
			Name: "next-upstream",
			Doc: "Says when a request is tried again on another Pod. Without any of these keys that is so after a connect that failed (up to three), after a " +
				"connection that ended before a byte of the answer (once, if the method can bear it), and for requests that a Pod says it has " +
				"not processed. With one of them nginx's rules hold: what has been sent in part can be sent again only if its body was read first (see " +
				"proxy-request-buffering), and POST, LOCK and PATCH not at all unless non_idempotent is given.",
			Keys:      nextUpstreamKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseNextUpstream,
		},
		Forward: func(f *Forwarding, v Again) { f.Again = &v },
	}
}

func nextUpstreamKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "proxy-next-upstream", Kind: policy.String, Where: policy.Everywhere, Default: "the rules above", Compat: "error timeout", Example: "error timeout http_503",
			Doc: "The reasons, as words: error, timeout, invalid_header, http_500, http_502, http_503, http_504, http_403, http_404, http_429, non_idempotent, " +
				"or off, which tries nothing again.",
			Differs: "no Pod is tried twice: where there is no other, what the last one answered is the answer",
		},
		{
			Name: "proxy-next-upstream-timeout", Kind: policy.Duration, Where: policy.Everywhere, Default: "0", Example: "30",
			Doc: "In which time a request may be tried again; 0 means that there is no limit.",
		},
		{
			Name: "proxy-next-upstream-tries", Kind: policy.Int, Where: policy.Everywhere, Default: "3", Example: "2",
			Doc:     "How often a request is tried, the first time included; 0 means that there is no limit.",
			Differs: "there are never more than 16 tries",
		},
		{
			Name: "retry-non-idempotent", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "true",
			Doc: "Adds non_idempotent to what proxy-next-upstream says.",
		},
	}
}

// causeWords returns nginx's words for the reasons, in the order of their bits.
func causeWords() []string {
	return []string{"error", "timeout", "invalid_header", "http_500", "http_502", "http_503", "http_504", "http_403", "http_404", "http_429", "non_idempotent"}
}

// cause returns the reason that a word stands for.
func cause(word string) (c Causes, ok bool) {
	i := slices.Index(causeWords(), word)
	return 1 << max(i, 0), i >= 0
}

// String returns a for the text of a Table.
func (a Again) String() string {
	var words []string
	for i, word := range causeWords() {
		if a.On&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	text := cmp.Or(strings.Join(words, " "), "off") + fmt.Sprintf(", %d tries", a.Tries)
	if a.Timeout > 0 {
		text += " in " + a.Timeout.String()
	}
	return text
}

// defaultTries is proxy-next-upstream-tries where nobody says it.
const defaultTries = 3

func parseNextUpstream(v policy.Values) (Again, error) {
	const words = "proxy-next-upstream"
	a := Again{On: OnError | OnTimeout}
	var wrong error
	if v.Has(words) {
		list := strings.Fields(v[words])
		a.On = 0
		for _, word := range list {
			c, ok := cause(word)
			if a.On |= c; !ok && word != "off" || len(list) > 1 && word == "off" {
				wrong = &policy.ValueError{Key: words, Value: v[words], Want: `words from error, timeout, invalid_header, http_500, http_502, http_503, http_504, http_403, http_404, http_429 and non_idempotent, or "off"`}
			}
		}
		if len(list) == 0 {
			wrong = &policy.ValueError{Key: words, Value: v[words], Want: `words, as in "error timeout", or "off"`}
		}
		if len(list) == 1 && list[0] == "off" {
			a.On = 0
		}
	}
	const most = 1000
	var err1, err2, err3 error
	var always bool
	a.Timeout, err1 = v.Duration("proxy-next-upstream-timeout", 0)
	a.Tries, err2 = v.IntRange("proxy-next-upstream-tries", defaultTries, 0, most)
	if always, err3 = v.Bool("retry-non-idempotent", false); always && a.On != 0 {
		a.On |= nonIdempotent
	}
	if err := errors.Join(wrong, err1, err2, err3); err != nil {
		return Again{}, err
	}
	return a, nil
}

// Unsent reports whether a request of which no Pod has got anything is tried again for the reason c.
func (a *Again) Unsent(c Causes) bool { return a.On&c != 0 }

// Sent reports whether a request of this method that a Pod has got, in whole or in part, is.
func (a *Again) Sent(c Causes, method []byte) bool {
	switch string(method) {
	case "POST", "LOCK", "PATCH":
		return a.On&c != 0 && a.On&nonIdempotent != 0
	}
	return a.On&c != 0
}

// OnStatus returns the reason that the status of an answer is, 0 for none.
func OnStatus(status int) Causes {
	switch status {
	case 500:
		return on500
	case 502:
		return on502
	case 503:
		return on503
	case 504:
		return on504
	case 403:
		return on403
	case 404:
		return on404
	case 429:
		return on429
	}
	return 0
}
