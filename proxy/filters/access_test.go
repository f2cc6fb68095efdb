package filters

import (
	"testing"

	"podlane.dev/podlane/proxy/exchange"
)

// scripted is a check that finds what it is told to, and answers with its own reason.
type scripted struct {
	finds  Access
	says   string
	called *string
}

func (c scripted) CheckAccess(x *exchange.Exchange) Access {
	*c.called += c.says
	if c.finds > Allowed {
		x.Answer(400+int(c.finds), exchange.Filter, c.says)
	}
	return c.finds
}

// TestAccess has checks a, b and c find what a letter says: n no opinion, y allowed, 3 forbidden, 1 unauthorized, 5 failed. The answer is by the check
// that is named, or none.
func TestAccess(t *testing.T) {
	t.Parallel()
	letters := map[byte]Access{'n': NoOpinion, 'y': Allowed, '3': Forbidden, '1': Unauthorized, '5': Failed}
	for _, c := range []struct {
		any              bool
		finds            string
		answer, consults string
	}{
		{false, "yyy", "", "abc"},
		{false, "nnn", "", "abc"},
		{false, "y31", "b", "ab"},
		{false, "n1y", "b", "ab"},
		{false, "5yy", "a", "a"},
		{true, "y31", "", "a"},
		{true, "3y1", "", "ab"},
		{true, "31y", "", "abc"},
		{true, "13y", "", "abc"},
		{true, "nnn", "", "abc"},
		{true, "n3n", "b", "abc"},
		{true, "33n", "b", "abc"},
		{true, "31n", "b", "abc"},
		{true, "13n", "a", "abc"},
		{true, "133", "a", "abc"},
		{true, "131", "c", "abc"},
		{true, "35y", "b", "ab"},
		{true, "15y", "b", "ab"},
		{true, "1n3", "a", "abc"},
	} {
		chain, called := &Chain{}, ""
		for i := range c.finds {
			chain.OnAccess(scripted{letters[c.finds[i]], string(rune('a' + i)), &called})
		}
		if c.any {
			chain.SatisfyAny()
		}
		if len(chain.Request) != 1 {
			t.Fatalf("%d filters", len(chain.Request))
		}
		x := exchange.New()
		verdict := chain.FilterRequest(x)
		answer := ""
		if x.Response.Body != nil {
			p, err := x.Response.Body.Next()
			if err != nil {
				t.Fatal(err)
			}
			answer = string(p)
		}
		if answer != c.answer || called != c.consults || (verdict == exchange.Answered) != (answer != "") || (x.Response.Status != 0) != (answer != "") {
			t.Errorf("any %v, %s: %q after %s with verdict %v and status %d; want %q after %s", c.any, c.finds, answer, called, verdict, x.Response.Status, c.answer, c.consults)
		}
		x.Release()
	}
}
