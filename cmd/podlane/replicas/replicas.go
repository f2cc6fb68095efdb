package replicas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// DefaultSelector is the labels that the chart and config/default give to Podlane's Pods.
	DefaultSelector = "app.kubernetes.io/name=podlane"
	// DefaultPort is the admin port of a Pod whose arguments name none.
	DefaultPort = 9091
)

// answerTimeout is how long a replica may take to say that it is there.
const answerTimeout = 10 * time.Second

// openers is how many Pods are connected to at a time.
const openers = 8

// Options say where replicas are looked for.
type Options struct {
	// Admin are base URLs of admin pages, such as http://127.0.0.1:9091. Where there are any, nothing else is looked at.
	Admin []string
	// Config is how to reach the API server, with the user's own rights.
	Config *rest.Config
	// Namespace is the one that the Pods are in; "" is all. Selector selects them by their labels; "" is DefaultSelector.
	Namespace, Selector string
	// Port is the admin port in the Pods; 0 takes that of their --admin-address, or DefaultPort.
	Port int
}

// Replica is one running Podlane, as it was when it was looked for.
type Replica struct {
	// Pod is zero for a replica that the user named by its URL.
	Pod types.NamespacedName
	UID types.UID
	// Ready says that it gets traffic: its Pod is ready, or its /readyz says so.
	Ready bool
	// URL is the base of its admin pages, without a slash at its end; "" where it is not ready, or Err says why there is none.
	URL string
	Err error
}

// String returns what a user calls the replica: namespace/name of its Pod, or its URL.
func (r *Replica) String() string {
	if r.Pod.Name == "" {
		return r.URL
	}
	return r.Pod.String()
}

// Finder finds replicas, and keeps what is forwarded to them until Close. It is safe for concurrent use.
type Finder struct {
	options Options
	client  kubernetes.Interface
	http    *http.Client

	mu     sync.Mutex
	closed bool
	// forwards are those that were opened, by Pod.
	forwards map[types.UID]*forward
}

// New returns a Finder. The error says that Options.Config, or a URL, cannot be used.
func New(o Options) (*Finder, error) {
	f := &Finder{
		options: o, forwards: map[types.UID]*forward{},
		// A proxy of the environment must not see what is on this machine.
		http: &http.Client{Timeout: answerTimeout, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}},
	}
	if f.options.Selector == "" {
		f.options.Selector = DefaultSelector
	}
	if len(o.Admin) > 0 {
		f.options.Admin = nil
		for _, written := range o.Admin {
			base, err := baseURL(written)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(f.options.Admin, base) {
				f.options.Admin = append(f.options.Admin, base)
			}
		}
		return f, nil
	}
	var err error
	f.client, err = kubernetes.NewForConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return f, nil
}

// All returns every replica that runs and does not terminate, sorted; those that are ready have a URL or an error. There is at least one: the error
// says where was looked, or which right is missing. Each call looks again, and keeps what is forwarded already.
func (f *Finder) All(ctx context.Context) ([]Replica, error) {
	if len(f.options.Admin) > 0 {
		list := make([]Replica, len(f.options.Admin))
		each(len(list), func(i int) { list[i] = f.ask(ctx, f.options.Admin[i]) })
		return list, nil
	}
	pods, err := f.pods(ctx)
	if err != nil {
		return nil, err
	}
	f.closeOthers(pods)
	list := make([]Replica, len(pods))
	each(len(list), func(i int) { list[i] = f.replica(ctx, &pods[i]) })
	return list, nil
}

// Any returns the first replica that is ready and can be reached. The error says why there is none.
func (f *Finder) Any(ctx context.Context) (Replica, error) {
	if len(f.options.Admin) > 0 {
		return firstOf(len(f.options.Admin), func(i int) Replica { return f.ask(ctx, f.options.Admin[i]) })
	}
	pods, err := f.pods(ctx)
	if err != nil {
		return Replica{}, err
	}
	return firstOf(len(pods), func(i int) Replica { return f.replica(ctx, &pods[i]) })
}

// firstOf returns the first of n replicas that can be asked.
func firstOf(n int, at func(int) Replica) (Replica, error) {
	var errs []error
	for i := range n {
		r := at(i)
		switch {
		case r.Ready && r.Err == nil:
			return r, nil
		case r.Err != nil:
			errs = append(errs, r.Err)
			if errors.Is(r.Err, errForbidden) {
				return Replica{}, &unreachable{errs} // the others are as forbidden
			}
		default:
			errs = append(errs, fmt.Errorf("%s is not ready", &r))
		}
	}
	return Replica{}, &unreachable{errs}
}

// unreachable is why no replica can be asked.
type unreachable struct{ errs []error }

// maxReasons bounds what is told of a large installation: what is wrong with one is mostly wrong with all.
const maxReasons = 3

// Error returns the first reasons, and how many there are more.
func (e *unreachable) Error() string {
	told := min(len(e.errs), maxReasons)
	reasons := make([]string, told, told+1)
	for i := range reasons {
		reasons[i] = e.errs[i].Error()
	}
	if more := len(e.errs) - told; more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return "no replica of Podlane can be asked: " + strings.Join(reasons, "; ")
}

// Unwrap returns all reasons.
func (e *unreachable) Unwrap() []error { return e.errs }

// Close ends what is forwarded, and waits until it has ended.
func (f *Finder) Close() error {
	f.mu.Lock()
	f.closed = true
	open := f.forwards
	f.forwards = nil
	f.mu.Unlock()
	for _, forwarded := range open {
		forwarded.close()
	}
	f.http.CloseIdleConnections()
	return nil
}

// each calls do for 0 … n-1, some at a time, and returns when all are done.
func each(n int, do func(int)) {
	var running sync.WaitGroup
	places := make(chan struct{}, openers)
	for i := range n {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			do(i)
		})
	}
	running.Wait()
}

// ask returns the replica at a URL that the user named.
func (f *Finder) ask(ctx context.Context, base string) Replica {
	r := Replica{URL: base}
	status, text, err := f.get(ctx, base+"/readyz")
	switch {
	case err != nil:
		r.Err = fmt.Errorf("%s does not answer: %w; is that Podlane's --admin-address? Where it is in a Pod: kubectl port-forward", base, err)
	case status == http.StatusServiceUnavailable:
		r.Err = fmt.Errorf("%s is not ready: %s", base, strings.TrimSpace(text))
	case status != http.StatusOK:
		r.Err = fmt.Errorf("%s/readyz answers %d: is that Podlane's --admin-address?", base, status)
	}
	// One that cannot be asked may be ready: whoever needs all of them must not pass it over.
	r.Ready = status != http.StatusServiceUnavailable
	return r
}

// replica returns the replica that a Pod is, with its port forwarded if it is ready.
func (f *Finder) replica(ctx context.Context, pod *corev1.Pod) Replica {
	r := Replica{Pod: types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, UID: pod.UID, Ready: ready(pod)}
	if r.Ready {
		r.URL, r.Err = f.forwarded(ctx, pod)
	}
	return r
}

// get returns the status and the first bytes of a page.
func (f *Finder) get(ctx context.Context, url string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	answer, err := f.http.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	return answer.StatusCode, string(text), err
}
