package observe

import (
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// pair is a label.
type pair struct{ name, value string }

// labels are what a group's series have in common: as pairs, and as the text format has them.
type labels struct {
	pairs []pair
	text  string // with a comma before each label
}

// newLabels returns labels whose values are valid UTF-8, as the formats of Prometheus demand. Objects of Kubernetes always are.
func newLabels(pairs []pair) labels {
	var text []byte
	for i := range pairs {
		pairs[i].value = strings.ToValidUTF8(pairs[i].value, "\ufffd")
		text = pairs[i].append(append(text, ','))
	}
	return labels{pairs, string(text)}
}

// append appends the label in the text format.
func (p pair) append(dst []byte) []byte {
	dst = append(append(dst, p.name...), '=', '"')
	for i := range len(p.value) {
		switch c := p.value[i]; c {
		case '\\', '"':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// family is a metric: all series of one name.
type family struct {
	name, help string
	kind       dto.MetricType
	labels     []string
}

// bounds are the upper bounds of a histogram's buckets.
type bounds struct {
	// limits are in what is counted, nanoseconds or bytes, and unit is how many of it are 1 in what is shown.
	limits []int64
	unit   float64
	uppers []float64
	les    []string // as labels, with the comma before
}

func newBounds(limits []int64, uppers []float64, unit float64) *bounds {
	b := &bounds{limits: limits, unit: unit, uppers: uppers}
	for _, upper := range uppers {
		b.les = append(b.les, `,le="`+strconv.FormatFloat(upper, 'g', -1, 64)+`"`)
	}
	return b
}

// emitter writes series: those of one family after another.
type emitter interface {
	// begin says of which family the next series are. One without series is not there.
	begin(f *family)
	// count writes a counter, and level a gauge. extra is a label beside l, or zero.
	count(extra pair, l *labels, n uint64)
	level(extra pair, l *labels, v float64)
	// histogram writes a histogram with bounds, summary one of which only the sum and the count are known.
	histogram(extra pair, l *labels, c *counts)
	summary(l *labels, c *counts)
	// in says what bounds the next histograms have, and what their unit is.
	in(b *bounds)
}

// text writes the text format of Prometheus, version 0.0.4. It does what expfmt does, from labels that are text already: 25,000 series once a
// second must not be felt.
type text struct {
	b       []byte
	family  *family
	pending bool
	bounds  *bounds
}

func (t *text) begin(f *family) { t.family, t.pending = f, true }
func (t *text) in(b *bounds)    { t.bounds = b }

// head writes what comes before the first series of a family.
func (t *text) head() {
	if !t.pending {
		return
	}
	t.pending = false
	t.b = append(append(append(t.b, "# HELP "...), t.family.name...), ' ')
	t.b = append(append(t.b, t.family.help...), "\n# TYPE "...)
	t.b = append(append(append(t.b, t.family.name...), ' '), strings.ToLower(t.family.kind.String())...)
	t.b = append(t.b, '\n')
}

// series writes a name and its labels; more is a label as text, with its comma.
func (t *text) series(suffix string, extra pair, l *labels, more string) {
	t.b = append(append(t.b, t.family.name...), suffix...)
	begin := len(t.b)
	if extra.name != "" {
		t.b = extra.append(append(t.b, ','))
	}
	t.b = append(append(t.b, l.text...), more...)
	if len(t.b) > begin {
		t.b[begin] = '{'
		t.b = append(t.b, '}')
	}
	t.b = append(t.b, ' ')
}

func (t *text) whole(n uint64)   { t.b = append(strconv.AppendUint(t.b, n, 10), '\n') }
func (t *text) number(v float64) { t.b = append(strconv.AppendFloat(t.b, v, 'g', -1, 64), '\n') }

func (t *text) count(extra pair, l *labels, n uint64) {
	t.head()
	t.series("", extra, l, "")
	t.whole(n)
}

func (t *text) level(extra pair, l *labels, v float64) {
	t.head()
	t.series("", extra, l, "")
	t.number(v)
}

func (t *text) histogram(extra pair, l *labels, c *counts) {
	t.head()
	// All but the bound is the same in each bucket's line.
	begin := len(t.b)
	t.series("_bucket", extra, l, t.bounds.les[0])
	end := len(t.b) - len(t.bounds.les[0]) - len("} ")
	var count uint64
	for i, le := range t.bounds.les {
		if i > 0 {
			t.b = append(append(append(t.b, t.b[begin:end]...), le...), "} "...)
			if l.text == "" && extra.name == "" {
				t.b[len(t.b)-len(le)-len("} ")] = '{'
			}
		}
		count += c.buckets[i]
		t.whole(count)
	}
	count += c.buckets[len(t.bounds.les)]
	t.series("_bucket", extra, l, `,le="+Inf"`)
	t.whole(count)
	t.totals(extra, l, c, count)
}

func (t *text) summary(l *labels, c *counts) {
	t.head()
	t.totals(pair{}, l, c, c.count())
}

func (t *text) totals(extra pair, l *labels, c *counts, count uint64) {
	t.series("_sum", extra, l, "")
	t.number(float64(c.sum) / t.bounds.unit)
	t.series("_count", extra, l, "")
	t.whole(count)
}

// count returns how many there were.
func (c *counts) count() uint64 {
	var n uint64
	for _, in := range c.buckets {
		n += in
	}
	return n
}

// messages makes what a prometheus.Gatherer returns: for clients that want another format than text, which are few.
type messages struct {
	families []*dto.MetricFamily
	next     *dto.MetricFamily
	bounds   *bounds
}

func (m *messages) begin(f *family) {
	m.next = &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind}
}

func (m *messages) in(b *bounds) { m.bounds = b }

// metric adds a series to the family.
func (m *messages) metric(extra pair, l *labels) *dto.Metric {
	if len(m.next.Metric) == 0 {
		m.families = append(m.families, m.next)
	}
	metric := new(dto.Metric)
	for _, p := range slices.Concat([]pair{extra}, l.pairs) {
		if p.name != "" {
			metric.Label = append(metric.Label, &dto.LabelPair{Name: &p.name, Value: &p.value})
		}
	}
	m.next.Metric = append(m.next.Metric, metric)
	return metric
}

func (m *messages) count(extra pair, l *labels, n uint64) {
	v := float64(n)
	m.metric(extra, l).Counter = &dto.Counter{Value: &v}
}

func (m *messages) level(extra pair, l *labels, v float64) {
	m.metric(extra, l).Gauge = &dto.Gauge{Value: &v}
}

func (m *messages) histogram(extra pair, l *labels, c *counts) {
	h := new(dto.Histogram)
	var count uint64
	for i := range m.bounds.uppers {
		count += c.buckets[i]
		cumulative := count
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &m.bounds.uppers[i], CumulativeCount: &cumulative})
	}
	count += c.buckets[len(m.bounds.uppers)]
	sum := float64(c.sum) / m.bounds.unit
	h.SampleCount, h.SampleSum = &count, &sum
	m.metric(extra, l).Histogram = h
}

func (m *messages) summary(l *labels, c *counts) {
	count, sum := c.count(), float64(c.sum)/m.bounds.unit
	m.metric(pair{}, l).Summary = &dto.Summary{SampleCount: &count, SampleSum: &sum}
}

// perSecond is how many nanoseconds a second has.
const perSecond = float64(time.Second)
