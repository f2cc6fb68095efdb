package controllers

import (
	"fmt"
	"hash/maphash"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"podlane.dev/podlane/router/ingress"
)

// addressWorkers is how many Services are handed over at a time.
const addressWorkers = 4

// farewellTimeout bounds the emptying of status at the end.
const farewellTimeout = 10 * time.Second

// Controllers is everything in this package that runs. Make one with New, the manager with ManagerOptions, and join them with
// SetupWithManager before the manager starts. Its other methods are safe for concurrent use at any time.
type Controllers struct {
	options   Options
	links     *links
	mirror    *mirror
	addresses *addresses
	publisher *publisher
	leaders   *leadership
}

// New returns controllers that build tables with build, and addresses with resolve, for plane.
func New(o Options, build BuildFunc, resolve AddressFunc, plane DataPlane) *Controllers {
	c := &Controllers{options: o, links: newLinks(), mirror: newMirror(o), leaders: &leadership{}}
	brake := newBrake(o.Brake, o.Ingress.IngressClass)
	c.addresses = &addresses{mirror: c.mirror, resolve: resolve, plane: plane, observer: o.Observer, brake: brake, seed: maphash.MakeSeed()}
	c.publisher = &publisher{
		mirror:    c.mirror,
		addresses: c.addresses,
		links:     c.links,
		build:     build,
		plane:     plane,
		observer:  o.Observer,
		first:     make(chan struct{}),
		brake:     brake,
	}
	brake.changed, brake.release, brake.wake = c.publisher.tellProblems, c.addresses.feed.add, c.publisher.wake
	if brake.noticed = o.Observer.OnBrake; brake.noticed == nil {
		brake.noticed = func(BrakeStep) {}
	}
	return c
}

// ManagerOptions returns the options that the manager must be made with: what its cache holds, no servers, and no leader
// election, because the manager would end the process, and all its connections, when the lease is lost. The caller may add a
// Logger, a GracefulShutdownTimeout and the like.
func (c *Controllers) ManagerOptions() ctrl.Options {
	return ctrl.Options{
		Cache:                  cacheOptions(c.options, c.links),
		MapperProvider:         restMapper,
		LeaderElection:         false,
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
	}
}

// SetupWithManager adds everything to m, which must have been made with ManagerOptions.
func (c *Controllers) SetupWithManager(m manager.Manager) error {
	log := m.GetLogger().WithName("controllers")
	c.mirror.log, c.mirror.cache, c.mirror.reader = log, m.GetCache(), m.GetAPIReader()
	c.mirror.caches = caches{config: m.GetConfig(), client: m.GetHTTPClient(), scheme: m.GetScheme(), mapper: m.GetRESTMapper(), links: c.links}
	c.mirror.hold(newReferents(secretKind(), log, m.GetAPIReader()), newReferents(configMapKind(), log, m.GetAPIReader()))
	c.publisher.log, c.publisher.brake.log = log, log

	status, source := c.statusWriter(m)
	events, err := c.eventWriter(m)
	if err != nil {
		return err
	}
	c.publisher.problemsChanged = events.poke
	c.mirror.subscribers = subscribers{
		table:     c.publisher.wake,
		addresses: c.addresses.changed,
		ingress:   status.enqueue,
		ownership: status.enqueueAll,
		service: func(key types.NamespacedName) {
			if key == c.options.Status.PublishService {
				status.enqueueAll()
			}
		},
	}
	c.leaders.changed = func(leading bool) {
		if c.options.Observer.OnLeading != nil {
			c.options.Observer.OnLeading(leading)
		}
		events.poke()
		source.poke()
		status.enqueueAll()
	}
	if !c.options.Election.disabled() {
		c.leaders.lasts = c.options.Election.leaseDuration()
	}
	elector := &elector{options: c.options.Election, leadership: c.leaders, config: m.GetConfig(), log: log}
	runnables := []manager.Runnable{c.mirror, elector, source, events}
	if c.options.Status.Update && c.options.Status.RemoveOnShutdown {
		runnables = append(runnables, &statusFarewell{status: status, source: source, timeout: farewellTimeout})
	}
	for _, r := range runnables {
		if err := m.Add(r); err != nil {
			return fmt.Errorf("add %T: %w", r, err)
		}
	}
	return c.addControllers(m, status)
}

// addControllers adds the controllers with queues. All run on every replica.
func (c *Controllers) addControllers(m manager.Manager, status *status) error {
	if err := add(m, "table", 1, &c.publisher.feed, c.publisher); err != nil {
		return err
	}
	if err := add(m, "addresses", addressWorkers, &c.addresses.feed, c.addresses); err != nil {
		return err
	}
	if !c.options.Status.Update {
		return nil
	}
	return add(m, "status", statusWriters, &status.feed, status)
}

// add adds one controller to m.
func add[R comparable](m manager.Manager, name string, workers int, from *feed[R], r reconcile.TypedReconciler[R]) error {
	every := false
	k, err := controller.NewTyped(name, m, controller.TypedOptions[R]{
		Reconciler:              r,
		MaxConcurrentReconciles: workers,
		// The default is true: a replica that does not lead would serve nothing.
		NeedLeaderElection: &every,
	})
	if err != nil {
		return fmt.Errorf("controller %s: %w", name, err)
	}
	if err := k.Watch(from); err != nil {
		return fmt.Errorf("controller %s: %w", name, err)
	}
	return nil
}

func (c *Controllers) statusWriter(m manager.Manager) (*status, *statusSource) {
	log := m.GetLogger().WithName("status")
	source := &statusSource{
		options:    c.options.Status,
		mirror:     c.mirror,
		leadership: c.leaders,
		reader:     m.GetAPIReader(),
		log:        log,
		wake:       make(chan struct{}, 1),
	}
	s := &status{
		enabled:    c.options.Status.Update,
		mirror:     c.mirror,
		leadership: c.leaders,
		source:     source,
		writer:     m.GetClient().Status(),
		limiter:    flowcontrol.NewTokenBucketRateLimiter(statusWritesPerSecond, statusWritesBurst),
		log:        log,
		written:    map[types.NamespacedName]statusWrite{},
	}
	source.changed = s.enqueueAll
	return s, source
}

func (c *Controllers) eventWriter(m manager.Manager) (*events, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name of this replica for Events: %w", err)
	}
	return &events{
		problems:   c.publisher.current,
		first:      c.publisher.first,
		leadership: c.leaders,
		writer:     m.GetClient(),
		limiter:    flowcontrol.NewTokenBucketRateLimiter(eventsPerSecond, eventsBurst),
		instance:   "podlane-" + host,
		log:        m.GetLogger().WithName("events"),
		wake:       make(chan struct{}, 1),
		seen:       map[ingress.Problem]*seenProblem{},
	}, nil
}

// Ready returns nil once the caches have synced and the first complete Table is live, else an error that says what is missing. It
// never turns back: a table that cannot be renewed still serves.
func (c *Controllers) Ready() error { return c.publisher.ready() }

// FirstPublish returns a channel that is closed when the first complete Table is live, with the addresses of all its
// Services: listeners may open then.
func (c *Controllers) FirstPublish() <-chan struct{} { return c.publisher.first }

// Generation returns the number of Tables published.
func (c *Controllers) Generation() uint64 { return c.publisher.generation.Load() }

// Problems returns those of the last Build, in its order. The slice is shared and must not be changed.
func (c *Controllers) Problems() []ingress.Problem { return c.publisher.current() }

// LastSync returns up to when what is served is known to be what the API server says: now while every watch is open, else when the
// first of those that are missing was lost. A connection that is silently dead is noticed after 45 s (client-go's HTTP/2 ping).
func (c *Controllers) LastSync() time.Time {
	if since, down := c.links.downSince(); down {
		return since
	}
	return time.Now()
}

// Leading reports whether this replica writes status and Events.
func (c *Controllers) Leading() bool {
	_, leading := c.leaders.current()
	return leading
}
