package controllers

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"podlane.dev/podlane/router/ingress"
)

const (
	// eventSettle is how old a Problem must be to become an Event: an Ingress that is applied a moment before its Service
	// is no reason to worry anybody.
	eventSettle = 2 * time.Second
	// eventRetry is the pause after a write that failed.
	eventRetry = 5 * time.Second
	// eventTimeout bounds one write.
	eventTimeout = 10 * time.Second
	// The rate of Events, and how many may come at once.
	eventsPerSecond = 5
	eventsBurst     = 50
	// eventNoteLimit is what the API server accepts (1 KiB).
	eventNoteLimit = 1024

	eventController = "podlane.dev/ingress-controller"
)

// events is the Runnable that writes each Problem as one Event on its object while this replica leads: once when it appears, again only
// when it was gone for a time. The name of an Event is made from the Problem, so that a new leader finds what the last one wrote, and two leaders write
// one. controller-runtime's recorder is not used for this: it folds Events of one reason on one object into a series
// that keeps the first note, so of two missing Services the second would never be seen.
type events struct {
	problems func() []ingress.Problem
	// first is closed when the first table is live: what it found is older than this process.
	first      <-chan struct{}
	leadership *leadership
	writer     client.Writer
	limiter    flowcontrol.RateLimiter
	instance   string
	log        logr.Logger
	wake       chan struct{}

	// seen holds the present Problems.
	seen map[ingress.Problem]*seenProblem
}

// seenProblem is what the writer knows of a present Problem.
type seenProblem struct {
	since time.Time
	// inherited says that it was there when this replica's term began, so that its Event may have been written by another.
	inherited bool
	written   bool
	// failures counts the tries to write it that failed: it makes way for others.
	failures int
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (e *events) NeedLeaderElection() bool { return false }

// poke asks to compare the Problems with what was written.
func (e *events) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Start implements manager.Runnable.
func (e *events) Start(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-e.first:
	}
	var last context.Context
	for {
		term, leading := e.leadership.current()
		if leading && term != last {
			// A new term: what the last one wrote counts for nothing, the API server knows it.
			e.seen = map[ingress.Problem]*seenProblem{}
			e.follow(inheritedProblems)
		}
		last = term //nolint:fatcontext // it is only compared
		var again <-chan time.Time
		if leading {
			e.follow(newProblems)
			if next := e.write(term); next > 0 {
				again = time.After(next)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-again:
		}
	}
}

// origin says whether Problems may have Events already.
type origin uint8

const (
	newProblems origin = iota
	inheritedProblems
)

// follow makes seen the set of present Problems.
func (e *events) follow(o origin) {
	now := time.Now()
	present := map[ingress.Problem]struct{}{}
	for _, p := range e.problems() {
		present[p] = struct{}{}
		if e.seen[p] == nil {
			e.seen[p] = &seenProblem{since: now, inherited: o == inheritedProblems}
		}
	}
	for p := range e.seen {
		if _, ok := present[p]; !ok {
			delete(e.seen, p)
		}
	}
}

// write writes what is due and returns when to look again, 0 for when something changes.
func (e *events) write(ctx context.Context) time.Duration {
	for {
		p, seen := e.due()
		if seen == nil {
			return 0
		}
		if wait := time.Until(seen.since.Add(eventSettle)); wait > 0 {
			return wait
		}
		// Each Event is a request, and the lease may run out during one while its term goes on: this process may have stood still.
		if _, leading := e.leadership.current(); !leading {
			return 0
		}
		// Not Wait: a Problem that is solved in the meantime needs no Event.
		if !e.limiter.TryAccept() {
			return time.Second / eventsPerSecond
		}
		if err := e.report(ctx, p, seen); err != nil {
			seen.failures++
			if ctx.Err() == nil {
				e.log.Error(err, "an Event could not be written, trying again", "object", p.Object.String(), "reason", p.Reason)
			}
			return eventRetry
		}
		seen.written = true
	}
}

// due returns the Problem whose Event is next, nil for none: of those that have settled, one that has not failed more often than others, of
// an object with the fewest Events, in the namespace with the fewest, so that an object with a thousand Problems makes no other wait, nor does a tenant
// with a thousand objects; of those that have not, the first that will.
func (e *events) due() (next ingress.Problem, seen *seenProblem) {
	// Of an object, and of a namespace: it has neither Kind nor Name.
	told := map[ingress.Object]int{}
	for p, k := range e.seen {
		if k.written {
			told[p.Object]++
			told[ingress.Object{Namespace: p.Object.Namespace}]++
		}
	}
	settled := time.Now().Add(-eventSettle)
	for p, k := range e.seen {
		if k.written {
			continue
		}
		switch {
		case seen == nil:
		case k.since.After(settled) || seen.since.After(settled): // only the older one may be due
			if !k.since.Before(seen.since) {
				continue
			}
		case cmp.Or(cmp.Compare(k.failures, seen.failures), cmp.Compare(told[p.Object], told[next.Object]),
			cmp.Compare(told[ingress.Object{Namespace: p.Object.Namespace}], told[ingress.Object{Namespace: next.Object.Namespace}]),
			k.since.Compare(seen.since), cmp.Compare(p.Field, next.Field)) >= 0:
			continue
		}
		next, seen = p, k
	}
	return next, seen
}

// report writes one Event, or counts one more occurrence on the one that is there. Events that the API server will never accept (the
// namespace is going, the right is missing) are given up.
func (e *events) report(ctx context.Context, p ingress.Problem, seen *seenProblem) error {
	event, ok := e.event(p, seen.since)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	err := e.writer.Create(ctx, event)
	switch {
	case err == nil:
		return nil
	case apierrors.IsAlreadyExists(err):
		if seen.inherited {
			return nil
		}
		return e.repeat(ctx, event)
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		e.log.V(1).Info("an Event was refused", "object", p.Object.String(), "reason", p.Reason, "error", err.Error())
		return nil
	default:
		return fmt.Errorf("create Event %s/%s: %w", event.Namespace, event.Name, err)
	}
}

// repeat marks an Event that exists as having occurred again now.
func (e *events) repeat(ctx context.Context, event *eventsv1.Event) error {
	patch, err := json.Marshal(map[string]any{"series": map[string]any{"count": 2, "lastObservedTime": metav1.NowMicro()}})
	if err != nil {
		return fmt.Errorf("series of Event %s/%s: %w", event.Namespace, event.Name, err)
	}
	answer := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: event.Namespace, Name: event.Name}}
	err = e.writer.Patch(ctx, answer, client.RawPatch(types.MergePatchType, patch))
	// It may have expired in this moment; then the Problem is as old as that.
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patch Event %s/%s: %w", event.Namespace, event.Name, err)
	}
	return nil
}

// event returns the Event for p; ok is false for objects that are not in the cluster.
func (e *events) event(p ingress.Problem, since time.Time) (event *eventsv1.Event, ok bool) {
	apiVersion, ok := apiVersions()[p.Object.Kind]
	if !ok || p.Object.Name == "" {
		return nil, false
	}
	namespace := p.Object.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	kind := corev1.EventTypeWarning
	if p.Effect == ingress.Notice {
		kind = corev1.EventTypeNormal
	}
	note := p.Message
	if p.Field != "" {
		note = p.Field + ": " + note
	}
	return &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: eventName(p)},
		EventTime:           metav1.NewMicroTime(since),
		ReportingController: eventController,
		ReportingInstance:   clip(e.instance, 128),
		Action:              string(p.Effect),
		Reason:              string(p.Reason),
		Regarding: corev1.ObjectReference{
			APIVersion: apiVersion, Kind: p.Object.Kind, Namespace: p.Object.Namespace, Name: p.Object.Name, UID: types.UID(p.Object.UID),
		},
		Note: clip(note, eventNoteLimit),
		Type: kind,
	}, true
}

// apiVersions returns the versions by kind of the objects that have Events.
func apiVersions() map[string]string {
	return map[string]string{
		"Ingress":       "networking.k8s.io/v1",
		"IngressClass":  "networking.k8s.io/v1",
		"EndpointSlice": "discovery.k8s.io/v1",
		"Service":       "v1",
		"Endpoints":     "v1",
		"Secret":        "v1",
		"ConfigMap":     "v1",
	}
}

// eventName returns a name that two Events share only if they say the same of the same object.
func eventName(p ingress.Problem) string {
	h := sha256.New()
	for _, s := range []string{p.Object.Kind, p.Object.Namespace, p.Object.Name, p.Object.UID, p.Field, string(p.Reason), string(p.Effect), p.Message} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	name := strings.TrimRight(clip(p.Object.Name, 230), "-.")
	return name + "." + hex.EncodeToString(h.Sum(nil)[:8])
}

// clip cuts s to at most n bytes, not within a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
