package clients_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// The dashboard's folder has that many ordinary routes, and those of hostile.
const dashboardRoutes = 5000

// payloads are what would run where text becomes HTML.
var payloads = []string{`<img src=x onerror="window.pwned=1">`, `</script><script>window.pwned=1</script>`, `"'><svg/onload=window.pwned=1>`}

// dashboardFolder makes the folder. Pods of all routes are at an address.
func dashboardFolder(t *testing.T, pod string) string {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	for i := range dashboardRoutes {
		fmt.Fprintf(&text, `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: app-%[1]d, namespace: team-%[2]d, annotations: {podlane.dev/limit-rps: "1000", podlane.dev/enable-cors: "true"}}
spec:
  rules: [{host: app-%[1]d.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app-%[1]d, port: {number: 80}}}}]}}]
`, i, i%50)
		writeService(&text, fmt.Sprintf("app-%d", i), fmt.Sprintf("team-%d", i%50), pod, fmt.Sprintf("app-%d-7d9f", i))
	}
	for i, payload := range payloads {
		quoted, _ := json.Marshal(payload)
		fmt.Fprintf(&text, `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: hostile-%[1]d, namespace: hostile, annotations: {podlane.dev/custom-headers: %[2]s, podlane.dev/upstream-vhost: %[2]s, podlane.dev/proxy-body-size: %[2]s, podlane.dev/auth-realm: %[2]s, podlane.dev/unknown: %[2]s}}
spec:
  tls: [{hosts: [hostile-%[1]d.example], secretName: %[2]s}]
  rules: [{host: hostile-%[1]d.example, http: {paths: [
    {path: %[3]s, pathType: ImplementationSpecific, backend: {service: {name: hostile-%[1]d, port: {number: 80}}}},
    {path: /service, pathType: Prefix, backend: {service: {name: %[2]s, port: {number: 80}}}}]}}]
`, i, quoted, `"/`+string(quoted[1:]))
		writeService(&text, fmt.Sprintf("hostile-%d", i), "hostile", pod, payload)
	}
	if err := os.WriteFile(filepath.Join(dir, "all.yaml"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeService(w io.Writer, name, namespace, address, pod string) {
	ip, port, _ := strings.Cut(address, ":")
	quoted, _ := json.Marshal(pod)
	fmt.Fprintf(w, `---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-x, namespace: %[2]s, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: "", port: %[4]s}]
endpoints: [{addresses: [%[3]s], conditions: {ready: true}, targetRef: {kind: Pod, name: %[5]s, namespace: %[2]s, uid: %[1]s}}]
`, name, namespace, ip, port, quoted)
}

// A viewer is a browser that looks at the dashboard of a podlane.
type viewer struct {
	*browser
	podlane *serving.Process
	// complaints are what the browser said of the page: errors, and what the page's policy forbade.
	complaints []string
}

// helpers are what the scripts below use. until waits for something; what it waits for is in the error where that does not come.
const helpers = `
	window.$ = (id) => document.getElementById(id);
	window.until = async (ok) => {
		for (const end = Date.now() + 40000; Date.now() < end; await new Promise((done) => setTimeout(done, 20))) {
			const got = await ok();
			if (got) return got;
		}
		throw new Error('in vain: ' + ok + ', found: ' + $('found').textContent + ', ' + rows()[0]?.textContent + ', ' + $('answer').textContent);
	};
	window.rows = () => [...document.querySelectorAll('#list tbody tr')];
	window.see = async (name) => {
		document.querySelector('nav a[href="#' + name + '"]').click();
		await until(() => document.querySelector('nav a[aria-current]').hash === '#' + name && !$(name === 'overview' || name === 'explain' ? 'view-' + name : 'list').hidden);
		if (name !== 'overview' && name !== 'explain') await until(() => rows().length > 0);
	};
	window.search = async (words, found) => {
		$('q').focus(); $('q').value = words; $('q').dispatchEvent(new Event('input', { bubbles: true }));
		await until(() => $('found').textContent === found);
	};
	addEventListener('securitypolicyviolation', (e) => console.error('CSP: ' + e.violatedDirective + ' ' + e.blockedURI));
`

func newViewer(t *testing.T, p *serving.Process) *viewer {
	t.Helper()
	v := &viewer{browser: newBrowser(t, newAuthority(t)), podlane: p}
	v.event = v.note
	for _, domain := range []string{"Log", "Runtime", "Page"} {
		v.call(domain+".enable", map[string]any{}, &struct{}{})
	}
	v.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": helpers}, &struct{}{})
	v.size(1440, 900)
	if failed := v.open("http://" + p.Admin + "/"); failed != "" {
		t.Fatal(failed)
	}
	v.run("await until(() => document.readyState === 'complete' && $('state').textContent.includes('ready'));", nil)
	return v
}

// note keeps events that say that something is wrong.
func (v *viewer) note(method string, params json.RawMessage) {
	var p struct {
		Type  string
		Entry struct{ Level, Source, Text, URL string }
	}
	_ = json.Unmarshal(params, &p) // what is not like this is no complaint
	// Questions that cannot be answered are asked on purpose.
	asked := p.Entry.Source == "network" && strings.Contains(p.Entry.URL, "/debug/explain?")
	bad := []string{"error", "warning", "assert"}
	if method == "Runtime.exceptionThrown" || method == "Runtime.consoleAPICalled" && slices.Contains(bad, p.Type) || method == "Log.entryAdded" && slices.Contains(bad, p.Entry.Level) && !asked {
		v.complaints = append(v.complaints, method+" "+string(params))
	}
}

func (v *viewer) size(width, height int) {
	v.t.Helper()
	v.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, &struct{}{})
}

// prefer asks for colours, "light" or "dark".
func (v *viewer) prefer(scheme string) {
	v.t.Helper()
	v.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, &struct{}{})
}

// press presses keys by their names.
func (v *viewer) press(keys ...string) {
	v.t.Helper()
	codes := map[string]int{"Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "End": 35, "Home": 36, "/": 191}
	for _, key := range keys {
		event := map[string]any{"type": "keyDown", "key": key, "windowsVirtualKeyCode": codes[key]}
		if text := map[string]string{"/": "/", "Enter": "\r"}[key]; text != "" {
			event["text"] = text
		}
		v.call("Input.dispatchKeyEvent", event, &struct{}{})
		v.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": codes[key]}, &struct{}{})
	}
}

// picture writes what is seen into the folder PODLANE_SCREENSHOTS, for people.
func (v *viewer) picture(name string) {
	v.t.Helper()
	dir := os.Getenv("PODLANE_SCREENSHOTS")
	if dir == "" {
		return
	}
	var got struct{ Data string }
	v.call("Page.captureScreenshot", map[string]any{"format": "png"}, &got)
	png, err := base64.StdEncoding.DecodeString(got.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		v.t.Error(err)
	}
}

// request sends a request to a route.
func (v *viewer) request(host, path string) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, "http://"+v.podlane.HTTP+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	r.Host = host
	answer, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		v.t.Fatalf("%s%s: %s %v", host, path, answer.Status, err)
	}
}
