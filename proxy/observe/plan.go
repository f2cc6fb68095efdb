package observe

import (
	"cmp"
	"strings"
)

// Detail says how finely series are told apart, where --metrics-max-series leaves room for it.
type Detail uint8

const (
	// PerService has the labels namespace, ingress and service.
	PerService Detail = iota
	// PerRoute adds host and path.
	PerRoute
	// PerNamespace has the label namespace alone, for clusters of many thousand Ingresses.
	PerNamespace
)

// DefaultMaxSeries is the number of series that Metrics stays below where nothing else is said.
const DefaultMaxSeries = 25_000

// level is what the series of a family are told apart by.
type level uint8

const (
	byRoute level = iota
	byService
	byNamespace
	byProcess
	numLevels
)

// rung is one way to label the families of routes. The ladder goes from many series to few.
type rung struct {
	// requests is podlane_requests_total, durations the whole time of requests, phases the three histograms of its parts, and rest what is
	// in flight, tried again, received and sent.
	requests, durations, phases, rest level
	// folded says that 1xx is counted as 2xx and 499 as 4xx.
	folded bool
	// text says what is given up, for a log line.
	text string
}

// ladder returns the rungs. Each needs fewer series than the one before it, whatever the numbers of objects are.
func ladder() []rung {
	return []rung{
		{byRoute, byRoute, byRoute, byRoute, false, "everything by host and path"},
		{byService, byService, byService, byService, false, "everything by Ingress and Service"},
		{byService, byService, byNamespace, byService, false, "first byte, Pod and connect times by namespace, the rest by Ingress and Service"},
		{byService, byNamespace, byNamespace, byService, false, "all times by namespace, the rest by Ingress and Service"},
		{byService, byNamespace, byProcess, byNamespace, true, "requests by Ingress and Service in four classes, the rest by namespace"},
		{byNamespace, byNamespace, byNamespace, byNamespace, false, "everything by namespace"},
		{byNamespace, byProcess, byProcess, byNamespace, false, "all times for the whole process, the rest by namespace"},
		{byProcess, byProcess, byProcess, byProcess, true, "everything for the whole process"},
	}
}

// Steps returns how series are labelled for d: as it says, and then with fewer labels at each step that it takes to stay below MaxSeries.
func (d Detail) Steps() []string {
	var texts []string
	for _, r := range ladder()[d.firstRung():] {
		texts = append(texts, r.text)
	}
	return texts
}

// firstRung returns the index of the rung that d asks for.
func (d Detail) firstRung() int {
	switch d {
	case PerRoute:
		return 0
	case PerNamespace:
		return 5
	}
	return 1
}

// processSeries is more than all series that do not come from an object: counters with labels from closed sets, Go's runtime, the process, and
// the controllers. A test of the command holds it.
const processSeries = 500

// perObject is how many series of the rest there are for each group: in flight, retries, bytes in and out.
const perObject = 4

// Bound is what the number of series stays below as long as the objects are the same, whatever requests come.
type Bound struct {
	// Series is the bound, and Max what it has to stay below but for ingress-nginx's families; 0 for no limit.
	Series, Max int
	// Steps is how often labels were given up to stay below Max, and Labels says what is left of them.
	Steps  int
	Labels string
}

// counted are the numbers of objects that have series.
type counted struct {
	groups       [numLevels]int
	certificates int
	nginx        int // RouteMetrics, where ingress-nginx's families are shown
}

// bound returns how many series there can be on r, but for those of ingress-nginx's families.
func (c *counted) bound(r rung, buckets int) int {
	classes, histogram := int(numClasses), histogramSeries(buckets)
	if r.folded {
		classes = foldedClasses
	}
	return processSeries + c.certificates +
		c.groups[r.requests]*classes + c.groups[r.durations]*histogram + c.groups[r.phases]*(numHistograms-1)*histogram + c.groups[r.rest]*perObject
}

// nginxBound returns how many series there can be of ingress-nginx's families.
func (c *counted) nginxBound(buckets int) int {
	if c.nginx == 0 {
		return 0
	}
	return c.certificates + c.nginx*nginxSeries(buckets)
}

// histogramSeries is how many series a histogram has: its buckets, +Inf, the sum and the count.
func histogramSeries(buckets int) int { return buckets + 3 }

// planned is the rung that holds, and what follows from it.
type planned struct {
	rung
	index int
	bound int
}

// plan returns the finest rung on which the bound is below limit. A finer one than the last is taken only where there is room to spare, so that
// labels do not come and go with one object.
func (c *counted) plan(o planOptions, last int) planned {
	rungs := ladder()
	first := o.detail.firstRung()
	for i := first; ; i++ {
		bound, limit := c.bound(rungs[i], o.buckets), o.max
		if i < last {
			limit -= limit / 10
		}
		if o.max <= 0 || bound < limit || i == len(rungs)-1 {
			return planned{rungs[i], i, bound + c.nginxBound(o.buckets)}
		}
	}
}

// planOptions are what a plan depends on beside the objects.
type planOptions struct {
	detail  Detail
	buckets int
	max     int // none where it is not above 0
	nginx   bool
}

// routeKey is what the counters of a route are told apart by: the values of its labels. Two routes that differ only in the
// type of their path share it, and their counters.
type routeKey struct{ namespace, ingress, service, host, path, canary string }

func (k routeKey) compare(o routeKey) int {
	return cmp.Or(
		strings.Compare(k.namespace, o.namespace), strings.Compare(k.ingress, o.ingress), strings.Compare(k.service, o.service),
		strings.Compare(k.host, o.host), strings.Compare(k.path, o.path), strings.Compare(k.canary, o.canary))
}

// at returns the part of k that a level keeps.
func (k routeKey) at(l level) routeKey {
	switch l {
	case byService:
		return routeKey{namespace: k.namespace, ingress: k.ingress, service: k.service}
	case byNamespace:
		return routeKey{namespace: k.namespace}
	case byProcess:
		return routeKey{}
	}
	k.canary = ""
	return k
}

// labels returns the labels of a group, by name.
func (k routeKey) labels(l level) []pair {
	switch l {
	case byRoute:
		return []pair{{"host", k.host}, {"ingress", k.ingress}, {"namespace", k.namespace}, {"path", k.path}, {"service", k.service}}
	case byService:
		return []pair{{"ingress", k.ingress}, {"namespace", k.namespace}, {"service", k.service}}
	case byNamespace:
		return []pair{{"namespace", k.namespace}}
	}
	return nil
}
