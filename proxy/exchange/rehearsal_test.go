package exchange_test

import (
	"reflect"
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
)

func TestRehearsalTellsWhatAFilterDid(t *testing.T) {
	t.Parallel()
	x := exchange.New()
	defer x.Release()
	x.Request.RawPath = []byte("/a")
	x.Request.Fields.AddString("X-Kept", "1")
	x.Request.Fields.AddString("X-Gone", "1")
	x.Request.Fields.AddString("X-Other", "old")
	r := new(exchange.Rehearsal)
	r.Watch("idle", x, func() exchange.Verdict { return exchange.Continue })
	r.Watch("busy", x, func() exchange.Verdict {
		r.Note("looks at %s", "it")
		x.Request.Fields.DelString("X-Gone")
		x.Request.Fields.DelString("X-Other")
		x.Request.Fields.AddString("X-Other", "new")
		x.Request.Fields.AddString("X-Api-Key", "hush")
		x.Request.Forward = []byte("/b")
		return exchange.Continue
	})
	r.Watch("last", x, func() exchange.Verdict {
		x.Answer(302, exchange.Redirect, "")
		x.Response.Fields.SetString(exchange.Location, "https://a.example/")
		return exchange.Answered
	})
	want := []exchange.Step{
		{Family: "busy", Did: []string{
			"looks at it", `the Pod gets the path "/b" in place of "/a"`, "the Pod gets X-Other: new", "the Pod gets X-Api-Key: (4 bytes, not shown)",
			"the Pod does not get X-Gone",
		}},
		{Family: "last", Did: []string{"answers 302 to https://a.example/"}, Answered: true},
	}
	if !reflect.DeepEqual(r.Steps, want) {
		t.Errorf("got  %+v\nwant %+v", r.Steps, want)
	}
	var none *exchange.Rehearsal
	none.Note("nothing")
	none.Assume("nothing")
}

func TestCredentialsAreNotShown(t *testing.T) {
	t.Parallel()
	for name, shown := range map[string]bool{
		"Authorization": false, "proxy-authorization": false, "COOKIE": false, "Set-Cookie": false, "X_API_KEY": false, "X-Csrf-Token": false,
		"X-Auth-Request-Access-Token": false, "ssl-client-cert": false, "ssl-client-verify": true, "X-Real-IP": true, "Host": true, "Access-Control-Allow-Credentials": true,
	} {
		if got := strings.Contains(exchange.Field{Name: name, Value: "hush"}.Shown(), "hush"); got != shown {
			t.Errorf("%s: shown %v, want %v", name, got, shown)
		}
	}
}
