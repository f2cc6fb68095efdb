package exchange

// Verdict is what a RequestFilter decided.
type Verdict uint8

// The verdicts of a RequestFilter.
const (
	// Continue passes the Exchange on.
	Continue Verdict = iota
	// Answered means that Response is complete: nothing is sent to a Pod, and the response filters still run.
	Answered
)

// RequestFilter sees the request after it was validated and routed and before an endpoint is chosen. It may change the
// Exchange, wrap Request.Body, or answer. A filter is made once per route at Publish and is used concurrently; it must not
// keep x or anything that x handed out. What it takes for one exchange it gives to x to own.
type RequestFilter interface {
	FilterRequest(x *Exchange) Verdict
}

// ResponseFilter sees the response's head before any byte of it has left, and may change it or wrap Response.Body. The same
// rules of concurrency and ownership hold as for RequestFilter.
type ResponseFilter interface {
	FilterResponse(x *Exchange)
}

// Answer makes x's response the proxy's own: status, reason and a short plain-text body, which the caller must not change
// afterwards. Fields set earlier on the response are dropped.
func (x *Exchange) Answer(status int, why Why, body string) {
	r := &x.Response
	r.Fields.Reset(nil)
	r.Status, r.Why, r.Local, r.Reason, r.Version = status, why, true, nil, HTTP11
	r.Body = nil
	if body != "" {
		r.Fields.SetString(ContentType, "text/plain; charset=utf-8")
		r.Body = &Text{S: body}
	}
}

// Withdraw takes back what Answer made: x has no response any more.
func (x *Exchange) Withdraw() {
	r := &x.Response
	r.Fields.Reset(nil)
	r.Status, r.Why, r.Local, r.Reason, r.Version, r.Body = 0, NoReason, false, nil, 0, nil
}
