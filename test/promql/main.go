// Command promql evaluates queries with Prometheus's own engine on what was scraped: the second and last step of the test of dashboards and
// alerts in cmd/podlane, which runs it. It is a module of its own, so that Podlane does not depend on Prometheus.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// question is what comes on stdin.
type question struct {
	Scrapes []scrape `json:"scrapes"`
	Queries []string `json:"queries"`
	// At is when the queries are evaluated, in milliseconds.
	At int64 `json:"at"`
}

// scrape is one page of metrics, with the labels of its target.
type scrape struct {
	At     int64             `json:"at"`
	Target map[string]string `json:"target"`
	Text   string            `json:"text"`
}

// answer is what goes to stdout for each query, in their order.
type answer struct {
	Query string `json:"query"`
	// Error says why there is no result; Series is how many there are with a value that is a number, and Values are those of the first few.
	Error  string   `json:"error,omitempty"`
	Series int      `json:"series"`
	Values []string `json:"values,omitempty"`
	// Metrics are the names of what the query reads.
	Metrics []string `json:"metrics"`
}

// shown is how many values of a query's result are told.
const shown = 3

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	var q question
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	dir, err := os.MkdirTemp("", "podlane-promql-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := tsdb.Open(dir, nil, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for i := range q.Scrapes {
		if err := store(ctx, db, &q.Scrapes[i]); err != nil {
			return fmt.Errorf("scrape %d: %w", i, err)
		}
	}
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 10_000_000, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
		Parser: parser.NewParser(parser.Options{}),
	})
	answers := make([]answer, len(q.Queries))
	for i, text := range q.Queries {
		answers[i] = evaluate(ctx, engine, db, text, time.UnixMilli(q.At))
	}
	return json.NewEncoder(out).Encode(answers)
}

// store keeps a page as Prometheus does with honor_labels: a label of the page wins over one of its target.
func store(ctx context.Context, db *tsdb.DB, s *scrape) error {
	p, err := textparse.New([]byte(s.Text), "text/plain; version=0.0.4", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return err
	}
	appender := db.Appender(ctx)
	builder := labels.NewBuilder(labels.EmptyLabels())
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return appender.Commit()
		}
		if err != nil {
			return errors.Join(err, appender.Rollback())
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := p.Series()
		var series labels.Labels
		p.Labels(&series)
		builder.Reset(series)
		for name, value := range s.Target {
			if series.Get(name) == "" {
				builder.Set(name, value)
			}
		}
		if _, err := appender.Append(storage.SeriesRef(0), builder.Labels(), s.At, value); err != nil {
			return errors.Join(err, appender.Rollback())
		}
	}
}

func evaluate(ctx context.Context, engine *promql.Engine, db *tsdb.DB, text string, at time.Time) answer {
	a := answer{Query: text}
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			a.Metrics = append(a.Metrics, s.Name)
		}
		return nil
	})
	query, err := engine.NewInstantQuery(ctx, db, nil, text, at)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	defer query.Close()
	result := query.Exec(ctx)
	if result.Err != nil {
		a.Error = result.Err.Error()
		return a
	}
	switch v := result.Value.(type) {
	case promql.Vector:
		for i := range v {
			if math.IsNaN(v[i].F) {
				continue
			}
			if a.Series++; a.Series <= shown {
				a.Values = append(a.Values, fmt.Sprintf("%s %g", v[i].Metric, v[i].F))
			}
		}
	case promql.Scalar:
		a.Series, a.Values = 1, []string{fmt.Sprint(v.V)}
	default:
		a.Error = fmt.Sprintf("the result is a %s", result.Value.Type())
	}
	return a
}
