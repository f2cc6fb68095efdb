package exchange

// ID identifies a field name that the proxy itself reads or writes, so that it is compared once, when the field is
// parsed, and by one byte from then on. Unknown stands for every other name.
type ID uint8

// The known field names (RFC 9110 and the de-facto forwarding fields).
const (
	Unknown ID = iota
	Host
	Connection
	ContentLength
	TransferEncoding
	ContentType
	Authorization
	Expect
	Upgrade
	TE
	Trailer
	KeepAlive
	ProxyConnection
	ProxyAuthenticate
	ProxyAuthorization
	HTTP2Settings
	Proxy
	Cookie
	SetCookie
	Forwarded
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedProto
	XForwardedScheme
	XForwardedServer
	XForwardedPrefix
	XOriginalForwardedFor
	XOriginalURL
	XOriginalURI
	XOriginalHost
	XOriginalMethod
	XRewriteURL
	XScheme
	XRealIP
	XRequestID
	SecWebSocketKey
	SecWebSocketVersion
	UserAgent
	Referer
	Origin
	Accept
	AcceptEncoding
	ContentEncoding
	CacheControl
	Range
	Via
	Date
	Server
	Location
	Refresh
	RetryAfter
	WWWAuthenticate
	Allow
	StrictTransportSecurity
	XAccelBuffering
	AccessControlAllowOrigin
	AccessControlAllowCredentials
	AccessControlAllowMethods
	AccessControlAllowHeaders
	AccessControlExposeHeaders
	AccessControlMaxAge
	Traceparent
	Tracestate

	// NumID is the number of IDs: the size of an array indexed by ID.
	NumID
)

var names = [NumID]string{
	Host:                    "Host",
	Connection:              "Connection",
	ContentLength:           "Content-Length",
	TransferEncoding:        "Transfer-Encoding",
	ContentType:             "Content-Type",
	Authorization:           "Authorization",
	Expect:                  "Expect",
	Upgrade:                 "Upgrade",
	TE:                      "TE",
	Trailer:                 "Trailer",
	KeepAlive:               "Keep-Alive",
	ProxyConnection:         "Proxy-Connection",
	ProxyAuthenticate:       "Proxy-Authenticate",
	ProxyAuthorization:      "Proxy-Authorization",
	HTTP2Settings:           "HTTP2-Settings",
	Proxy:                   "Proxy",
	Cookie:                  "Cookie",
	SetCookie:               "Set-Cookie",
	Forwarded:               "Forwarded",
	XForwardedFor:           "X-Forwarded-For",
	XForwardedHost:          "X-Forwarded-Host",
	XForwardedPort:          "X-Forwarded-Port",
	XForwardedProto:         "X-Forwarded-Proto",
	XForwardedScheme:        "X-Forwarded-Scheme",
	XForwardedServer:        "X-Forwarded-Server",
	XForwardedPrefix:        "X-Forwarded-Prefix",
	XOriginalForwardedFor:   "X-Original-Forwarded-For",
	XOriginalURL:            "X-Original-URL",
	XOriginalURI:            "X-Original-URI",
	XOriginalHost:           "X-Original-Host",
	XOriginalMethod:         "X-Original-Method",
	XRewriteURL:             "X-Rewrite-URL",
	XScheme:                 "X-Scheme",
	XRealIP:                 "X-Real-IP",
	XRequestID:              "X-Request-ID",
	SecWebSocketKey:         "Sec-WebSocket-Key",
	SecWebSocketVersion:     "Sec-WebSocket-Version",
	UserAgent:               "User-Agent",
	Referer:                 "Referer",
	Origin:                  "Origin",
	Accept:                  "Accept",
	AcceptEncoding:          "Accept-Encoding",
	ContentEncoding:         "Content-Encoding",
	CacheControl:            "Cache-Control",
	Range:                   "Range",
	Via:                     "Via",
	Date:                    "Date",
	Server:                  "Server",
	Location:                "Location",
	Refresh:                 "Refresh",
	RetryAfter:              "Retry-After",
	WWWAuthenticate:         "WWW-Authenticate",
	Allow:                   "Allow",
	StrictTransportSecurity: "Strict-Transport-Security",
	XAccelBuffering:         "X-Accel-Buffering",

	AccessControlAllowOrigin:      "Access-Control-Allow-Origin",
	AccessControlAllowCredentials: "Access-Control-Allow-Credentials",
	AccessControlAllowMethods:     "Access-Control-Allow-Methods",
	AccessControlAllowHeaders:     "Access-Control-Allow-Headers",
	AccessControlExposeHeaders:    "Access-Control-Expose-Headers",
	AccessControlMaxAge:           "Access-Control-Max-Age",

	Traceparent: "traceparent",
	Tracestate:  "tracestate",
}

// Name returns the spelling in which the proxy writes the field; "" for Unknown.
func (id ID) Name() string { return names[id] }

// slots is an open-addressing hash table from a name's length, first, middle and last letter to its ID. It is
// read-only after package initialisation.
var slots = func() (t [256]ID) {
	for id := ID(1); id < NumID; id++ {
		h := slot(names[id])
		for t[h] != Unknown {
			h++
		}
		t[h] = id
	}
	return t
}()

// slot hashes what differs most between field names; case is folded by the 0x20 bit, which is enough for letters and
// harmless for the rest, because a candidate is always compared in full.
func slot[T string | []byte](name T) uint8 {
	n := len(name)
	return uint8(n)*31 ^ (name[0]|0x20)*7 ^ (name[n/2]|0x20)*13 ^ (name[n-1]|0x20)*3
}

// IDOf returns the ID of a field name in any case, or Unknown. It allocates nothing.
func IDOf[T string | []byte](name T) ID {
	if len(name) < 2 {
		return Unknown
	}
	for h := slot(name); ; h++ {
		id := slots[h]
		if id == Unknown || EqualFold(name, names[id]) {
			return id
		}
	}
}

// EqualFold reports whether name equals want without regard to the case of ASCII letters.
func EqualFold[T string | []byte](name T, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(want) {
		if a, b := name[i], want[i]; a != b && Lower(a) != Lower(b) {
			return false
		}
	}
	return true
}

// Lower returns the lower-case form of an ASCII letter and every other byte as it is.
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
