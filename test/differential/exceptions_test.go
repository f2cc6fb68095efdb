package differential

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exception is a difference that was looked at: it excuses what it says, where it says, and nothing else.
type exception struct {
	oracle string
	// what finds the description of the difference.
	what *regexp.Regexp
	// where says whether a request is of the kind that the oracle treats so. raw are all bytes of its connection.
	where func(q request, raw string) bool
	// reason is why it is the oracle's matter and not ours.
	reason string
}

// exceptions is the reviewed list. "node" and the others read what Pods get, "node, clients" what clients send.
var exceptions = []exception{
	{
		"node", regexp.MustCompile(`^refused: HPE_INVALID_METHOD$`), unknownToNode,
		"llhttp has a list of methods; ours is a token, as the contract has it (row R9)",
	},
	{
		"node", regexp.MustCompile(`^refused: HPE_INVALID_VERSION$`), func(q request, _ string) bool { return q.method == "PRI" },
		"llhttp takes PRI for the beginning of HTTP/2; it is a token like others in HTTP/1.1",
	},
	{
		"node", regexp.MustCompile(`^refused: HPE_INVALID_URL$`), rawTarget,
		"llhttp's strict form refuses bytes from 0x80 in targets; browsers and curl send them, and they are forwarded as sent (row R17)",
	},
	{
		"node, clients", regexp.MustCompile(`^refused: HPE_INVALID_METHOD$`), unknownToNode,
		"llhttp has a list of methods; ours is a token, as the contract has it (row R9)",
	},
	{
		"node, clients", regexp.MustCompile(`^refused: HPE_INVALID_VERSION$`), func(q request, _ string) bool { return q.method == "PRI" },
		"llhttp takes PRI for the beginning of HTTP/2; it is a token like others in HTTP/1.1",
	},
	{
		"node, clients", regexp.MustCompile(`^refused: HPE_INVALID_URL$`), rawTarget,
		"llhttp's strict form refuses bytes from 0x80 in targets; browsers and curl send them, and they are forwarded as sent (row R17)",
	},
	{
		"node, clients", regexp.MustCompile(`^refused: HPE_INVALID_(TRANSFER_ENCODING|CONTENT_LENGTH)$`), tabBehindFraming,
		"llhttp does not know that a tab may stand behind a value (RFC 9110 section 5.6.3); the message is framed anew, without it",
	},
	{
		"node, clients", regexp.MustCompile(`^refused: HPE_(INVALID_TRANSFER_ENCODING|INVALID_CONTENT_LENGTH|CLOSED_CONNECTION)$`), framingTrailer,
		"llhttp reads framing and Connection in a trailer section too; we drop them there, as all forbidden trailers (row K9), and frame the message anew",
	},
	{
		"node, clients", regexp.MustCompile(`^refused: $`), droppedUpgrade,
		"llhttp stops behind every request that asks for an upgrade; h2c and TLS are dropped, and the request is an ordinary one (SECURITY A12)",
	},
	{
		"node, clients", regexp.MustCompile(`^refused: HPE_CLOSED_CONNECTION$`),
		func(q request, _ string) bool { return q.holds("Proxy-Connection", "close") },
		"llhttp takes Proxy-Connection for Connection; it is removed, and decides nothing (row N6)",
	},
	{
		"node, clients", regexp.MustCompile(`^refused: HPE_CLOSED_CONNECTION$`),
		func(_ request, raw string) bool { return tabbedOption.MatchString(raw) },
		"llhttp does not know that a tab may stand behind a value (RFC 9110 section 5.6.3), and overlooks keep-alive in HTTP/1.0",
	},
	{
		"nginx", regexp.MustCompile(`^refused: HTTP/1\.1 400`), func(q request, _ string) bool { return !nginxMethod.MatchString(q.method) },
		"nginx takes methods of A to Z, hyphens and underscores",
	},
	{
		"nginx", regexp.MustCompile(`^refused: HTTP/1\.1 400`), func(q request, _ string) bool { return strings.Contains(q.get("Host"), "..") },
		"nginx refuses an empty label in Host; the contract allows every sequence of its characters",
	},
	{
		"nginx", regexp.MustCompile(`^refused: HTTP/1\.1 400`), func(q request, _ string) bool { return encodedClimb.MatchString(q.target) },
		"nginx decodes %2F before it removes dot segments, and refuses what then climbs above the root; we never decode it (path, step 7)",
	},
	{
		"haproxy", regexp.MustCompile(`^refused: HTTP/1\.1 400`), rawTarget,
		"HAProxy refuses bytes from 0x80 in targets unless it is told not to; browsers and curl send them",
	},
	{
		"haproxy", regexp.MustCompile(`^refused: HTTP/1\.1 400`), func(q request, _ string) bool { return strings.EqualFold(q.method, "PRI") },
		"HAProxy keeps PRI for HTTP/2, in any case",
	},
	{
		"haproxy", regexp.MustCompile(`^refused: HTTP/1\.1 400`),
		func(q request, _ string) bool {
			return slices.ContainsFunc(q.fields, func(f field) bool { return len(f.name) > 255 })
		},
		"HAProxy has one byte for the length of a name; the contract allows 256",
	},
	{
		"haproxy", regexp.MustCompile(`^refused: HTTP/1\.1 400`),
		func(q request, _ string) bool { return strings.EqualFold(q.get("Upgrade"), "websocket") },
		"HAProxy refuses a WebSocket handshake without a good key; to us it is the Pod's to judge",
	},
}

// unseen are fields that an oracle keeps to itself, and that are therefore not compared.
var unseen = map[string][]string{
	// It reads the whole body first and then frames it by its length; the others it does not pass on unless it is told to.
	"nginx": {"transfer-encoding", "content-length", "connection", "upgrade", "te"},
}

var (
	nginxMethod  = regexp.MustCompile(`^[A-Z_-]+$`)
	encodedClimb = regexp.MustCompile(`(?i)(^|/|%2f)(\.|%2e){2}(/|%2f|$|\?)`)
	framingTabs  = regexp.MustCompile(`(?i)\n(transfer-encoding|content-length):[^\r\n]*\t *\r\n`)
	tabbedOption = regexp.MustCompile(`(?i)\nconnection:[^\r\n]*keep-alive *\t`)
	trailer      = regexp.MustCompile(`(?i)\r\n0+[^\r\n]*\r\n([^\r\n]+\r\n)*(transfer-encoding|content-length|(proxy-)?connection):`)
)

// nodeMethods are those that llhttp 9 knows.
var nodeMethods = strings.Fields("DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND " +
	"UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK SOURCE QUERY")

func unknownToNode(q request, _ string) bool { return !slices.Contains(nodeMethods, q.method) }

func rawTarget(q request, _ string) bool {
	return strings.ContainsFunc(latinText(q.target), func(r rune) bool { return r >= 0x80 })
}

func tabBehindFraming(_ request, raw string) bool { return framingTabs.MatchString(latinText(raw)) }

func framingTrailer(q request, raw string) bool {
	return q.get("Transfer-Encoding") != "" && trailer.MatchString(latinText(raw))
}

func droppedUpgrade(q request, _ string) bool {
	return q.get("Upgrade") != "" && q.holds("Connection", "upgrade")
}

// holds reports whether one of the fields of a name has word in its value.
func (q request) holds(name, word string) bool {
	return slices.ContainsFunc(q.fields, func(f field) bool {
		return strings.EqualFold(f.name, name) && strings.Contains(strings.ToLower(f.value), word)
	})
}

// latinText makes bytes the characters of the same number: regular expressions are about text.
func latinText(s string) string {
	runes := make([]rune, 0, len(s))
	for _, c := range []byte(s) {
		runes = append(runes, rune(c))
	}
	return string(runes)
}

// excuse returns the exception for a difference, or nil.
func excuse(oracle, what string, requests []request, raw string) *exception {
	for i := range exceptions {
		x := &exceptions[i]
		if x.oracle == oracle && x.what.MatchString(what) && slices.ContainsFunc(requests, func(q request) bool { return x.where(q, raw) }) {
			return x
		}
	}
	return nil
}

// TestExceptionsAreReasoned: an exception without a reason, or for nobody, is a mistake.
func TestExceptionsAreReasoned(t *testing.T) {
	for _, x := range exceptions {
		name, _, _ := strings.Cut(x.oracle, ",")
		if oracles[name] == nil || len(strings.Fields(x.reason)) < 4 {
			t.Errorf("%s: %q", x.oracle, x.reason)
		}
	}
}

// TestDifferencesAreSeen keeps the comparison honest: whatever is changed in a reading is seen, and no exception fits all.
func TestDifferencesAreSeen(t *testing.T) {
	q := request{"POST", "/x", []field{{"Host", "a"}, {"X", "1"}, {"x", "2"}, {"Content-Length", "5"}}, "hello"}
	s := sent{"POST /x HTTP/1.1\r\nHost: a\r\n...", q}
	behind := request{"GET", "/sentinel", []field{{"host", "sentinel"}}, ""}
	if what := s.differs("net/http", reading{[]request{q, behind}, ""}); what != "" {
		t.Errorf("equal: %s", what)
	}
	change := func(f func(*request)) request {
		c := q
		c.fields = slices.Clone(q.fields)
		f(&c)
		return c
	}
	for name, requests := range map[string][]request{
		"none":            nil,
		"no sentinel":     {q},
		"other sentinel":  {q, q},
		"split":           {change(func(q *request) { q.body = "" }), change(func(q *request) { q.method = "helloGET" }), behind},
		"one more":        {q, behind, behind},
		"method":          {change(func(q *request) { q.method = "PUT" }), behind},
		"target":          {change(func(q *request) { q.target = "/X" }), behind},
		"body":            {change(func(q *request) { q.body = "hell" }), behind},
		"field is gone":   {change(func(q *request) { q.fields = q.fields[1:] }), behind},
		"field too many":  {change(func(q *request) { q.fields = append(q.fields, field{"Y", ""}) }), behind},
		"value":           {change(func(q *request) { q.fields[0].value = "b" }), behind},
		"order":           {change(func(q *request) { q.fields[1], q.fields[2] = q.fields[2], q.fields[1] }), behind},
		"one of two":      {change(func(q *request) { q.fields = slices.Delete(q.fields, 1, 2) }), behind},
		"joined by comma": {change(func(q *request) { q.fields = append(q.fields[:1:1], field{"X", "1, 2"}, q.fields[3]) }), behind},
	} {
		what := s.differs("net/http", reading{requests, ""})
		if what == "" {
			t.Errorf("%s: no difference is seen", name)
		}
		for oracle := range oracles {
			if x := excuse(oracle, what, []request{q}, s.raw); x != nil {
				t.Errorf("%s: %s: excused by %q", name, what, x.reason)
			}
		}
	}
	a := accepted{"", []request{q, behind}}
	if what := a.differs(reading{[]request{q, behind}, ""}); what != "" {
		t.Errorf("equal: %s", what)
	}
	for _, requests := range [][]request{nil, {q}, {q, q}, {q, behind, q}, {change(func(q *request) { q.body = "" }), behind}} {
		if a.differs(reading{requests, ""}) == "" {
			t.Errorf("%v: no difference is seen", requests)
		}
	}
}
