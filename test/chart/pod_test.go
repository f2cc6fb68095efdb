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

// breaches is what a Pod does against the "restricted" Pod Security Standard, and against a read-only root besides.
// https://kubernetes.io/docs/concepts/security/pod-security-standards/
func breaches(pod corev1.PodSpec) []string {
	var found []string
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		found = append(found, "the Pod shares a namespace with its host")
	}
	for _, v := range pod.Volumes {
		if s := v.VolumeSource; !slices.Contains([]bool{
			s.ConfigMap != nil, s.CSI != nil, s.DownwardAPI != nil, s.EmptyDir != nil, s.Ephemeral != nil, s.PersistentVolumeClaim != nil,
			s.Projected != nil, s.Secret != nil,
		}, true) {
			found = append(found, "volume "+v.Name+" is of no kind that is allowed")
		}
	}
	p := pod.SecurityContext
	if p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.RunAsUser == nil || *p.RunAsUser == 0 {
		found = append(found, "the Pod may run as root")
	}
	if p == nil || p.SeccompProfile == nil || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		found = append(found, "no seccomp profile")
	}
	if p != nil {
		for _, s := range p.Sysctls {
			if !slices.Contains(safeSysctls, s.Name) {
				found = append(found, "sysctl "+s.Name+" is not safe")
			}
		}
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		found = append(found, containerBreaches(c)...)
	}
	return found
}

// safeSysctls are those of the standard.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies",
	"net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}

func containerBreaches(c corev1.Container) []string {
	var found []string
	s := c.SecurityContext
	if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Privileged != nil && *s.Privileged {
		found = append(found, "container "+c.Name+" may gain privileges")
	}
	if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		found = append(found, "container "+c.Name+" may write to its root")
	}
	if s == nil || s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		found = append(found, "container "+c.Name+" has capabilities")
	}
	for _, port := range c.Ports {
		if port.ContainerPort < 1024 {
			found = append(found, "port "+port.Name+": "+itoa(port.ContainerPort)+" needs a capability")
		}
		if port.HostPort != 0 {
			found = append(found, "port "+port.Name+": uses the host's port "+itoa(port.HostPort))
		}
	}
	return found
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
		config.ControllerListeners(), config.ControllerIngress(), config.NewCluster(), config.NewHTTP(), config.NewHTTP2(), config.NewTLS(),
		config.NewUpstream(), config.ControllerLog(), config.NewMetrics(), config.NewTracing(), config.ControllerShutdown(),
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
