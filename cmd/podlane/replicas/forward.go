package replicas

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// errClosed says that a Finder was closed.
var errClosed = errors.New("closed")

// errForbidden says that the user may not reach admin ports.
var errForbidden = errors.New("your RBAC rights lack the verb create on pods/portforward")

// forward is one Pod's admin port on this machine.
type forward struct {
	url    string
	cancel context.CancelFunc
	// done is closed when it has ended.
	done chan struct{}
	// said is what the forwarder said last about connections that failed.
	said atomic.Pointer[string]
}

func (w *forward) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

func (w *forward) close() {
	w.cancel()
	<-w.done
}

// forwarded returns the base URL of a Pod's admin pages on this machine: of the forward that there is, or of a new one, which has answered once.
func (f *Finder) forwarded(ctx context.Context, pod *corev1.Pod) (string, error) {
	f.mu.Lock()
	have := f.forwards[pod.UID]
	f.mu.Unlock()
	if have != nil && !have.ended() {
		return have.url, nil
	}
	made, err := f.open(ctx, pod)
	if err != nil {
		return "", fmt.Errorf("Pod %s/%s: %w", pod.Namespace, pod.Name, err) //nolint:staticcheck // ST1005: Pod is a name
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		made.close()
		return "", errClosed
	}
	if other := f.forwards[pod.UID]; other != nil && !other.ended() {
		made.close() // somebody else was as fast
		return other.url, nil
	}
	f.forwards[pod.UID] = made
	return made.url, nil
}

// closeOthers ends what is forwarded to Pods that are not in the list.
func (f *Finder) closeOthers(pods []corev1.Pod) {
	listed := make(map[types.UID]bool, len(pods))
	for i := range pods {
		listed[pods[i].UID] = true
	}
	var gone []*forward
	f.mu.Lock()
	for uid, w := range f.forwards {
		if !listed[uid] {
			gone = append(gone, w)
			delete(f.forwards, uid)
		}
	}
	f.mu.Unlock()
	for _, w := range gone {
		w.close()
	}
}

// open forwards a port of this machine's, which the system chooses, to a Pod's admin port.
func (f *Finder) open(ctx context.Context, pod *corev1.Pod) (*forward, error) {
	port, err := f.adminPort(pod)
	if err != nil {
		return nil, err
	}
	dialer, err := f.dialer(pod)
	if err != nil {
		return nil, err
	}
	w := &forward{done: make(chan struct{})}
	var life context.Context
	life, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	ready, ended := make(chan struct{}), make(chan error, 1)
	logged := logr.NewContext(life, funcr.New(func(_, args string) { w.said.Store(&args) }, funcr.Options{}))
	forwarder, err := portforward.NewOnAddressesForStreamingWithContext(logged, dialer, []string{"127.0.0.1"}, []string{":" + strconv.Itoa(port)}, ready, nil, nil)
	if err != nil {
		w.cancel()
		return nil, err
	}
	go func() {
		defer close(w.done)
		ended <- forwarder.ForwardPorts()
	}()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	select {
	case <-ready:
	case err := <-ended:
		w.cancel()
		return nil, dialer.explain(err, pod)
	case <-ctx.Done():
		w.cancel() // the goroutine ends with the connection attempt
		return nil, fmt.Errorf("its port %d cannot be forwarded: %w", port, context.Cause(ctx))
	}
	if err := w.check(ctx, f, forwarder); err != nil {
		w.close()
		return nil, fmt.Errorf("nothing answers on its port %d, where its admin pages should be (--admin-port): %w", port, err)
	}
	return w, nil
}

// check sets the URL, and asks for a page there: a forward stands even where nobody listens in the Pod.
func (w *forward) check(ctx context.Context, f *Finder, forwarder *portforward.PortForwarder) error {
	ports, err := forwarder.GetPorts()
	if err != nil {
		return err
	}
	w.url = "http://127.0.0.1:" + strconv.Itoa(int(ports[0].Local))
	status, _, err := f.get(ctx, w.url+"/healthz")
	if said := w.said.Load(); err != nil && said != nil {
		return errors.New(*said)
	}
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/healthz answers %d", status)
	}
	return err
}

// podDialer connects to the port-forward of one Pod.
type podDialer struct {
	httpstream.Dialer
	last *lastStatus
}

// lastStatus remembers the status of the last answer, of which the dialer's error keeps the text only.
type lastStatus struct {
	http.RoundTripper
	code atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (l *lastStatus) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.RoundTripper.RoundTrip(r)
	if answer != nil {
		l.code.Store(int64(answer.StatusCode))
	}
	return answer, err
}

// explain says what a failure to forward means.
func (d *podDialer) explain(err error, pod *corev1.Pod) error {
	if d.last.code.Load() == http.StatusForbidden {
		return fmt.Errorf("%w in namespace %s: %w; ask for that right, or write --admin URL", errForbidden, pod.Namespace, err)
	}
	return fmt.Errorf("its admin port cannot be forwarded: %w", err)
}

// dialer returns what connects to a Pod's port-forward: over WebSocket, and over SPDY where the API server is too old for that, as kubectl does.
func (f *Finder) dialer(pod *corev1.Pod) (*podDialer, error) {
	config := rest.CopyConfig(f.options.Config)
	url := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	last := &lastStatus{RoundTripper: transport}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: last}, http.MethodPost, url)
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreamingWithLogger(logr.Discard(), url, config)
	if err != nil {
		return nil, err
	}
	return &podDialer{last: last, Dialer: portforward.NewFallbackDialerForStreaming(tunnel, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})}, nil
}
