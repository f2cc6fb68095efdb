package observe

import "github.com/prometheus/client_golang/prometheus"

// Brake shows steps that remove more than they may: how many there were, and what is held. It is a prometheus.Collector; its methods may be called
// concurrently.
type Brake struct {
	held  *prometheus.GaugeVec
	steps *prometheus.CounterVec
}

// NewBrake returns a Brake that shows nothing yet.
func NewBrake() *Brake {
	return &Brake{
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "podlane_brake_held", Help: "Hosts or endpoints that one step would have removed, and that stay for now.",
		}, []string{"what"}),
		steps: counters("podlane_brake_steps_total", "Steps that removed more hosts or endpoints than --brake-percent, held or not.", "what"),
	}
}

// Watch has it show a kind of what is removed, from a closed set of the caller.
func (b *Brake) Watch(what string) {
	b.held.WithLabelValues(what).Set(0)
	b.steps.WithLabelValues(what).Add(0)
}

// Hold records how many of a kind are held now.
func (b *Brake) Hold(what string, n int) { b.held.WithLabelValues(what).Set(float64(n)) }

// Stepped counts a step that removed too much, or would have.
func (b *Brake) Stepped(what string) { b.steps.WithLabelValues(what).Inc() }

// Describe implements prometheus.Collector.
func (b *Brake) Describe(c chan<- *prometheus.Desc) {
	b.held.Describe(c)
	b.steps.Describe(c)
}

// Collect implements prometheus.Collector.
func (b *Brake) Collect(c chan<- prometheus.Metric) {
	b.held.Collect(c)
	b.steps.Collect(c)
}

var _ prometheus.Collector = (*Brake)(nil)
