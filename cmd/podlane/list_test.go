package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// live is a folder with everything that lists show.
func live(t *testing.T) map[string]string {
	t.Helper()
	secret, _ := secretOf(t, "tls", "a.example")
	return map[string]string{
		"web.yaml":    withTLS("site", "a.example", "web", "tls") + "---\n" + serviceOf("web", 8001, 8002) + "---\n" + secret,
		"other.yaml":  strings.ReplaceAll(ingressOf("other", "b.example", "/x", "gone"), "namespace: default", "namespace: elsewhere"),
		"broken.yaml": strings.Replace(ingressOf("broken", "c.example", "/", "web"), "  name: broken", "  name: broken\n  annotations: {podlane.dev/permanent-redirect: nonsense}", 1),
	}
}

// lines runs a command line and returns the cells of its lines.
func lines(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, stdout, stderr := podlane(t, args...)
	if code != want || stderr != "" {
		t.Fatalf("podlane %v: exit %d, want %d: %s%s", args, code, want, stdout, stderr)
	}
	var b strings.Builder
	for line := range strings.Lines(stdout) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

func TestListsOfAReplicaAndOfItsFolderAreTheSame(t *testing.T) {
	s := serve(t, live(t), "--admin-address=127.0.0.1:0")
	for command, want := range map[string][]string{
		"routes":    {"HOST PATH TYPE INGRESS BACKENDS POLICIES\n", "a.example / Prefix default/site default/web", "b.example /x Prefix elsewhere/other elsewhere/gone:80 (503: ", "c.example"},
		"endpoints": {"SERVICE PORT ADDRESS STATE IN FLIGHT POD\n", "default/web - 127.0.0.1:8001 ready 0 -\n", "default/web - 127.0.0.1:8002 ready 0 -\n"},
		"certs":     {"HOSTS SECRET STATE EXPIRES INGRESS\n", "(default) (self-signed) ok", "a.example default/tls ok", "default/site\n"},
		"problems":  {"OBJECT REASON EFFECT FIELD MESSAGE\n", "Ingress default/broken InvalidAnnotation", "Ingress elsewhere/other ServiceMissing"},
	} {
		replica, folder := lines(t, 0, command, "--admin", s.admin), lines(t, 0, command, "--from", s.dir)
		for _, w := range want {
			if !strings.Contains(replica, w) {
				t.Errorf("%s: %q is not in\n%s", command, w, replica)
			}
		}
		// Each makes its own certificate for unknown names, a moment apart.
		if command != "certs" && replica != folder {
			t.Errorf("%s of the replica\n%s, of its folder\n%s", command, replica, folder)
		}
		if strings.Count(replica, "\n") != strings.Count(folder, "\n") {
			t.Errorf("%s: replica\n%s, folder\n%s", command, replica, folder)
		}
		if twice := lines(t, 0, command, "--admin", s.admin+","+strings.Replace(s.admin, "127.0.0.1", "localhost", 1), "--all-replicas"); !strings.Contains(twice, " all\n") || !strings.Contains(twice, "2 replicas asked") {
			t.Errorf("%s of a replica and itself:\n%s", command, twice)
		}
		var list []map[string]any
		if err := json.Unmarshal([]byte(lines(t, 0, command, "--admin", s.admin, "-o", "json")), &list); err != nil || len(list) != strings.Count(replica, "\n")-1 {
			t.Errorf("%s -o json: %d values, %v, want one a line of\n%s", command, len(list), err, replica)
		}
	}
	for args, want := range map[string]string{
		"routes -n elsewhere":         "HOST PATH TYPE INGRESS BACKENDS POLICIES\nb.example /x Prefix elsewhere/other",
		"routes --host a.example":     "HOST PATH TYPE INGRESS BACKENDS POLICIES\na.example / Prefix default/site",
		"routes --ingress other":      "HOST PATH TYPE INGRESS BACKENDS POLICIES\nb.example /x Prefix elsewhere/other",
		"routes -n nowhere":           "nothing here; -A shows all namespaces\n",
		"routes -A --ingress nothing": "nothing\n",
		"endpoints --service web":     "SERVICE PORT ADDRESS STATE IN FLIGHT POD\ndefault/web",
		"certs --host a.example":      "HOSTS SECRET STATE EXPIRES INGRESS\na.example default/tls ok",
		"problems -n elsewhere":       "OBJECT REASON EFFECT FIELD MESSAGE\n/",
	} {
		if got := lines(t, 0, append(strings.Fields(args), "--admin", s.admin)...); !strings.HasPrefix(got, want) || strings.Count(got, "\n") > strings.Count(want, "\n")+2 {
			t.Errorf("%s:\n%s, want\n%s", args, got, want)
		}
	}
}

func TestReplicasThatDisagreeAreTold(t *testing.T) {
	one, two := serve(t, live(t)), serve(t, live(t))
	two.write(t, "more.yaml", ingressOf("more", "d.example", "/", "web"))
	two.says(`\+ http://d.example`)
	got := lines(t, 2, "routes", "--admin", one.admin+","+two.admin, "--all-replicas")
	if !strings.Contains(got, "a.example / Prefix default/site default/web - all\n") || !strings.Contains(got, "d.example / Prefix default/more default/web - only http://"+two.admin+"\n") ||
		!strings.Contains(got, "! they disagree on 1 line") {
		t.Errorf("got\n%s", got)
	}
	if got := lines(t, 0, "endpoints", "--admin", one.admin+","+two.admin, "--all-replicas"); strings.Contains(got, "disagree") {
		t.Errorf("the same endpoints:\n%s", got)
	}
	if got := lines(t, 2, "certs", "--admin", one.admin+","+two.admin, "--all-replicas"); !strings.Contains(got, "only http://"+two.admin) {
		t.Errorf("another serial number is another certificate:\n%s", got)
	}
}

func TestListMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"routes --admin http://127.0.0.1:1":                "127.0.0.1:1 does not answer",
		"routes --admin http://127.0.0.1:1 --all-replicas": "127.0.0.1:1 does not answer",
		"certs --from " + t.TempDir() + " --all-replicas":  "leave out --admin and --all-replicas",
		"problems -n a -A --admin x":                       "--namespace and --all-namespaces",
		"endpoints --from /no/such/folder":                 "there is no folder",
		"endpoints extra":                                  "takes flags and no arguments",
		"routes -o text":                                   "write table or json",
		"routes -A --kubeconfig " + apiServer(t, nil):      "find Podlane",
	} {
		code, stdout, stderr := podlane(t, strings.Fields(args)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, %q, want %q", args, code, stdout, stderr, want)
		}
	}
}
