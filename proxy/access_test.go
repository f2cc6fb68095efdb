package proxy_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"podlane.dev/podlane/proxy"
	"podlane.dev/podlane/proxy/filters"
	"podlane.dev/podlane/router"
	"podlane.dev/podlane/router/policy"
)

// users is a policy.Source with one Secret.
type users string

func (u users) Secret(string) (map[string][]byte, error) {
	return map[string][]byte{"auth": []byte(u)}, nil
}
func (users) ConfigMap(string) (map[string]string, error) { return nil, nil }
func (users) Compat() bool                                { return false }

// publishUsers makes a.test reach the Pod for those users.
func (r *rig) publishUsers(pod, kind string, u users) {
	r.t.Helper()
	v, err := filters.Auth().ParseValues(policy.Values{"auth-type": kind, "auth-secret": "users", "auth-realm": "r"}, u)
	if err != nil {
		r.t.Fatal(err)
	}
	sp := router.ServicePort{Namespace: "default", Name: "svc"}
	t := router.NewTable([]*router.Route{{
		ID: router.RouteID{Namespace: "default", Ingress: "ing", Host: "a.test", Path: "/"}, Backends: []router.Backend{{Service: sp, Weight: 1}},
		Policies: []policy.Value{{Family: "auth", Parsed: v}},
	}}, nil)
	r.engine.Prepare(t)
	r.engine.SetAddresses(sp.Service(), map[string][]router.Address{"": {{AddrPort: netip.MustParseAddrPort(pod), UID: "u", Ready: true, Serving: true}}})
	r.engine.Publish(t)
}

func basicField(credentials string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

// authPolicies are the families of these tests.
func authPolicies() []filters.Policy { return []filters.Policy{filters.Auth()} }

// discreetPod counts requests, and those with an Authorization field.
func discreetPod(t *testing.T) (addr string, all, told *atomic.Int64) {
	t.Helper()
	all, told = new(atomic.Int64), new(atomic.Int64)
	return backend(t, func(w http.ResponseWriter, q *http.Request) {
		all.Add(1)
		if len(q.Header["Authorization"]) > 0 {
			told.Add(1)
		}
		fmt.Fprint(w, "ok")
	}), all, told
}

// A password that was right, and is remembered to be, is wrong from the Publish on that changes the Secret; no request gets to the Pod without one,
// and none with the field that held it.
func TestPasswordsOfANewSecretHoldAtOnce(t *testing.T) {
	const (
		secret = "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG."
		other  = "{PLAIN}other"
	)
	overClients(t, proxy.Options{Policies: authPolicies()}, func(t *testing.T, r *rig, c *http.Client, base string) {
		t.Helper()
		pod, all, told := discreetPod(t)
		want := int64(0)
		for i, hash := range []string{secret, other, secret, secret} {
			r.publishUsers(pod, "basic", users("alice:"+hash))
			right, wrong := "alice:secret", "alice:other"
			if hash == other {
				right, wrong = wrong, right
			}
			for range 2 {
				if status := statusOf(t, c, base+"/", "Authorization", basicField(right)); status != 200 {
					t.Errorf("table %d: %s: %d", i, right, status)
				}
				want++
				for _, no := range []string{wrong, "mallory:secret", "alice:"} {
					if status := statusOf(t, c, base+"/", "Authorization", basicField(no)); status != 401 {
						t.Errorf("table %d: %s: %d", i, no, status)
					}
				}
				if status := statusOf(t, c, base+"/"); status != 401 {
					t.Errorf("table %d: without a password: %d", i, status)
				}
			}
		}
		if all.Load() != want || told.Load() != 0 {
			t.Errorf("the Pod got %d requests, want %d; %d with a password", all.Load(), want, told.Load())
		}
	})
}

// An upgrade passes the same checks (SECURITY.md B7).
func TestUpgradeWithoutPassword(t *testing.T) {
	r := newRig(t, proxy.Options{Policies: authPolicies()})
	r.publishUsers(echoPod(t), "basic", "alice:{PLAIN}secret")
	for field, want := range map[string]int{"": 401, "Authorization: " + basicField("alice:no") + "\r\n": 401, "Authorization: " + basicField("alice:secret") + "\r\n": 101} {
		c := dialRig(t, r)
		fmt.Fprintf(c.nc, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n%s\r\n", field)
		res, err := http.ReadResponse(c.br, nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%q: %d, want %d", field, res.StatusCode, want)
		}
	}
}

// A flood of wrong passwords is told to come later; who is known gets in meanwhile, and everyone after it.
func TestFloodOfPasswords(t *testing.T) {
	r := newRig(t, proxy.Options{Policies: authPolicies()})
	pod, _, _ := discreetPod(t)
	r.publishUsers(pod, "basic", "alice:$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.")
	right := basicField("alice:secret")
	if status := statusOf(t, r.client, "http://a.test/", "Authorization", right); status != 200 {
		t.Fatal(status)
	}
	var wrong, later atomic.Int64
	var all sync.WaitGroup
	const flood = 200
	start := make(chan struct{})
	for i := range flood {
		all.Go(func() {
			<-start
			q, err := http.NewRequest(http.MethodGet, "http://a.test/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			q.Header.Set("Authorization", basicField(fmt.Sprint("alice:guess", i)))
			res, err := r.client.Do(q)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			switch {
			case res.StatusCode == 401:
				wrong.Add(1)
			case res.StatusCode == 503 && res.Header.Get("Retry-After") != "":
				later.Add(1)
			default:
				t.Errorf("a guess: %d", res.StatusCode)
			}
		})
	}
	close(start)
	for range 20 {
		if status := statusOf(t, r.client, "http://a.test/", "Authorization", right); status != 200 {
			t.Errorf("who is known, in the flood: %d", status)
		}
	}
	all.Wait()
	t.Logf("%d wrong, %d later", wrong.Load(), later.Load())
	if wrong.Load()+later.Load() != flood || wrong.Load() == 0 {
		t.Errorf("%d wrong, %d later of %d", wrong.Load(), later.Load(), flood)
	}
	if status := statusOf(t, r.client, "http://a.test/", "Authorization", basicField("alice:guess")); status != 401 {
		t.Errorf("after the flood: %d", status)
	}
}

// digestClient answers the challenges of one user, as RFC 7616 says.
type digestClient struct {
	t     *testing.T
	http  *http.Client
	base  string
	nonce string
	nc    int
}

var nonceText = regexp.MustCompile(`^Digest realm="r", qop="auth", algorithm=MD5, nonce="([-_A-Za-z0-9]+)"(, stale=true)?$`)

// get sends a request with the present nonce and that count, and takes the next nonce from the challenge.
func (c *digestClient) get(uri, password string) (status int, stale bool) {
	c.t.Helper()
	q, err := http.NewRequest(http.MethodGet, c.base+uri, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.nonce != "" {
		h := func(text string) string { sum := md5.Sum([]byte(text)); return hex.EncodeToString(sum[:]) }
		nc := fmt.Sprintf("%08x", c.nc)
		response := h(strings.Join([]string{h("alice:r:" + password), c.nonce, nc, "c", "auth", h("GET:" + uri)}, ":"))
		q.Header.Set("Authorization", fmt.Sprintf(`Digest username="alice", realm="r", nonce="%s", uri="%s", nc=%s, cnonce="c", qop=auth, response="%s"`, c.nonce, uri, nc, response))
	}
	res, err := c.http.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode == 401 {
		found := nonceText.FindStringSubmatch(res.Header.Get("WWW-Authenticate"))
		if found == nil {
			c.t.Fatalf("challenge %q", res.Header["Www-Authenticate"])
		}
		c.nonce, stale = found[1], found[2] != ""
	}
	return res.StatusCode, stale
}

func TestDigestOverSockets(t *testing.T) {
	overClients(t, proxy.Options{Policies: authPolicies()}, func(t *testing.T, r *rig, client *http.Client, base string) {
		t.Helper()
		pod, all, told := discreetPod(t)
		sum := md5.Sum([]byte("alice:r:secret"))
		file := users("alice:r:" + hex.EncodeToString(sum[:]) + "\n")
		r.publishUsers(pod, "digest", file)
		c := &digestClient{t: t, http: client, base: base, nc: 1}
		step := func(what, uri, password string, nc, want int, wantStale bool) {
			t.Helper()
			c.nc = nc
			if status, stale := c.get(uri, password); status != want || stale != wantStale {
				t.Errorf("%s: %d, stale %v; want %d, %v", what, status, stale, want, wantStale)
			}
		}
		step("nothing", "/", "", 0, 401, false)
		step("the right password", "/a?b=c", "secret", 1, 200, false)
		step("the next count", "/d", "secret", 2, 200, false)
		r.publishUsers(pod, "digest", file)
		step("after a Publish", "/d", "secret", 3, 200, false)
		step("a count that was used", "/d", "secret", 3, 401, true)
		step("a new nonce", "/d", "secret", 1, 200, false)
		step("a wrong password", "/d", "guess", 2, 401, false)
		if all.Load() != 4 || told.Load() != 0 {
			t.Errorf("the Pod got %d requests, %d with the field", all.Load(), told.Load())
		}
	})
}
