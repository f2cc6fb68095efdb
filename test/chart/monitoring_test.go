package chart_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// document is a rendered object of a kind that this program has no type for.
type document struct {
	APIVersion, Kind string
	Metadata         struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
	}
	Spec map[string]any
}

// monitoring renders the chart and returns the objects of the Prometheus operator, and the others.
func monitoring(t *testing.T, set ...string) (theirs map[string]document, others objects) {
	t.Helper()
	out, err := tools.Template(t.Context(), standard(set...))
	if err != nil {
		t.Fatal(err)
	}
	theirs = map[string]document{}
	var rest strings.Builder
	for text := range strings.SplitSeq(string(out), "\n---\n") {
		var d document
		if err := yaml.Unmarshal([]byte(text), &d); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if d.APIVersion != "monitoring.coreos.com/v1" {
			rest.WriteString(text + "\n---\n")
			continue
		}
		if _, twice := theirs[d.Kind]; twice {
			t.Errorf("two of kind %s", d.Kind)
		}
		theirs[d.Kind] = d
	}
	return theirs, decode(t, []byte(rest.String()))
}

// monitors reports whether the selector of a monitor selects labels.
func monitors(t *testing.T, d document, these map[string]string) bool {
	t.Helper()
	selector, ok := d.Spec["selector"].(map[string]any)["matchLabels"].(map[string]any)
	if !ok || len(selector) == 0 {
		t.Fatalf("%s selects by %v", d.Kind, d.Spec["selector"])
	}
	set := labels.Set{}
	for name, value := range selector {
		set[name] = value.(string)
	}
	return set.AsSelector().Matches(labels.Set(these))
}

func TestNoMonitoringByDefault(t *testing.T) {
	if theirs, _ := monitoring(t); len(theirs) > 0 {
		t.Errorf("made without being asked for: %v", theirs)
	}
}

func TestServiceMonitor(t *testing.T) {
	theirs, others := monitoring(t, "controller.metrics.enabled=true", "controller.metrics.serviceMonitor.enabled=true",
		"controller.metrics.serviceMonitor.additionalLabels.release=prometheus", "controller.metrics.serviceMonitor.namespace=monitoring",
		"controller.metrics.serviceMonitor.scrapeTimeout=10s", "controller.metrics.serviceMonitor.sampleLimit=30000")
	d := theirs["ServiceMonitor"]
	if d.Metadata.Namespace != "monitoring" || d.Metadata.Labels["release"] != "prometheus" || len(theirs) != 1 {
		t.Errorf("%+v", theirs)
	}
	found := 0
	for _, s := range of[*corev1.Service](others) {
		if monitors(t, d, s.Labels) {
			found++
			if s.Spec.Ports[0].Name != "metrics" || s.Spec.Ports[0].TargetPort.StrVal != "metrics" {
				t.Errorf("selects %s with the ports %v", s.Name, s.Spec.Ports)
			}
		}
	}
	if found != 1 {
		t.Errorf("selects %d Services, want that of the metrics alone", found)
	}
	endpoint := map[string]any{"port": "metrics", "path": "/metrics", "interval": "30s", "scrapeTimeout": "10s", "honorLabels": true}
	if diff := cmp.Diff([]any{endpoint}, d.Spec["endpoints"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]any{"matchNames": []any{"podlane-system"}}, d.Spec["namespaceSelector"]); diff != "" {
		t.Error(diff)
	}
	if d.Spec["sampleLimit"] != float64(30000) {
		t.Errorf("sampleLimit %v", d.Spec["sampleLimit"])
	}
}

func TestPodMonitor(t *testing.T) {
	theirs, others := monitoring(t, "controller.metrics.podMonitor.enabled=true", "controller.metrics.podMonitor.honorLabels=false",
		"controller.metrics.podMonitor.scrapeInterval=", "controller.metrics.podMonitor.metricRelabelings[0].action=labeldrop",
		"controller.metrics.podMonitor.metricRelabelings[0].regex=service")
	d := theirs["PodMonitor"]
	if pods := workloadOf(t, others).Template.Labels; !monitors(t, d, pods) || len(theirs) != 1 || len(of[*corev1.Service](others)) != 1 {
		t.Errorf("%+v does not select %v, or there is more", d, pods)
	}
	endpoint := map[string]any{
		"port": "metrics", "path": "/metrics", "honorLabels": false, "metricRelabelings": []any{map[string]any{"action": "labeldrop", "regex": "service"}},
	}
	if diff := cmp.Diff([]any{endpoint}, d.Spec["podMetricsEndpoints"]); diff != "" {
		t.Error(diff)
	}
}

func TestMonitorsThatCannotBe(t *testing.T) {
	for set, want := range map[string]string{
		"controller.metrics.serviceMonitor.enabled=true": "set controller.metrics.enabled too",
		"controller.metrics.enabled=true,controller.metrics.serviceMonitor.enabled=true,controller.metrics.podMonitor.enabled=true": "scraped twice",
		"controller.metrics.podMonitor.enabled=true,controller.metrics.podMonitor.scrapeInterval=often":                             "scrapeInterval",
		"controller.metrics.prometheusRule.enabled=true,controller.metrics.prometheusRule.disabledRules[0]=all":                     "disabledRules",
		"controller.metrics.dashboard.enabled=true,controller.metrics.dashboard.label=":                                             "label",
		"controller.metrics.serviceMonitor.interval=30s":                                                                            "interval",
	} {
		_, err := tools.Template(t.Context(), standard(strings.Split(set, ",")...))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", set, err, want)
		}
	}
}

func TestPrometheusRule(t *testing.T) {
	content, err := os.ReadFile(path(t, "chart/rules/podlane.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	theirs, _ := monitoring(t, "controller.metrics.prometheusRule.enabled=true")
	if diff := cmp.Diff(file["groups"], theirs["PrometheusRule"].Spec["groups"]); diff != "" {
		t.Errorf("not the rules of the file: %s", diff)
	}
	theirs, _ = monitoring(t, "controller.metrics.prometheusRule.enabled=true", "controller.metrics.prometheusRule.disabledRules={PodlaneAbsent,PodlaneLeaders}",
		"controller.metrics.prometheusRule.rules[0].alert=Mine", "controller.metrics.prometheusRule.rules[0].expr=up == 0")
	groups := theirs["PrometheusRule"].Spec["groups"].([]any)
	all, fewer := rules(file["groups"].([]any)[0]), rules(groups[0])
	if len(fewer) != len(all)-2 {
		t.Errorf("%d rules of %d, want two fewer", len(fewer), len(all))
	}
	if diff := cmp.Diff([]any{map[string]any{"alert": "Mine", "expr": "up == 0"}}, rules(groups[1])); diff != "" {
		t.Error(diff)
	}
	theirs, _ = monitoring(t, "controller.metrics.prometheusRule.enabled=true", "controller.metrics.prometheusRule.defaultRules=false",
		"controller.metrics.prometheusRule.rules[0].alert=Mine")
	if groups := theirs["PrometheusRule"].Spec["groups"].([]any); len(groups) != 1 {
		t.Errorf("%d groups without the chart's", len(groups))
	}
}

func rules(group any) []any { return group.(map[string]any)["rules"].([]any) }

func TestDashboard(t *testing.T) {
	_, others := monitoring(t, "controller.metrics.dashboard.enabled=true", "controller.metrics.dashboard.annotations.grafana_folder=Ingress",
		"controller.metrics.dashboard.namespace=monitoring")
	found := 0
	for _, c := range of[*corev1.ConfigMap](others) {
		if c.Labels["grafana_dashboard"] != "1" {
			continue
		}
		found++
		content, err := os.ReadFile(path(t, "chart/dashboards/podlane.json"))
		if err != nil {
			t.Fatal(err)
		}
		var file, made any
		if err := json.Unmarshal(content, &file); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.Data["podlane.json"]), &made); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(file, made); diff != "" || c.Namespace != "monitoring" || c.Annotations["grafana_folder"] != "Ingress" || len(c.Data) != 1 {
			t.Errorf("%s/%s %v: %s", c.Namespace, c.Name, c.Annotations, diff)
		}
	}
	if found != 1 {
		t.Errorf("%d ConfigMaps with the label", found)
	}
}
