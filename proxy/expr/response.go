package expr

import (
	"os"
	"strconv"
	"sync"
	"time"

	"podlane.dev/podlane/proxy/exchange"
)

func status(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Response.Status == 0 {
		return dst, false
	}
	return strconv.AppendInt(dst, int64(x.Response.Status), 10), true
}

func bodyBytesSent(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return strconv.AppendInt(dst, x.BytesOut, 10), true
}

func bytesSent(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	size := x.BytesOut
	if x.Response.Status != 0 {
		size += int64(len("HTTP/1.1 200 \r\n\r\n") + len(x.Response.Reason) + x.Response.Fields.Size())
	}
	return strconv.AppendInt(dst, size, 10), true
}

// tried reports whether the request went to a Pod, however that ended.
func tried(x *exchange.Exchange) bool { return x.Upstream.Tries > 0 }

func requestTime(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	if x.Timing.Start.IsZero() {
		return dst, false
	}
	return milliseconds(dst, now(x).Sub(x.Timing.Start).Milliseconds()), true
}

// now is the end of a request that is over, as in a log, else the time.
func now(x *exchange.Exchange) time.Time {
	if !x.Timing.End.IsZero() {
		return x.Timing.End
	}
	return time.Now()
}

func timeISO8601(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return now(x).AppendFormat(dst, "2006-01-02T15:04:05-07:00"), true
}

func timeLocal(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return now(x).AppendFormat(dst, "02/Jan/2006:15:04:05 -0700"), true
}

// requestCompletion appends OK where the client got its answer to the end.
func requestCompletion(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	switch x.Response.Why {
	case exchange.ClientGone, exchange.ClientTimeout, exchange.UpstreamTruncated:
		return dst, true
	}
	if !x.Timing.End.IsZero() {
		dst = append(dst, "OK"...)
	}
	return dst, true
}

// hostname appends the name of the Pod that Podlane is in, which is its host's.
func hostname(dst []byte, _ *exchange.Exchange, _ *name) ([]byte, bool) {
	return append(dst, thisHost()...), true
}

var thisHost = sync.OnceValue(func() string {
	name, _ := os.Hostname() // empty where it has none
	return name
})

func pid(dst []byte, _ *exchange.Exchange, _ *name) ([]byte, bool) {
	return strconv.AppendInt(dst, int64(os.Getpid()), 10), true
}

func msec(dst []byte, x *exchange.Exchange, _ *name) ([]byte, bool) {
	return milliseconds(dst, now(x).UnixMilli()), true
}

// milliseconds appends seconds with three decimals.
func milliseconds(dst []byte, ms int64) []byte {
	ms = max(ms, 0)
	dst = strconv.AppendInt(dst, ms/1000, 10)
	fraction := ms % 1000
	return append(dst, '.', byte('0'+fraction/100), byte('0'+fraction/10%10), byte('0'+fraction%10))
}
