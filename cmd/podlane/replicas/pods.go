package replicas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errAdminOff says that a replica shows no admin pages.
var errAdminOff = errors.New("its --admin-address is off: there are no pages to read")

// pods lists the Pods that run and do not terminate, sorted by namespace and name.
func (f *Finder) pods(ctx context.Context) ([]corev1.Pod, error) {
	o := f.options
	found, err := f.client.CoreV1().Pods(o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: o.Selector})
	where := "in all namespaces"
	if o.Namespace != "" {
		where = "in namespace " + o.Namespace
	}
	switch {
	case apierrors.IsForbidden(err) && o.Namespace == "":
		return nil, fmt.Errorf("find Podlane: your RBAC rights lack the verb list on pods %s: name Podlane's with --podlane-namespace, or its admin address with --admin: %w", where, err)
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("find Podlane: your RBAC rights lack the verb list on pods %s: %w", where, err)
	case apierrors.IsUnauthorized(err):
		return nil, fmt.Errorf("find Podlane: the API server does not accept the credentials of your kubeconfig: log in again, or write --context: %w", err)
	case err != nil:
		return nil, fmt.Errorf("find Podlane's Pods: %w", err)
	}
	total := len(found.Items)
	pods := slices.DeleteFunc(found.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning
	})
	if len(pods) == 0 && total > 0 {
		return nil, fmt.Errorf("find Podlane: none of the %d Pods with the labels %s %s runs: see kubectl get pods -A -l %s", total, o.Selector, where, o.Selector)
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("find Podlane: there is no Pod with the labels %s %s: write --podlane-namespace, --selector or --admin", o.Selector, where)
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return pods, nil
}

// ready says whether Services send traffic to a Pod.
func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// adminPort returns the port of a Pod's admin pages.
func (f *Finder) adminPort(p *corev1.Pod) (int, error) {
	if f.options.Port != 0 {
		return f.options.Port, nil
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		port, named, err := portOf(slices.Concat(c.Command, c.Args))
		if named || err != nil {
			return port, err
		}
	}
	return DefaultPort, nil
}

// portOf reads --admin-address among arguments, of which the last counts.
func portOf(args []string) (port int, named bool, err error) {
	for i, arg := range args {
		value, ok := strings.CutPrefix(arg, "--admin-address")
		switch {
		case !ok:
			continue
		case value == "" && i+1 < len(args):
			value = args[i+1]
		case strings.HasPrefix(value, "="):
			value = value[1:]
		default:
			continue
		}
		first, _, _ := strings.Cut(value, ",")
		if first == "" || first == "off" {
			return 0, true, errAdminOff
		}
		_, text, err := net.SplitHostPort(first)
		if err != nil {
			return 0, true, fmt.Errorf("its --admin-address: %w", err)
		}
		if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
			return 0, true, fmt.Errorf("its --admin-address %q names no port that can be forwarded: write --admin-port", value)
		}
		named = true
	}
	return port, named, nil
}

// baseURL returns a URL as the user wrote it, made whole.
func baseURL(written string) (string, error) {
	text := strings.TrimSpace(written)
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return "", fmt.Errorf("--admin: %q is not a URL of admin pages: write http://127.0.0.1:9091", written)
	}
	return strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/"), nil
}
