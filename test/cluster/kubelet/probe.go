package kubelet

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe runs the probes of a running container until ctx ends: first the startup probe until it succeeds, then liveness
// and readiness. A container without a readiness probe is ready once it is up.
func (c *container) probe(ctx context.Context) {
	if p := c.spec.StartupProbe; p != nil {
		up := false
		c.repeat(ctx, p, func(good bool) bool {
			if up = good; !good {
				c.signal(syscall.SIGKILL)
			}
			return false
		})
		if !up {
			return
		}
		c.set(func() { c.up = true }, nil)
	}
	var probes sync.WaitGroup
	defer probes.Wait()
	if p := c.spec.LivenessProbe; p != nil {
		probes.Go(func() {
			c.repeat(ctx, p, func(good bool) bool {
				if !good && !c.stays() {
					c.signal(syscall.SIGKILL)
				}
				return good
			})
		})
	}
	p := c.spec.ReadinessProbe
	if p == nil {
		c.set(func() { c.ready = true }, nil)
		return
	}
	c.repeat(ctx, p, func(good bool) bool {
		c.set(func() { c.ready = good }, nil)
		return true
	})
}

// repeat runs a probe at its period and reports each change of its verdict, which takes the threshold's number of equal
// results in a row. It ends when report returns false.
func (c *container) repeat(ctx context.Context, p *corev1.Probe, report func(good bool) (more bool)) {
	wait := time.Duration(p.InitialDelaySeconds) * time.Second
	period := time.Duration(max(p.PeriodSeconds, 1)) * time.Second
	results, last, verdict, known := int32(0), false, false, false
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		began := time.Now()
		good := c.check(ctx, p) == nil
		if ctx.Err() != nil {
			return
		}
		if results++; good != last {
			last, results = good, 1
		}
		threshold := max(p.FailureThreshold, 1)
		if good {
			threshold = max(p.SuccessThreshold, 1)
		}
		if results >= threshold && (!known || verdict != good) {
			verdict, known = good, true
			if !report(good) {
				return
			}
		}
		wait = max(0, period-time.Since(began))
	}
}

func (c *container) check(ctx context.Context, p *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(p.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	switch {
	case p.HTTPGet != nil:
		return c.httpGet(ctx, p.HTTPGet)
	case p.TCPSocket != nil:
		address, err := c.target(p.TCPSocket.Host, p.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	case p.Exec != nil:
		_, err := c.pod.exec(ctx, p.Exec.Command)
		return err
	}
	return fmt.Errorf("probe is of a kind that the process kubelet does not know")
}

// target is the address of a probe: the Pod's unless host says otherwise, at a port given by number or by name.
func (c *container) target(host string, p intstr.IntOrString) (string, error) {
	if host == "" {
		host = c.pod.address().String()
	}
	number := p.IntValue()
	if p.Type == intstr.String {
		for _, named := range c.spec.Ports {
			if named.Name == p.StrVal {
				number = int(named.ContainerPort)
			}
		}
	}
	if number <= 0 {
		return "", fmt.Errorf("container %s has no port %s", c.spec.Name, p.String())
	}
	return net.JoinHostPort(host, strconv.Itoa(number)), nil
}

// prober makes a connection for each probe and follows no redirect, which counts as success.
var prober = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (c *container) httpGet(ctx context.Context, get *corev1.HTTPGetAction) error {
	address, err := c.target(get.Host, get.Port)
	if err != nil {
		return err
	}
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	path := "/" + strings.TrimPrefix(get.Path, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/1.36")
	for _, h := range get.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
		}
		req.Header.Set(h.Name, h.Value)
	}
	answer, err := prober.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, 10<<10)
	if answer.StatusCode < 200 || answer.StatusCode >= 400 {
		return fmt.Errorf("probe answered %s", answer.Status)
	}
	return nil
}
