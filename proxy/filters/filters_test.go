package filters_test

import (
	"fmt"
	"reflect"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// route returns a Route at path that carries what values parse to in each family that knows one of the keys.
func route(t testing.TB, path string, values policy.Values, policies ...filters.Policy) *router.Route {
	t.Helper()
	r := &router.Route{ID: router.RouteID{Namespace: "default", Ingress: "web", Host: "a.example", Path: path}}
	for _, p := range policies {
		own := policy.Values{}
		for _, key := range p.FamilyKeys() {
			if text, ok := values[key.Name]; ok {
				own[key.Name] = text
			}
		}
		if len(own) == 0 {
			continue
		}
		parsed, err := p.ParseValues(own, nil)
		if err != nil {
			t.Fatalf("parse %v: %v", own, err)
		}
		r.Policies = append(r.Policies, policy.Value{Family: p.FamilyName(), Parsed: parsed})
	}
	return r
}

// request returns an Exchange of a GET in clear.
func request(authority, uri string) *exchange.Exchange {
	x := exchange.New()
	x.Request.Method = []byte("GET")
	x.Request.Authority = []byte(authority)
	x.Request.Target = []byte(uri)
	x.Client.Proto, x.Client.Port = "http", 80
	return x
}

// spy is a Policy whose filters write down that they ran.
type spy struct {
	filters.Policy
	name   string
	answer bool
	ran    *[]string
}

func newSpy(name string, ran *[]string) *spy {
	return &spy{name: name, ran: ran, Policy: &filters.Of[string]{
		Of:      policy.Of[string]{Name: name},
		Default: func(*router.Route) (string, bool) { return "default", true },
	}}
}

func (s *spy) Compile(c *filters.Chain, v any) {
	c.OnRequest(spyFilter{s, v.(string)})
	c.OnResponse(spyFilter{s, v.(string)})
}

type spyFilter struct {
	*spy
	value string
}

func (f spyFilter) FilterRequest(*exchange.Exchange) exchange.Verdict {
	*f.ran = append(*f.ran, "request "+f.name+" "+f.value)
	if f.answer {
		return exchange.Answered
	}
	return exchange.Continue
}

func (f spyFilter) FilterResponse(*exchange.Exchange) {
	*f.ran = append(*f.ran, "response "+f.name+" "+f.value)
}

func TestChainRunsInOrderWithTheRoutesValueOrTheDefault(t *testing.T) {
	var ran []string
	one, two, three := newSpy("one", &ran), newSpy("two", &ran), newSpy("three", &ran)
	two.answer = true
	r := &router.Route{Policies: []policy.Value{{Family: "two", Parsed: "mine"}}}
	chain := filters.Compile([]filters.Policy{one, two, three}, r, nil)

	x := exchange.New()
	if got := chain.FilterRequest(x); got != exchange.Answered {
		t.Errorf("verdict = %v, want Answered", got)
	}
	chain.FilterResponse(x)
	want := []string{
		"request one default", "request two mine",
		"response one default", "response two mine", "response three default",
	}
	if !reflect.DeepEqual(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
}

func TestChainLeavesOutWhatDoesNothing(t *testing.T) {
	silent := &filters.Of[int]{Of: policy.Of[int]{Name: "silent"}}
	chain := filters.Compile([]filters.Policy{silent}, &router.Route{Policies: []policy.Value{{Family: "silent", Parsed: 1}}}, nil)
	if len(chain.Request)+len(chain.Response) != 0 {
		t.Errorf("chain of a policy without filters = %+v, want empty", chain)
	}
	if got := chain.FilterRequest(exchange.New()); got != exchange.Continue {
		t.Errorf("empty chain says %v, want Continue", got)
	}
}

func TestFamilies(t *testing.T) {
	var ran []string
	policies := []filters.Policy{newSpy("b", &ran), newSpy("a", &ran)}
	var names []string
	for _, f := range filters.Families(policies) {
		names = append(names, f.FamilyName())
	}
	if want := []string{"b", "a"}; !reflect.DeepEqual(names, want) {
		t.Errorf("families = %q, want %q", names, want)
	}
}

func ExampleCompile() {
	r := &router.Route{HasCertificate: true}
	chain := filters.Compile([]filters.Policy{filters.SSLRedirect()}, r, nil)
	x := request("shop.example:8080", "/cart?item=1")
	chain.FilterRequest(x)
	fmt.Println(x.Response.Status, string(x.Response.Fields.Get(exchange.Location)))
	// Output: 308 https://shop.example/cart?item=1
}
