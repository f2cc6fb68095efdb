package filters

import (
	"bytes"
	"cmp"
	"crypto/md5" //nolint:gosec // the format of a cookie, which keeps no secret
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/router"
)

// Sticky is what an Affinity says of one Backend of a Route. It is immutable. A nil Sticky keeps nobody.
type Sticky struct {
	*Affinity
	backend string // what stands behind the "|" of its cookies
	path    string
}

// Of returns what a, which may be nil, says of b, nil for nothing.
func (a *Affinity) Of(r *router.Route, b *router.Backend) *Sticky {
	if a == nil || !a.On {
		return nil
	}
	path := cmp.Or(a.Path, r.ID.Path)
	if a.Path == "" && (r.ID.Type == router.Regex || !isCookiePath(path)) {
		path = "/"
	}
	// As ingress-nginx names an upstream, so that its cookies say here too whose they are: with the port as the Ingress writes it.
	name := b.Service.Namespace + "-" + b.Service.Name + "-" + cmp.Or(b.Written, b.Service.Port)
	return &Sticky{Affinity: a, backend: digest(digest(name) + name), path: path}
}

func digest(text string) string {
	sum := md5.Sum([]byte(text)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// Key returns what the client's cookie says before the "|"; ok is false where there is no cookie, or nothing in it.
func (s *Sticky) Key(x *exchange.Exchange) (key []byte, ok bool) {
	value, _ := Cookie(x, s.Cookie)
	key, _, _ = bytes.Cut(value, []byte("|"))
	return key, len(key) > 0
}

// Holds reports whether the client's cookie is of this Backend.
func (s *Sticky) Holds(x *exchange.Exchange) bool {
	if s == nil {
		return false
	}
	value, _ := Cookie(x, s.Cookie)
	key, backend, _ := bytes.Cut(value, []byte("|"))
	return len(key) > 0 && string(backend) == s.backend
}

// Set adds the cookie with key to the answer of x.
func (s *Sticky) Set(x *exchange.Exchange, key string) {
	b := make([]byte, 0, 256)
	b = append(b, s.Cookie+"="+key+"|"+s.backend...)
	if s.Expires != absent {
		b = append(b, "; Expires="...)
		b = time.Now().Add(time.Duration(s.Expires)*time.Second).UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
	}
	if s.MaxAge != absent {
		b = append(b, "; Max-Age="...)
		b = strconv.AppendInt(b, int64(s.MaxAge), 10)
	}
	if s.Domain != "" {
		b = append(b, "; Domain="+s.Domain...)
	}
	b = append(b, "; Path="+s.path...)
	if s.Secure || isHTTPS(x) {
		b = append(b, "; Secure"...)
	}
	b = append(b, "; HttpOnly"...)
	if s.SameSite != "" && (s.SameSite != "None" || !s.ModernNone || understandsNone(string(x.Request.Fields.Get(exchange.UserAgent)))) {
		b = append(b, "; SameSite="+s.SameSite...)
	}
	x.Response.Fields.Add(exchange.SetCookie.Name(), b)
}

// understandsNone reports whether a browser is not one of those that take SameSite=None for Strict, or refuse a cookie with it: those that
// ingress-nginx lists.
func understandsNone(agent string) bool {
	for _, bad := range []string{"Chrome/4", "Chrome/5", "Chrome/6", "CPU iPhone OS 12", "iPad; CPU OS 12"} {
		if strings.Contains(agent, bad) {
			return false
		}
	}
	return !strings.Contains(agent, "Macintosh") || !strings.Contains(agent, "Intel Mac OS X 10_14") ||
		!strings.Contains(agent, "Safari") || strings.Contains(agent, "Chrome")
}
