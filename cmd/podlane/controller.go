package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"

	"podlane.dev/podlane/config"
	"podlane.dev/podlane/controllers"
	"podlane.dev/podlane/proxy/observe"
	"podlane.dev/podlane/proxy/upstream"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/endpoints"
	"podlane.dev/podlane/router/ingress"
)

// controllerOptions are the options of `podlane controller`.
type controllerOptions struct {
	frontOptions
	ingress *config.Ingress
	cluster *config.Cluster
}

func newController(p *process) *cobra.Command {
	o := &controllerOptions{
		frontOptions: frontOptions{
			listeners: config.ControllerListeners(), http: config.NewHTTP(), http2: config.NewHTTP2(), tls: config.NewTLS(), upstream: config.NewUpstream(),
			log: config.ControllerLog(), metrics: config.NewMetrics(), tracing: config.TracingFrom(os.Getenv), shutdown: config.ControllerShutdown(),
		},
		ingress: config.ControllerIngress(), cluster: config.NewCluster(),
	}
	cmd := &cobra.Command{
		Use:   "controller [flags]",
		Short: "Serve the Ingresses of a Kubernetes cluster",
		Long: "Serve the Ingresses of a Kubernetes cluster: in it, or from outside with a kubeconfig.\n" +
			"Flags have ingress-nginx's names where they mean the same.",
		Example: "  podlane controller --publish-service=podlane/podlane\n" +
			"  podlane controller --kubeconfig ~/.kube/config --http-address 127.0.0.1:8080 --https-address off --update-status=false\n" +
			"  podlane controller --ingress-class nginx --controller-class k8s.io/ingress-nginx --update-status=false",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runController(cmd.Context(), p, o) },
	}
	bind(cmd, o.cluster, o.ingress, o.listeners, o.http, o.http2, o.tls, o.upstream, o.log, o.metrics, o.tracing, o.shutdown)
	return cmd
}

// runController serves until a signal, and returns nil after an orderly shutdown.
func runController(ctx context.Context, p *process, o *controllerOptions) (err error) {
	log := newLogger(p.stderr, o.log)
	p.adoptLog(log)
	o.memory = limitMemory(log)
	self := types.NamespacedName{Namespace: os.Getenv("POD_NAMESPACE"), Name: os.Getenv("POD_NAME")}
	cluster, err := findCluster(o.cluster.Kubeconfig)
	if err != nil {
		return err
	}
	options, err := controllersOptions(o, self, cluster.namespace)
	if err != nil {
		return err
	}
	o.external = upstream.External{
		Deny: append(apiServers(cluster.config), o.ingress.ExternalDeny...), Allow: o.ingress.ExternalAllow,
	}
	o.class = o.ingress.ControllerClass
	f, err := newFront(o.frontOptions, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	s, release := p.watchSignals(ctx, f.reopenLog)
	defer release()

	if !o.cluster.NoElection {
		f.metrics.SetRole(observe.Follower) // until it is told otherwise
	}
	options.Observer = clusterObserver(f, log)
	if options.Observer.OnBrake, err = brakeObserver(f); err != nil {
		return err
	}
	builder := ingress.NewBuilder(o.ingress.Families())
	options.Remember = builder.Remember
	c := controllers.New(options, builder.Build, endpoints.Cluster.Addresses, f)
	if err := f.openAdmin(ctx, adminPages{ready: c.Ready, problems: c.Problems, synced: c.LastSync, applied: c.Applied}); err != nil {
		return err
	}
	m, err := startManager(s.kill, c, cluster.config, log)
	if err != nil {
		return err
	}
	// The cluster is followed until the last request has ended: Pods come and go while this one drains.
	defer func() {
		if err := m.stop(); err != nil {
			log.Error(err, "the controllers did not end in order")
		}
	}()
	if err := serveCluster(s, f, c, m); err != nil {
		return err
	}
	f.drain(s)
	return nil
}

// serveCluster opens the listeners once the first complete Table is live, and returns when a signal ends it or something fails.
func serveCluster(s stopping, f *front, c *controllers.Controllers, m *running) error {
	select {
	case <-c.FirstPublish():
	case <-s.term.Done():
		return nil
	case err := <-m.ended:
		return endedError(s, err)
	case err := <-f.failed:
		return err
	}
	if err := f.openTraffic(s.kill); err != nil {
		return err
	}
	f.log.Info("serving", "version", thisBuild().version, "http", addressesOf(f.http), "https", addressesOf(f.https),
		"admin", addressesOf(f.adminSockets), "metrics", addressesOf(f.metricsSockets),
		"routes", f.engine.Table().Len(), "problems", len(c.Problems()), "try", tryLine(f.engine.Table(), f, f.alive()))
	select {
	case <-s.term.Done():
		return nil
	case err := <-m.ended:
		return endedError(s, err)
	case err := <-f.failed:
		return err
	}
}

// endedError is what the end of the manager means: nothing where a signal ended it.
func endedError(s stopping, err error) error {
	if s.term.Err() != nil && err == nil {
		return nil
	}
	return fmt.Errorf("controllers ended: %w", err)
}

// running is a manager that was started.
type running struct {
	cancel context.CancelFunc
	// ended receives what the manager's Start returned, once.
	ended chan error
	done  chan struct{}
}

// managerFarewell is how long controllers may take to end: long enough to empty status, where that is asked for.
const managerFarewell = 15 * time.Second

func startManager(ctx context.Context, c *controllers.Controllers, cluster *rest.Config, log logr.Logger) (*running, error) {
	options := c.ManagerOptions()
	options.Logger = log
	timeout := managerFarewell
	options.GracefulShutdownTimeout = &timeout
	// Names must be unique for controller-runtime's own metrics only, which are not shown.
	anyName := true
	options.Controller.SkipNameValidation = &anyName
	m, err := ctrl.NewManager(cluster, options)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	if err := c.SetupWithManager(m); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &running{cancel: cancel, ended: make(chan error, 1), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		err := m.Start(ctx)
		if err == nil && ctx.Err() == nil {
			err = errors.New("for no reason that they gave")
		}
		r.ended <- err
	}()
	return r, nil
}

// stop ends the manager and waits for it.
func (r *running) stop() error {
	r.cancel()
	<-r.done
	select {
	case err := <-r.ended:
		if err != nil {
			return fmt.Errorf("stop controllers: %w", err)
		}
	default: // somebody has reported it
	}
	return nil
}

// cluster is how to reach the API server, and the namespace that this process belongs to: the Pod's or the kubeconfig's.
type cluster struct {
	config    *rest.Config
	namespace string
}

// findCluster looks where kubectl looks, and then for the Pod's service account.
func findCluster(kubeconfig string) (cluster, error) { return findContext(kubeconfig, "") }

// findContext is findCluster for a context of the kubeconfig; "" is the current one.
func findContext(kubeconfig, name string) (cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name})
	c, err := loader.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return cluster{}, noCluster(kubeconfig, rules)
	case err != nil && kubeconfig != "":
		return cluster{}, fmt.Errorf("--kubeconfig: %w", err)
	case err != nil:
		return cluster{}, fmt.Errorf("kubeconfig: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return cluster{}, fmt.Errorf("kubeconfig: namespace: %w", err)
	}
	c.UserAgent = "podlane/" + thisBuild().version
	// What is written is limited where it is written; reads are few and must not wait for a bucket at start.
	c.QPS = -1
	return cluster{c, namespace}, nil
}

// noCluster says where a cluster was looked for.
func noCluster(kubeconfig string, rules *clientcmd.ClientConfigLoadingRules) error {
	looked := rules.GetLoadingPrecedence()
	if kubeconfig != "" {
		looked = []string{kubeconfig}
	}
	return fmt.Errorf("no cluster found in %s: write --kubeconfig FILE; podlane serve, and other commands with --from DIR, need none", strings.Join(looked, ", "))
}

// apiServers returns the addresses of the API server that are known without DNS: an ExternalName Service must not lead to it.
func apiServers(c *rest.Config) []netip.Prefix {
	hosts := []string{os.Getenv("KUBERNETES_SERVICE_HOST")}
	if u, err := url.Parse(c.Host); err == nil {
		hosts = append(hosts, u.Hostname())
	}
	var list []netip.Prefix
	for _, host := range hosts {
		if addr, err := netip.ParseAddr(host); err == nil {
			list = append(list, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return list
}

// controllersOptions returns the options of the controllers but for the observer. self is this Pod, or empty; namespace is
// where its Lease lies unless the flag says otherwise.
func controllersOptions(o *controllerOptions, self types.NamespacedName, namespace string) (controllers.Options, error) {
	c := o.cluster
	if self.Name == "" || self.Namespace == "" {
		if c.PublishNodes || c.UpdateStatusOnExit {
			return controllers.Options{}, errors.New(
				"--publish-node-addresses and --update-status-on-shutdown need the environment variables POD_NAMESPACE and POD_NAME: set them")
		}
	}
	options := controllers.Options{
		Namespaces: c.Namespaces,
		Ingress:    o.ingress.Options(),
		Status: controllers.StatusOptions{
			Update: c.UpdateStatus, Addresses: c.PublishStatusAddress, PublishService: parseObject(c.PublishService),
			RemoveOnShutdown: c.UpdateStatusOnExit, Self: self,
		},
		Election: controllers.ElectionOptions{
			Disabled: c.NoElection, ID: c.ElectionID, Namespace: cmp.Or(c.ElectionNamespace, namespace), Identity: self.Name,
			LeaseDuration: c.ElectionTTL,
		},
		Brake: controllers.BrakeOptions{Percent: c.BrakePercent, Hold: c.BrakeHold},
	}
	if c.PublishNodes {
		options.Status.Nodes = &controllers.NodeAddresses{Internal: c.InternalNodeIP}
	}
	return options, nil
}

// parseObject splits a namespace/name that has been validated; "" is the zero name.
func parseObject(text string) types.NamespacedName {
	namespace, name, _ := strings.Cut(text, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// clusterObserver reports what the controllers do.
func clusterObserver(f *front, log logr.Logger) controllers.Observer {
	bounds := &boundTeller{metrics: f.metrics, log: log}
	return controllers.Observer{
		OnPublish: func(generation uint64, build, eventToLive time.Duration) {
			f.metrics.Published(observe.Publication{
				Generation: generation, Routes: f.engine.Table().Len(), Certificates: hostsOf(f.engine.Table()), Build: build, EventToLive: eventToLive,
			})
			bounds.tell()
			log.V(1).Info("table published", "generation", generation, "routes", f.engine.Table().Len(),
				"build", build.String(), "eventToLive", eventToLive.String())
		},
		OnProblems:   func(problems []ingress.Problem) { showProblems(f.metrics, problems) },
		OnAddresses:  func(_ router.Service, eventToSet time.Duration) { f.metrics.EndpointsLive(eventToSet) },
		OnBuildPanic: func(any) { f.metrics.BuildFailed() },
		OnLeading: func(leading bool) {
			role := observe.Follower
			if leading {
				role = observe.Leader
			}
			f.metrics.SetRole(role)
			log.Info("leader election", "leading", leading)
		},
	}
}
