package ingress

import (
	"crypto/tls"
	"fmt"
	"time"
)

// This file tells of certificates whose time is over, or has not begun. It is the only thing in a Build that changes by the mere passing of time.

// validity is the time in which what was said about certificates stands: not before from, and before until. Both are unbounded where they are zero.
type validity struct{ from, until time.Time }

// holds reports whether at is in v.
func (v validity) holds(at time.Time) bool {
	return !at.Before(v.from) && (v.until.IsZero() || at.Before(v.until))
}

// narrow makes v the time in which both hold.
func (v *validity) narrow(o validity) {
	if o.from.After(v.from) {
		v.from = o.from
	}
	if v.until.IsZero() || !o.until.IsZero() && o.until.Before(v.until) {
		v.until = o.until
	}
}

// firstTime is the first moment that a Snapshot of a known time can have. Of one without a time nothing is said about certificates' times.
var firstTime = time.Time{}.Add(1)

// judgeTime says what a client that looks at the time thinks of a certificate at a moment, and how long it will. The Problem has no reason where
// there is nothing to say.
func judgeTime(pair *tls.Certificate, secret string, at time.Time) (p Problem, stands validity) {
	begins, ends := pair.Leaf.NotBefore, pair.Leaf.NotAfter.Add(1) // RFC 5280 section 4.1.2.5: its last moment is one in which it is valid
	p.Effect = Notice
	switch {
	case at.IsZero():
		return p, validity{until: firstTime}
	case at.Before(begins):
		p.Reason = CertificateEarly
		p.Message = fmt.Sprintf("the certificate in Secret %q is not valid before %s", secret, begins.UTC().Format(time.RFC3339))
		stands = validity{firstTime, begins}
	case !at.Before(ends):
		p.Reason = CertificateExpired
		p.Message = fmt.Sprintf("the certificate in Secret %q has expired at %s: renew it", secret, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
		stands = validity{from: ends}
	default:
		return p, validity{begins, ends}
	}
	p.Message += "; until then clients refuse it, unless the Secret held one before that is valid, which is served for a while"
	return p, stands
}

// judgeTime reports what there is to say about the time of the certificate of a member of spec.tls.
func (c *compiler) judgeTime(pair *tls.Certificate, secret, field string) {
	if pair == nil {
		return
	}
	p, stands := judgeTime(pair, secret, c.taken)
	c.out.stands.narrow(stands)
	if p.Reason != "" {
		c.report(field, p)
	}
}

// outdated returns the Ingresses of which something else is to be said at a moment than at that of the last Build.
func (b *Builder) outdated(at time.Time) []*compiled {
	if b.stands.holds(at) {
		return nil
	}
	b.stands = validity{}
	var found []*compiled
	for _, c := range b.compiled {
		if c.stands.holds(at) {
			b.stands.narrow(c.stands)
		} else {
			found = append(found, c)
		}
	}
	return found
}
