package filters

import (
	"errors"
	"fmt"

	"podlane.dev/podlane/router/policy"
)

// requestBody is the parsed value of the family.
type requestBody struct {
	max       int64 // as Forwarding.MaxBody
	memory    int64
	readFirst bool
}

// String returns v for the text of a Table.
func (v requestBody) String() string {
	text := "of the usual size"
	switch {
	case v.max < 0:
		text = "of any size"
	case v.max > 0:
		text = fmt.Sprintf("up to %d bytes", v.max)
	}
	if v.readFirst {
		text += fmt.Sprintf(", read first, %d bytes in memory", v.memory)
	}
	return text
}

// RequestBody returns the family about the bodies of requests: how large they may be, and whether they are read before a Pod is asked.
func RequestBody() Policy {
	return &Of[requestBody]{
		Of: policy.Of[requestBody]{
			Name: "request-body",
			Doc: "Says how large the bodies of requests may be, and how they get to the Pods: as they come from the client, or only when they are here to " +
				"their end. The latter keeps slow clients from Pods that serve few at a time, and such a request can be sent again to another Pod; short " +
				"bodies are always read first. Bodies for Pods that speak HTTP/2 (gRPC) are passed on as they come.",
			Keys:      requestBodyKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseRequestBody,
		},
		Forward: func(f *Forwarding, v requestBody) {
			f.MaxBody, f.ReadFirst, f.BodyMemory = v.max, v.readFirst, v.memory
		},
	}
}

func requestBodyKeys() []policy.Key {
	return []policy.Key{
		{
			Name: "proxy-body-size", Kind: policy.Size, Where: policy.Everywhere, Default: "1m, or --proxy-body-size", Example: "8m",
			Doc: "The largest body, in bytes; a larger one gets 413. 0 means no limit. A body whose length is not said gets 413 when it has grown too large.",
		},
		{
			Name: "client-body-buffer-size", Kind: policy.Size, Where: policy.Everywhere, Default: "8k", Example: "64k",
			Doc:     "How much of a body that is read first stays in memory: what is longer goes to a file without a name.",
			Differs: "it is rounded up to whole 8k; and a body that fits into the connection's own buffer is never written to a file",
		},
		{
			Name: "proxy-request-buffering", Kind: policy.Switch, Where: policy.Everywhere, Default: "off", Compat: "on", Example: "on",
			Doc:     "\"on\" reads the whole body before a Pod is asked.",
			Differs: "where files of bodies take all the room that they may, or the disk fails, the answer is 503",
		},
	}
}

// defaultBodyMemory is client-body-buffer-size where nobody says it.
const defaultBodyMemory = 8 << 10

func parseRequestBody(v policy.Values) (requestBody, error) {
	var r requestBody
	var err1, err2, err3 error
	r.max, err1 = v.Size("proxy-body-size", 0)
	r.memory, err2 = v.Size("client-body-buffer-size", defaultBodyMemory)
	r.readFirst, err3 = v.Switch("proxy-request-buffering", false)
	if err := errors.Join(err1, err2, err3); err != nil {
		return requestBody{}, err
	}
	if v.Has("proxy-body-size") && r.max == 0 {
		r.max = -1
	}
	return r, nil
}
