package chart_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"podlane.dev/podlane/config"
)

// checkRestricted holds a Pod to the "restricted" Pod Security Standard, and to a read-only root besides.
// https://kubernetes.io/docs/concepts/security/pod-security-standards/
func checkRestricted(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Error("the Pod shares a namespace with its host")
	}
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			t.Errorf("volume %s is the host's", v.Name)
		}
	}
	p := pod.SecurityContext
	if p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.RunAsUser == nil || *p.RunAsUser == 0 {
		t.Errorf("the Pod may run as root: %v", p)
	}
	if p == nil || p.SeccompProfile == nil || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("no seccomp profile: %v", p)
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Privileged != nil && *s.Privileged {
			t.Errorf("container %s may gain privileges: %v", c.Name, s)
		}
		if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Errorf("container %s may write to its root: %v", c.Name, s)
		}
		if s == nil || s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("container %s has capabilities: %v", c.Name, s)
		}
		for _, port := range c.Ports {
			if port.ContainerPort < 1024 {
				t.Errorf("port %s: %d needs a capability", port.Name, port.ContainerPort)
			}
			if port.HostPort != 0 {
				t.Errorf("port %s: uses the host's port %d", port.Name, port.HostPort)
			}
		}
	}
}

// checkShutdown makes sure that the kubelet does not kill what the flags promise to finish.
func checkShutdown(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	args := pod.Containers[0].Args
	needed := duration(t, args, "--drain-delay") + duration(t, args, "--shutdown-timeout")
	if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; grace <= needed {
		t.Errorf("terminationGracePeriodSeconds is %s, but a shutdown may take %s", grace, needed)
	}
}

func duration(t *testing.T, args []string, flag string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(value(t, args, flag))
	if err != nil {
		t.Fatalf("%s: %v", flag, err)
	}
	return d
}

// value returns the value of a flag, which has to be there exactly once.
func value(t *testing.T, args []string, flag string) string {
	t.Helper()
	var found []string
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, flag+"="); ok {
			found = append(found, v)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s is there %d times in %q, want once", flag, len(found), args)
	}
	return found[0]
}

func checkProbes(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	c := pod.Containers[0]
	metrics := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == "metrics" })
	if metrics < 0 || value(t, c.Args, "--metrics-address") != ":"+itoa(c.Ports[metrics].ContainerPort) {
		t.Errorf("the port of the probes is not that of --metrics-address: %v, %q", c.Ports, c.Args)
	}
	for path, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != "metrics" {
			t.Errorf("no probe of %s on the metrics port: %v", path, probe)
		}
	}
	if c.StartupProbe == nil || c.StartupProbe.HTTPGet.Path != "/healthz" || c.StartupProbe.HTTPGet.Port.StrVal != "metrics" {
		t.Errorf("no startup probe of /healthz: %v", c.StartupProbe)
	}
	if admin := value(t, c.Args, "--admin-address"); !strings.HasPrefix(admin, "127.0.0.1:") {
		t.Errorf("--admin-address=%s: the debug pages can be reached from outside the Pod", admin)
	}
}

// checkFlags parses the arguments with the flags that the binary has.
func checkFlags(t *testing.T, args []string) {
	t.Helper()
	if len(args) == 0 || args[0] != "controller" {
		t.Fatalf("the first argument is not the sub-command: %q", args)
	}
	flags := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	groups := []config.Group{
		config.ControllerListeners(), config.ControllerIngress(), config.NewCluster(), config.NewHTTP(), config.NewTLS(),
		config.NewUpstream(), config.ControllerLog(), config.NewMetrics(), config.ControllerShutdown(),
	}
	for _, g := range groups {
		g.AddFlags(flags)
	}
	var parsed []string
	for _, a := range args[1:] {
		parsed = append(parsed, strings.ReplaceAll(a, "$(POD_NAMESPACE)", "podlane-system"))
	}
	if err := flags.Parse(parsed); err != nil {
		t.Errorf("podlane controller does not take %q: %v", parsed, err)
	}
	for _, g := range groups {
		if err := g.Validate(); err != nil {
			t.Errorf("podlane controller refuses %q: %v", parsed, err)
		}
	}
}
