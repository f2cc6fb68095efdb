package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router/ingress"
)

// explainOptions are the options of `podlane explain`.
type explainOptions struct {
	question *config.Question
	source   *config.Source
	replicas *config.Replicas
	ingress  *config.Ingress
	http     *config.HTTP
	http2    *config.HTTP2
	tls      *config.TLS
	output   *config.Output
}

func newExplain(p *process) *cobra.Command {
	o := &explainOptions{
		question: config.NewQuestion(), source: config.NewSource(), replicas: config.NewReplicas(), ingress: config.ServeIngress(), http: config.NewHTTP(), http2: config.NewHTTP2(),
		tls: config.NewTLS(), output: config.NewOutput(),
	}
	cmd := &cobra.Command{
		Use:   "explain URL [flags]",
		Short: "Tell why a request gets the answer that it gets",
		Long: "Tell what would become of a request, and why: certificate, host, path and the others that lost, each policy with the annotation\n" +
			"behind it, canary, what the Pod gets, endpoints and timeouts. A replica is asked: --admin names it, else it is found in the\n" +
			"cluster. With --from a folder of manifests is read instead. It is the proxy's own code that answers, up to the Pod: nothing is\n" +
			"sent, counted or changed. The options about Ingresses, clients and TLS are those of podlane serve, and count with --from only.\n\n" +
			"What it assumes stands beside \"if\": an authentication service lets the request in (--auth-status asks what else), and the client has the\n" +
			"key of --client-cert. Not told are: WebSocket over HTTP/2, the body, and what Pods answer, with what policies make of their answers.\n\n" +
			"Exit code: 0 when it explains, whatever the answer is; 1 when it cannot.",
		Example: "  podlane explain https://shop.example.com/cart\n" +
			"  podlane explain https://shop.example.com/cart -H 'Cookie: canary=always' --client-ip 203.0.113.7\n" +
			"  podlane explain https://shop.example.com/shop.Carts/Get -H 'Content-Type: application/grpc'\n" +
			"  podlane explain https://shop.example.com/ --client-cert alice.pem --tls-max 1.2 --auth-status 401\n" +
			"  podlane explain http://shop.example.com/ --admin http://127.0.0.1:9091 -o json\n" +
			"  podlane explain http://shop.example.com/ --from manifests --compat ingress-nginx --configmap ingress/settings",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("explain takes one URL, and there are %d: write podlane explain https://app.example.com/path", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runExplain(cmd.Context(), p, o, args[0]) },
	}
	bind(cmd, o.question, o.source, o.replicas, o.output, o.ingress, o.http, o.http2, o.tls)
	return cmd
}

// runExplain explains the request for one URL.
func runExplain(ctx context.Context, p *process, o *explainOptions, address string) error {
	var x explained
	var err error
	if o.source.From != "" {
		x, err = explainFolder(p, o, address)
	} else {
		x, err = explainLive(ctx, o, address)
	}
	if err != nil {
		return err
	}
	if o.output.Form == config.OutputJSON {
		return writeJSON(p.stdout, &x)
	}
	var b strings.Builder
	writeExplained(&b, &x)
	_, err = io.WriteString(p.stdout, b.String())
	return err
}

// explainFolder builds what a folder says, for an engine that listens nowhere.
func explainFolder(p *process, o *explainOptions, address string) (x explained, err error) {
	q, shown, err := askedOf(address, o.question)
	if err != nil {
		return x, err
	}
	c, err := newManifests(o.source.From, o.ingress.Options()).read()
	if err != nil {
		return x, err
	}
	for _, problem := range c.problems {
		fmt.Fprintln(p.stderr, problem)
	}
	log := config.ServeLog()
	f, err := newFront(frontOptions{
		listeners: config.ServeListeners(), http: o.http, http2: o.http2, tls: o.tls, upstream: config.NewUpstream(), log: log,
		metrics: config.NewMetrics(), tracing: config.NewTracing(), shutdown: config.ServeShutdown(),
		external: upstream.External{Deny: o.ingress.ExternalDeny, Allow: o.ingress.ExternalAllow},
	}, newLogger(p.stderr, log))
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	table, problems := ingress.Build(c.snapshot, o.ingress.Families())
	for i := range problems {
		problems[i] = c.locate(problems[i])
	}
	for _, s := range f.Prepare(table) {
		f.SetAddresses(s, c.addresses[s])
	}
	f.Publish(table)
	e := &explainer{f.engine, f.certs, f.tls, func() []ingress.Problem { return problems }}
	q.Shake = e.shake(o.question, shown)
	return e.explain(q)
}

// explainLive asks a replica.
func explainLive(ctx context.Context, o *explainOptions, address string) (x explained, err error) {
	q, shown, err := askedOf(address, o.question)
	if err != nil {
		return x, err
	}
	finder, err := newFinder(o.source, o.replicas)
	if err != nil {
		return x, fmt.Errorf("%w; or write --admin URL after kubectl port-forward POD 9091", err)
	}
	defer func() { err = errors.Join(err, finder.Close()) }()
	replica, err := finder.Any(ctx)
	if err != nil {
		return x, err
	}
	if err := newAsker().read(ctx, &replica, pageOf(address, o.question, shown), &x); err != nil {
		return x, err
	}
	if !understood(&x, &q, o.question) {
		return x, fmt.Errorf("%s is older than this command, and knows nothing of --http-version, --tls-max, --ciphers, --client-cert, --auth-status and gRPC: leave them out, or ask with --from", &replica)
	}
	return x, nil
}

// askedOf returns the question that the user asks, and the certificates that the client shows.
func askedOf(address string, o *config.Question) (q proxy.Question, shown []*x509.Certificate, err error) {
	if q, err = questionOf(address, o); err != nil {
		return q, nil, fmt.Errorf("explain: %w", err)
	}
	if o.ServerName != "" && q.ServerName == "" {
		return q, nil, fmt.Errorf("--sni: %s has no handshake: write https://, or leave it out", address)
	}
	shown, err = o.Certificates()
	return q, shown, err
}

// understood reports whether a replica has answered the question that it was asked: an old one does not know all of it.
func understood(x *explained, q *proxy.Question, o *config.Question) bool {
	asked := o.HTTPVersion+o.TLSMax+o.Ciphers+o.CertificateFile != "" || o.AuthStatus != 0 || q.Method == "POST" && o.Method == ""
	ended := func(o proxy.Outcome) bool { return o.Answer != nil && o.Answer.Reason == proxy.HandshakeRefused }
	return !asked || x.Client.Protocol != "" || x.Handshake != nil && x.Handshake.Passthrough || slices.ContainsFunc(x.Outcomes, ended)
}
