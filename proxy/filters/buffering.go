package filters

import (
	"errors"
	"fmt"

	"podlane.dev/podlane/router/policy"
)

// buffering is the parsed value of the family: the largest head of an answer, 0 where nothing is said. The other keys change nothing.
type buffering int64

// String returns v for the text of a Table.
func (v buffering) String() string {
	if v == 0 {
		return "off"
	}
	return fmt.Sprintf("off, heads up to %d bytes", int64(v))
}

// Buffering returns the family of nginx's buffers for answers. Answers are passed on as they come and are not kept, so that only the one
// that bounds their heads means something here.
func Buffering() Policy {
	return &Of[buffering]{
		Of: policy.Of[buffering]{
			Name: "response-buffering",
			Doc: "How nginx keeps answers before they leave. Podlane passes on what has come, holds at most 32 KiB of an answer, and has the Pod wait for a slow " +
				"client; so of these keys only proxy-buffer-size has an effect, because it also is the size of the largest head of an answer.",
			Keys:      bufferingKeys(),
			IfInvalid: policy.Ignore,
			Parse:     parseBuffering,
		},
		Forward: func(f *Forwarding, v buffering) { f.MaxHead = int(v) },
	}
}

func bufferingKeys() []policy.Key {
	const kept = "answers are not kept, so it changes nothing"
	return []policy.Key{
		{
			Name: "proxy-buffer-size", Kind: policy.Size, Where: policy.Everywhere, Default: "64k", Compat: "4k", Example: "16k",
			Doc:     "How long the head of an answer over HTTP/1.1 may be, with its status line; a longer one is 502.",
			Differs: "more than 64k is 64k; answers over HTTP/2 (gRPC) have 64k",
		},
		{
			Name: "proxy-buffering", Kind: policy.Switch, Where: policy.Everywhere, Default: "off", Example: "on",
			Doc: "Changes nothing.", Differs: kept + ": a slow client keeps its Pod's connection, with \"on\" too",
		},
		{
			Name: "proxy-buffers-number", Kind: policy.Int, Where: policy.Everywhere, Default: "4", Example: "8",
			Doc: "Changes nothing.", Differs: kept,
		},
		{
			Name: "proxy-busy-buffers-size", Kind: policy.Size, Where: policy.Everywhere, Default: "none", Example: "16k",
			Doc: "Changes nothing.", Differs: kept,
		},
		{
			Name: "proxy-max-temp-file-size", Kind: policy.Size, Where: policy.Everywhere, Default: "1024m", Example: "0",
			Doc: "Changes nothing.", Differs: "answers are never written to files, as with 0",
		},
	}
}

func parseBuffering(v policy.Values) (buffering, error) {
	const most = 1 << 30
	_, err1 := v.Switch("proxy-buffering", false)
	_, err2 := v.IntRange("proxy-buffers-number", 4, 1, most)
	_, err3 := v.Size("proxy-busy-buffers-size", 0)
	_, err4 := v.Size("proxy-max-temp-file-size", 0)
	head, err5 := v.Size("proxy-buffer-size", 0)
	if err5 == nil && v.Has("proxy-buffer-size") && head == 0 {
		err5 = &policy.ValueError{Key: "proxy-buffer-size", Value: v["proxy-buffer-size"], Want: `a size above 0, as in "16k"`}
	}
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return 0, err
	}
	return buffering(min(head, most)), nil
}
