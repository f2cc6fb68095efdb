package observe

import (
	"strconv"

	"podlane.dev/podlane/proxy/exchange"
)

// Rewrite is what became of a request's path and host, for a line of its own beside that of its Entry. Byte slices are only read during
// AccessLog.AppendRewrite.
type Rewrite struct {
	// Path is the canonical path, by which the route was found. Forward is what Pods get in its place, nil for what the client sent.
	Path, Forward []byte
	// Vhost is the Host that Pods get, nil for the client's.
	Vhost []byte
	// Location is where the proxy sends the client, nil for nowhere.
	Location []byte
}

// AppendRewrite is Append for what was decided about a request's path. Like all lines of the proxy's own it is JSON, whatever the format of others.
func (l *AccessLog) AppendRewrite(e *Entry, r *Rewrite) {
	if l == nil {
		return
	}
	line := l.begin()
	*line = l.encoder.appendRewrite(*line, e, r)
	l.commit(line)
}

// appendRewrite appends the line, with its newline.
func (c *encoder) appendRewrite(b []byte, e *Entry, r *Rewrite) []byte {
	b = appendTime(append(b, `{"time":"`...), e.Time)
	b = append(b, `","event":"rewrite"`...)
	b = appendBytes(b, `,"method":`, e.Method)
	b = appendBytes(b, `,"host":`, e.Host)
	b = appendBytes(b, `,"path":`, r.Path)
	b = strconv.AppendUint(append(b, `,"generation":`...), e.Generation, 10)
	b = appendText(b, `,"namespace":`, e.Namespace)
	b = appendText(b, `,"ingress":`, e.Ingress)
	b = appendText(b, `,"rule_host":`, e.RuleHost)
	b = appendText(b, `,"route":`, e.Route)
	b = appendText(b, `,"path_type":`, e.PathType)
	b = appendBytes(b, `,"rewritten":`, r.Forward)
	b = appendBytes(b, `,"upstream_host":`, r.Vhost)
	b = c.appendURL(b, `,"redirect":`, r.Location)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(e.Status), 10)
	b = appendText(b, `,"reason":`, e.Reason)
	if e.CanaryBy != exchange.NoDecider {
		b = strconv.AppendBool(append(b, `,"canary":`...), e.Canary)
		b = appendText(b, `,"canary_by":`, string(e.CanaryBy))
	}
	b = appendText(b, `,"service":`, e.Service)
	b = appendText(b, `,"port":`, e.Port)
	b = appendBytes(b, `,"request_id":`, e.RequestID)
	return append(b, "}\n"...)
}
