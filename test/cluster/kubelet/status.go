package kubelet

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// missing reports whether an error says that the Pod, or this Pod of that name, is no more.
func missing(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err)
}

// writeStatus writes the Pod's status if it is not what was written last.
func (p *pod) writeStatus(ctx context.Context) {
	status := p.status()
	p.mu.Lock()
	same := p.written != nil && equality.Semantic.DeepEqual(p.written, status)
	p.mu.Unlock()
	if same {
		return
	}
	// The uid makes the patch fail for a later Pod of the same name.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.uid}, "status": status})
	if err != nil {
		p.kubelet.Logf("status of pod %s/%s: %v", p.namespace, p.name, err)
		return
	}
	_, err = p.kubelet.Client.CoreV1().Pods(p.namespace).Patch(ctx, p.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case err == nil:
		p.mu.Lock()
		p.written = status
		p.mu.Unlock()
	case ctx.Err() != nil || missing(err):
	default:
		p.kubelet.Logf("write the status of pod %s/%s: %v", p.namespace, p.name, err)
		p.notify()
	}
}

func (p *pod) status() *corev1.PodStatus {
	s := &corev1.PodStatus{Phase: corev1.PodPending, StartTime: &p.started, HostIP: p.kubelet.NodeIP.String()}
	s.HostIPs = []corev1.HostIP{{IP: s.HostIP}}
	a := p.address()
	if p.ending() && !a.IsValid() && p.written != nil {
		s.PodIP, s.PodIPs = p.written.PodIP, p.written.PodIPs
	}
	if a.IsValid() {
		s.PodIP = a.String()
		for _, each := range p.kubelet.net.addresses(a) {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: each.String()})
		}
	}
	ready := true
	for _, c := range p.containers {
		cs := c.status()
		ready = ready && cs.Ready
		s.ContainerStatuses = append(s.ContainerStatuses, cs)
	}
	s.Phase = p.phase(s.ContainerStatuses)
	condition := func(t corev1.PodConditionType, good bool, reason, message string) {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
		if good {
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, "", ""
		}
		c.LastTransitionTime = p.since(c)
		s.Conditions = append(s.Conditions, c)
	}
	open, gate := p.gates()
	condition(corev1.PodScheduled, true, "", "")
	condition(corev1.PodInitialized, true, "", "")
	condition(corev1.PodReadyToStartContainers, a.IsValid(), "", "")
	condition(corev1.ContainersReady, ready, "ContainersNotReady", "")
	switch {
	case !ready:
		condition(corev1.PodReady, false, "ContainersNotReady", "")
	default:
		condition(corev1.PodReady, open, "ReadinessGatesNotReady", fmt.Sprintf("the condition %s is not true", gate))
	}
	return s
}

// since is when a condition took its status.
func (p *pod) since(c corev1.PodCondition) metav1.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written != nil {
		for _, old := range p.written.Conditions {
			if old.Type == c.Type && old.Status == c.Status {
				return old.LastTransitionTime
			}
		}
	}
	return metav1.Now()
}

// gates reports whether all readiness gates are open, and else the first that is not.
func (p *pod) gates() (bool, corev1.PodConditionType) {
	o := p.current()
	for _, gate := range o.Spec.ReadinessGates {
		open := false
		for _, c := range o.Status.Conditions {
			open = open || c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}
		if !open {
			return false, gate.ConditionType
		}
	}
	return true, ""
}

// phase follows Kubernetes: pending until every container has run, running while one runs or will run again.
func (p *pod) phase(all []corev1.ContainerStatus) corev1.PodPhase { //nolint:gocyclo // a decision table, as Kubernetes has it
	policy := p.current().Spec.RestartPolicy
	started, over, failed := true, true, false
	for _, c := range all {
		t := c.State.Terminated
		started = started && (c.State.Waiting == nil || c.RestartCount > 0)
		again := policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && t != nil && t.ExitCode != 0
		over = over && t != nil && (!again || p.ending())
		failed = failed || t != nil && t.ExitCode != 0
	}
	switch {
	case over && failed:
		return corev1.PodFailed
	case over:
		return corev1.PodSucceeded
	case started:
		return corev1.PodRunning
	}
	return corev1.PodPending
}

func (c *container) status() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	up := c.up
	return corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.spec.Image, ContainerID: "process://" + string(c.pod.uid) + "/" + c.spec.Name,
		State: c.state, LastTerminationState: c.last, RestartCount: c.restarts, Ready: c.ready, Started: &up,
	}
}
