package proxy

import (
	"fmt"

	"podlane.dev/podlane/proxy/exchange"
)

// This file gives the proxy's own answers the bodies that nginx gives its own, where clients may know no others: for hosts that are read as
// ingress-nginx reads them.

// titles are what nginx calls its statuses, where that is another text than in RFC 9110.
var titles = map[int]string{
	301: "Moved Permanently", 302: "Found", 303: "See Other", 307: "Temporary Redirect", 308: "Permanent Redirect",
	400: "Bad Request", 401: "Authorization Required", 402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Not Allowed", 406: "Not Acceptable",
	408: "Request Time-out", 409: "Conflict", 410: "Gone", 411: "Length Required", 412: "Precondition Failed", 413: "Request Entity Too Large", 414: "Request-URI Too Large",
	415: "Unsupported Media Type", 416: "Requested Range Not Satisfiable", 421: "Misdirected Request", 429: "Too Many Requests", 494: "Request Header Or Cookie Too Large",
	500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out",
	505: "HTTP Version Not Supported", 507: "Insufficient Storage",
}

// pages are nginx's bodies by status.
var pages = func() map[int]string {
	all := make(map[int]string, len(titles))
	for status, title := range titles {
		all[status] = fmt.Sprintf("<html>\r\n<head><title>%[1]d %[2]s</title></head>\r\n<body>\r\n<center><h1>%[1]d %[2]s</h1></center>\r\n"+
			"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n", status, title)
	}
	return all
}()

// page puts nginx's body into an answer of the proxy's own.
func (s *session) page() {
	r := &s.x.Response
	if !r.Local || isGRPC(s.x) || !s.compat() {
		return
	}
	if _, own := r.Body.(*exchange.Text); !own {
		return
	}
	if text, ok := pages[r.Status]; ok {
		r.Body = &exchange.Text{S: text}
		r.Fields.SetString(exchange.ContentType, "text/html")
	}
}

// compat reports whether the host of the request is read as ingress-nginx reads it.
func (s *session) compat() bool {
	if s.chain.route != nil && !s.chain.route.IsDefault {
		return s.chain.route.Compat
	}
	return s.e.live.Load().table.Compat()
}
