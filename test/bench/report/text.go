package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Text writes what people read: where it was measured, a table for each workload, the ratios of all, and the bars.
func Text(w io.Writer, r *Results, bars []Bar) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s; %s\n%s\n\n", r.Machine.Processor, r.Machine.Kernel, r.Machine.Go, r.Machine.Cores, r.Machine.Command)
	for _, p := range r.Peers {
		fmt.Fprintf(&b, "%-14s %s\n", p.Name, p.Version)
	}
	for _, line := range r.Absent {
		fmt.Fprintf(&b, "left out: %s\n", line)
	}
	b.WriteString("\nMedian (least–most) of the runs. CPU is the operating system's account of the proxy's processes.\n")
	for _, workload := range r.Workloads {
		b.WriteByte('\n')
		b.WriteString(r.section(workload))
	}
	b.WriteString("\nRatios to nginx · to HAProxy, medians of the runs' ratios; below 1 is better. \"CPU, least\" compares the best runs: what other\n" +
		"programs do to a run is never to its good.\n\n")
	b.WriteString(render(r.ratios()))
	b.WriteByte('\n')
	for _, bar := range bars {
		b.WriteString(bar.String())
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// column is one number of a workload's table.
type column struct {
	title  string
	digits int
	number func(Sample) float64
	show   show
}

// show is how the runs' numbers become one cell.
type show int

const (
	spread show = iota // the median, the least and the most
	median
	summed // of failures, because one is too many
)

func (w Workload) columns() []column {
	memory := column{"memory MB", 1, Sample.MemoryMB, median}
	others := column{"others %", 0, func(s Sample) float64 { return 100 * s.Foreign }, median}
	busy := column{"core %", 0, func(s Sample) float64 { return 100 * s.Busy() }, median}
	errors := column{"errors", 0, func(s Sample) float64 { return float64(s.Errors.Sum()) }, summed}
	if w.Kind == Idle {
		return []column{{"bytes/connection", 0, Sample.IdleBytes, spread}, memory, {"core % while idle", 2, busy.number, median}, others, errors}
	}
	columns := []column{
		{"requests/s", 0, Sample.PerSecond, spread}, {"CPU µs/request", 2, Sample.CPUEach, spread},
		{"user", 2, Sample.UserEach, median}, {"system", 2, Sample.SystemEach, median},
		{"p50 ms", 2, Sample.P50Millis, spread}, {"p99 ms", 2, Sample.P99Millis, spread}, memory, busy,
		{"load's core %", 0, func(s Sample) float64 { return 100 * s.LoadBusy() }, median}, others,
	}
	if w.Kind == Rated {
		columns = append(columns, column{"unanswered", 0, func(s Sample) float64 { return float64(s.Unanswered) }, summed})
	}
	if w.Logged {
		columns = append(columns, column{"log lines lost", 0, func(s Sample) float64 { return float64(s.LogLost) }, summed})
	}
	return append(columns, errors)
}

// section is a workload's title and table.
func (r *Results) section(w Workload) string {
	columns := w.columns()
	rows := [][]string{{"proxy"}}
	for _, c := range columns {
		rows[0] = append(rows[0], c.title)
	}
	var runs int
	var offered float64
	for _, p := range r.Peers {
		row := []string{p.Name}
		for _, c := range columns {
			row = append(row, r.cell(w, p, c))
		}
		rows = append(rows, row)
	}
	for _, s := range r.Samples {
		if s.Workload == w.Name {
			runs, offered = max(runs, s.Run), s.Offered
		}
	}
	title := fmt.Sprintf("%s: %s; runs: %d", w.Name, w.What, runs)
	if offered > 0 {
		title += fmt.Sprintf(", %s requests/s offered", group(fmt.Sprintf("%.0f", offered)))
	}
	return title + "\n\n" + render(rows)
}

// cell is what a column shows of a peer's runs.
func (r *Results) cell(w Workload, p Peer, c column) string {
	text := func(v float64) string { return group(fmt.Sprintf("%.*f", c.digits, v)) }
	if !slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Workload == w.Name && s.Peer == p.Name }) {
		return "–" // interrupted before
	}
	s := r.Of(w.Name, p.Name, c.number)
	switch c.show {
	case spread:
		return fmt.Sprintf("%s (%s–%s)", text(s.Median), text(s.Min), text(s.Max))
	case summed:
		sum := 0.0
		for _, sample := range r.Samples {
			if sample.Workload == w.Name && sample.Peer == p.Name {
				sum += c.number(sample)
			}
		}
		return text(sum)
	default:
		return text(s.Median)
	}
}

// group puts a comma before every third digit of the whole part.
func group(number string) string {
	whole, rest, point := strings.Cut(number, ".")
	digits := strings.TrimPrefix(whole, "-")
	sign := whole[:len(whole)-len(digits)]
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if point {
		digits += "." + rest
	}
	return sign + digits
}

// ratios are the rows of the table of ratios: what is compared, by workload, and a column for each peer.
func (r *Results) ratios() [][]string {
	rows := [][]string{{"workload", "of"}}
	for _, p := range r.Peers {
		rows[0] = append(rows[0], p.Name)
	}
	add := func(w Workload, what string, ratio func(peer, to string) (float64, bool)) {
		row := []string{w.Name, what}
		for _, p := range r.Peers {
			row = append(row, pair(p, ratio))
		}
		rows = append(rows, row)
	}
	for _, w := range r.Workloads {
		median := func(number func(Sample) float64) func(peer, to string) (float64, bool) {
			return func(peer, to string) (float64, bool) {
				ratio, ok := r.Ratio(w.Name, peer, to, number)
				return ratio.Median, ok
			}
		}
		if w.Kind == Idle {
			add(w, "memory", median(Sample.IdleBytes))
			continue
		}
		add(w, "CPU", median(Sample.CPUEach))
		add(w, "CPU, least", func(peer, to string) (float64, bool) {
			a, b := r.Of(w.Name, peer, Sample.CPUEach).Min, r.Of(w.Name, to, Sample.CPUEach).Min
			return quotient(a, b), a > 0 && b > 0
		})
		if w.Kind == Rated {
			add(w, "p99", median(Sample.P99Millis))
		}
	}
	return rows
}

// pair is a peer's ratio to nginx, and to HAProxy.
func pair(p Peer, ratio func(peer, to string) (float64, bool)) string {
	var parts []string
	for _, to := range []string{"nginx", "haproxy"} {
		part := "–"
		if value, ok := ratio(p.Name, to); ok {
			part = fmt.Sprintf("%.2f", value)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " · ")
}

// render lays a table out so that it is one in plain text and in Markdown. The first row is the head.
func render(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(row []string) {
		for i, cell := range row {
			fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + fill + " |")
			} else {
				b.WriteString(" " + fill + cell + " |")
			}
		}
		b.WriteByte('\n')
	}
	line(rows[0])
	for i, width := range widths {
		if i == 0 {
			b.WriteString("|" + strings.Repeat("-", width+2) + "|")
		} else {
			b.WriteString(strings.Repeat("-", width+1) + ":|")
		}
	}
	b.WriteByte('\n')
	for _, row := range rows[1:] {
		line(row)
	}
	return b.String()
}

// WriteFile writes the results and the bars as JSON, in a folder that is made where there is none.
func WriteFile(path string, r *Results, bars []Bar) error {
	text, err := json.MarshalIndent(struct {
		*Results
		Bars []Bar `json:"bars"`
	}{r, bars}, "", "  ")
	if err != nil {
		return fmt.Errorf("raw numbers: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("raw numbers: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("raw numbers: %w", err)
	}
	return nil
}
