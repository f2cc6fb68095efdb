package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"podlane.dev/podlane/cmd/podlane/replicas"
	"podlane.dev/podlane/config"
)

// newFinder returns what finds the replicas to ask: those of --admin, or the Pods of the cluster. The caller closes it.
func newFinder(s *config.Source, r *config.Replicas) (*replicas.Finder, error) {
	o := replicas.Options{Admin: r.Admin, Namespace: r.Namespace, Selector: r.Selector, Port: r.Port}
	if len(r.Admin) == 0 {
		at, err := findContext(s.Kubeconfig, s.Context)
		if err != nil {
			return nil, err
		}
		o.Config = at.config
	}
	return replicas.New(o)
}

// askTimeout is how long an admin page may take.
const askTimeout = 30 * time.Second

// maxPage bounds what is read of one: a table of 50,000 routes has less.
const maxPage = 256 << 20

// asker reads admin pages of replicas. It is safe for concurrent use.
type asker struct{ client *http.Client }

// newAsker returns an asker; its connections end with each answer.
func newAsker() *asker {
	// A proxy of the environment must not see what is on this machine.
	return &asker{&http.Client{Timeout: askTimeout, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}}
}

// pageError is an admin page that says no.
type pageError struct {
	status int
	text   string
}

func (e *pageError) Error() string { return fmt.Sprintf("it answers %d: %s", e.status, e.text) }

// read decodes the JSON of a page, such as /debug/routes?x=y, into what.
func (a *asker) read(ctx context.Context, r *replicas.Replica, page string, what any) error {
	separator := "?"
	if strings.Contains(page, "?") {
		separator = "&"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+page+separator+"format=json", nil)
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // what there is of it
		return fmt.Errorf("%s%s: %w", r, page, &pageError{answer.StatusCode, strings.TrimSpace(string(text))})
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxPage)).Decode(what); err != nil {
		return fmt.Errorf("%s%s: %w", r, page, err)
	}
	return nil
}
