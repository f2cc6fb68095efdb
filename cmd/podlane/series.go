package main

import (
	"github.com/go-logr/logr"

	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/router"
)

// boundTeller logs what the number of series stays below: at the first Table, and whenever the labels of series change because of it. tell is for
// one goroutine.
type boundTeller struct {
	metrics *observe.Metrics
	log     logr.Logger
	told    observe.Bound
}

func (t *boundTeller) tell() {
	b := t.metrics.Bound()
	first := t.told == (observe.Bound{})
	if !first && b.Steps == t.told.Steps {
		return
	}
	t.told = b
	text := "series of /metrics"
	if b.Steps > 0 {
		text = "series of /metrics have fewer labels, or there would be too many: raise --metrics-max-series to have all of them"
	}
	t.log.Info(text, "below", b.Series, "limit", b.Max, "labels", b.Labels)
}

// hostsOf returns how many hosts of a Table have a certificate.
func hostsOf(t *router.Table) int {
	n := 0
	for _, c := range t.Certificates() {
		n += max(len(c.Hosts), 1)
	}
	return n
}
