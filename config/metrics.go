package config

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// Metrics are the options of /metrics.
type Metrics struct {
	// Detail is namespace, service or route: the labels of series, where MaxSeries leaves room for them.
	Detail string
	// MaxSeries is what the number of series stays below; 0 for no limit.
	MaxSeries int
	// Compat is off, or ingress-nginx for the names of its metrics beside ours.
	Compat string
	// Buckets are the upper bounds of request durations in seconds; empty means observe.DefaultBuckets.
	Buckets Words
}

// NewMetrics returns the defaults.
func NewMetrics() *Metrics { return &Metrics{Detail: "service", MaxSeries: 25_000, Compat: "off"} }

// Title is the heading in --help.
func (*Metrics) Title() string { return "Metrics" }

// AddFlags binds the options to fs.
func (m *Metrics) AddFlags(fs *pflag.FlagSet) {
	fs.Var(choice{&m.Detail, []string{"namespace", "service", "route"}}, "metrics-detail",
		"labels of series: namespace; with Ingress and Service; or with host and path as well, which makes many times as many")
	fs.IntVar(&m.MaxSeries, "metrics-max-series", m.MaxSeries,
		"number of series to stay below by labelling them with fewer names where there are too many objects; 0 for no limit")
	fs.Var(choice{&m.Compat, []string{"off", "ingress-nginx"}}, "metrics-compat",
		"show the metrics that ingress-nginx's dashboards and alerts need too, by its names; --metrics-max-series does not count them")
	fs.Var(&m.Buckets, "time-buckets",
		"upper bounds of request durations in seconds, ascending, comma-separated; without it 1 ms to 10 s in 11 steps")
}

// Validate checks the numbers.
func (m *Metrics) Validate() error {
	if m.MaxSeries != 0 && m.MaxSeries < minSeries {
		return fmt.Errorf("--metrics-max-series: %d is too small: write %d or more, or 0 for no limit", m.MaxSeries, minSeries)
	}
	_, err := m.Seconds()
	return err
}

// minSeries is room for what Podlane says about itself, and some.
const minSeries = 1000

// maxBuckets is what observe.Metrics takes.
const maxBuckets = 24

// Seconds returns the buckets as numbers, nil where there are none.
func (m *Metrics) Seconds() ([]float64, error) {
	if len(m.Buckets) > maxBuckets {
		return nil, fmt.Errorf("--time-buckets: %d are too many: write %d or fewer", len(m.Buckets), maxBuckets)
	}
	var seconds []float64
	last := 0.0
	for _, word := range m.Buckets {
		n, err := strconv.ParseFloat(word, 64)
		// The negation is true for NaN too.
		if err != nil || !(n > last && n < 1e6) {
			return nil, errors.New("--time-buckets: " + strconv.Quote(word) + " is not a number above the one before it: write 0.01,0.1,1,10")
		}
		last = n
		seconds = append(seconds, n)
	}
	return seconds, nil
}
