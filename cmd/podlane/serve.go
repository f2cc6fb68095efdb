package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/ingress"
)

// serveOptions are the options of `podlane serve`.
type serveOptions struct {
	frontOptions
	ingress *config.Ingress
	files   *config.Files
}

func newServe(p *process) *cobra.Command {
	o := &serveOptions{
		frontOptions: frontOptions{
			listeners: config.ServeListeners(), http: config.NewHTTP(), http2: config.NewHTTP2(), tls: config.NewTLS(), upstream: config.NewUpstream(),
			log: config.ServeLog(), metrics: config.NewMetrics(), tracing: config.TracingFrom(os.Getenv), shutdown: config.ServeShutdown(),
		},
		ingress: config.ServeIngress(), files: config.NewFiles(),
	}
	cmd := &cobra.Command{
		Use:   "serve --from DIR [flags]",
		Short: "Serve a folder of manifests, without a cluster",
		Long: "Serve a folder of manifests, without a cluster: Ingress, IngressClass, Service, EndpointSlice, Endpoints, Secret and\n" +
			"ConfigMap objects in YAML and JSON files. It is the same proxy and the same reading of Ingresses as in a cluster, and a\n" +
			"file that changes is live at once.",
		Example: "  podlane serve --from config/samples\n" +
			"  podlane serve --from . --http-address 127.0.0.1:80 --https-address off\n" +
			"  podlane serve --from manifests --ingress-class nginx --access-log stdout",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), p, o) },
	}
	bind(cmd, o.files, o.ingress, o.listeners, o.http, o.http2, o.tls, o.upstream, o.log, o.metrics, o.tracing, o.shutdown)
	return cmd
}

// runServe serves until a signal, and returns nil after an orderly shutdown.
func runServe(ctx context.Context, p *process, o *serveOptions) (err error) {
	if err := checkFolder(o.files.From); err != nil {
		return err
	}
	o.external = upstream.External{Deny: o.ingress.ExternalDeny, Allow: o.ingress.ExternalAllow}
	log := newLogger(p.stderr, o.log)
	o.memory = limitMemory(log)
	o.class = o.ingress.ControllerClass
	f, err := newFront(o.frontOptions, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	s, release := p.watchSignals(ctx, f.reopenLog)
	defer release()

	d := newFolder(o, f, &report{w: p.stdout})
	// The following begins before the first look, so that no change can fall between the two.
	following, err := follow(o.files.From, d.report.failed)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer func() { err = errors.Join(err, following.close()) }()
	if err := d.load(time.Time{}); err != nil {
		return err
	}
	if err := f.openAdmin(ctx, adminPages{ready: d.ready, problems: d.current, synced: d.lastSync}); err != nil {
		return err
	}
	if err := f.openTraffic(ctx); err != nil {
		return err
	}
	d.report.started(o.files.From, d, f)
	if err := serveFolder(s, f, d, following.changes()); err != nil {
		return err
	}
	f.drain(s)
	return nil
}

// serveFolder makes changes live until a signal ends it or something fails.
func serveFolder(s stopping, f *front, d *folder, changes <-chan time.Time) error {
	turn := time.NewTimer(d.live.table.CertificatesStand(time.Now()))
	defer turn.Stop()
	for {
		select {
		case <-s.term.Done():
			return nil
		case err := <-f.failed:
			return err
		case since := <-changes:
			d.reload(since)
		case <-turn.C:
			d.reload(time.Now())
		}
		turn.Reset(d.live.table.CertificatesStand(time.Now()))
	}
}

func newFolder(o *serveOptions, f *front, r *report) *folder {
	builder, lastGood := ingress.NewBuilder(o.ingress.Families()), new(ingress.LastGood)
	return &folder{
		read: newManifests(o.files.From, o.ingress.Options()).read,
		build: func(s ingress.Snapshot) (*router.Table, []ingress.Problem) {
			s.LastGood = lastGood
			table, problems := builder.Build(s)
			builder.Remember(lastGood)
			return table, problems
		},
		plane:   f,
		report:  r,
		metrics: f.metrics,
		bounds:  &boundTeller{metrics: f.metrics, log: f.log},
	}
}

// checkFolder says in plain words what is wrong with --from.
func checkFolder(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("--from: there is no folder %s", path)
	case err != nil:
		return fmt.Errorf("--from: %w", err)
	case !info.IsDir():
		return fmt.Errorf("--from: %s is a file: write the folder that it is in", path)
	}
	if _, err := os.ReadDir(path); err != nil {
		return fmt.Errorf("--from: %s cannot be read: %w", path, explainRead(err))
	}
	return nil
}
