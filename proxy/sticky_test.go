package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"podlane.dev/podlane/proxy"
)

// visitor is a client with a cookie jar of one.
type visitor struct {
	r      *rig
	cookie string // as it is sent
	set    int    // how often it was told
	last   *http.Cookie
}

// visit asks once and returns the body.
func (v *visitor) visit() (int, string) {
	v.r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://a.test/", nil)
	if err != nil {
		v.r.t.Fatal(err)
	}
	if v.cookie != "" {
		req.Header.Set("Cookie", "other=1; "+v.cookie)
	}
	res, err := v.r.client.Do(req)
	if err != nil {
		v.r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.r.t.Fatal(err)
	}
	for _, c := range res.Cookies() {
		if c.Name == "INGRESSCOOKIE" {
			v.cookie, v.last = c.Name+"="+c.Value, c
			v.set++
		}
	}
	return res.StatusCode, string(b)
}

// S13: clients have a Pod of their own each, in both modes, on every replica and whatever tables come and go; they are told once.
func TestClientsStay(t *testing.T) {
	pods := namedPods(t, 4)
	for _, mode := range []string{"balanced", "persistent"} {
		t.Run(mode, func(t *testing.T) {
			annotations := map[string]string{"affinity": "cookie", "affinity-mode": mode}
			r, replica := policyRig(t, proxy.Options{}), policyRig(t, proxy.Options{})
			r.routeSaying(annotations, pods...)
			replica.routeSaying(annotations, pods...)
			const clients = 40
			var all [clients]visitor
			var homes [clients]string
			used := map[string]bool{}
			for i := range all {
				v := &all[i]
				v.r = r
				_, homes[i] = v.visit()
				used[homes[i]] = true
				for k := range 4 {
					if v.r = r; k%2 == 1 {
						v.r = replica
					}
					if _, body := v.visit(); body != homes[i] {
						t.Errorf("client %d was with %s and is with %s", i, homes[i], body)
					}
				}
				if v.set != 1 || !v.last.HttpOnly || v.last.Secure || v.last.Path != "/" {
					t.Errorf("client %d was told %d times: %v", i, v.set, v.last)
				}
			}
			if len(used) != len(pods) {
				t.Errorf("%d clients have %d of %d Pods", clients, len(used), len(pods))
			}
			r.routeSaying(map[string]string{"affinity": "cookie", "affinity-mode": mode, "proxy-body-size": "2m"}, pods...)
			for i := range all {
				all[i].r = r
				if _, body := all[i].visit(); body != homes[i] {
					t.Errorf("another table moved client %d", i)
				}
			}
		})
	}
}

// When a Pod joins, persistent moves nobody and balanced a part; when one goes, its clients move alone and are told where persistent names it.
func TestClientsMoveOnlyIfTheyMust(t *testing.T) {
	pods := namedPods(t, 5)
	for _, mode := range []string{"balanced", "persistent"} {
		t.Run(mode, func(t *testing.T) {
			annotations := map[string]string{"affinity": "cookie", "affinity-mode": mode}
			r := policyRig(t, proxy.Options{})
			r.routeSaying(annotations, pods[:4]...)
			const clients = 60
			var all [clients]visitor
			var homes [clients]string
			for i := range all {
				all[i].r = r
				_, homes[i] = all[i].visit()
			}
			r.routeSaying(annotations, pods...)
			moved := 0
			for i := range all {
				switch _, body := all[i].visit(); {
				case body == homes[i]:
				case body != "4":
					t.Errorf("client %d moved from %s to %s, which was there before", i, homes[i], body)
				default:
					moved++
				}
			}
			if mode == "persistent" && moved > 0 || mode == "balanced" && (moved == 0 || moved > clients/2) {
				t.Errorf("%d of %d clients moved to the Pod that joined", moved, clients)
			}
			r.routeSaying(annotations, pods[1:4]...)
			for i := range all {
				before := all[i].set
				_, body := all[i].visit()
				if homes[i] != "0" && body != homes[i] || body == "0" {
					t.Errorf("client %d was with %s and is with %s", i, homes[i], body)
				}
				if told := all[i].set - before; mode == "persistent" && told == 1 != (homes[i] == "0") || mode == "balanced" && told != 0 {
					t.Errorf("client %d of %s was told %d times", i, homes[i], told)
				}
				if _, again := all[i].visit(); again != body {
					t.Errorf("client %d does not stay with %s", i, body)
				}
			}
		})
	}
}

// Where its Pod fails a client stays and fails, or moves and is told, as the route says; a client without a cookie is never left with a Pod that
// refuses.
func TestClientsWhosePodFails(t *testing.T) {
	for _, mode := range []string{"balanced", "persistent"} {
		for _, change := range []string{"false", "true"} {
			t.Run(mode+" "+change, func(t *testing.T) {
				annotations := map[string]string{"affinity": "cookie", "affinity-mode": mode, "session-cookie-change-on-failure": change}
				r := policyRig(t, proxy.Options{})
				good := namedPods(t, 1)[0]
				closed := closedPort(t)
				r.routeSaying(annotations, good, closed)
				for i := range 20 {
					v := visitor{r: r}
					if status, body := v.visit(); status != http.StatusOK || v.set != 1 {
						t.Fatalf("new client %d: %d %q, told %d times", i, status, body, v.set)
					}
					if status, _ := v.visit(); status != http.StatusOK || v.set != 1 {
						t.Errorf("client %d does not stay where it was sent: %d, told %d times", i, status, v.set)
					}
				}
				// A Pod that clients have, and that then dies without leaving the list.
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				dying := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Connection", "close")
					fmt.Fprint(w, "dying")
				}), ReadHeaderTimeout: time.Minute}
				go func() { _ = dying.Serve(l) }()
				r.routeSaying(annotations, good, l.Addr().String())
				v := visitor{r: r}
				for range 60 {
					v = visitor{r: r}
					if _, body := v.visit(); body == "dying" {
						break
					}
				}
				if _, body := v.visit(); body != "dying" {
					t.Fatalf("the client is with %q", body)
				}
				_ = dying.Close()
				_ = l.Close()
				before := v.set
				for range 3 {
					status, body := v.visit()
					if change == "false" && (status != http.StatusBadGateway || v.set != before) {
						t.Errorf("%d %q, told %d times: it should have stayed", status, body, v.set-before)
					}
					if change == "true" && (status != http.StatusOK || body != "0" || v.set != before+1) {
						t.Errorf("%d %q, told %d times: it should have moved", status, body, v.set-before)
					}
				}
			})
		}
	}
}

// A request that is sent again because of its answer is told the endpoint whose answer it gets; an upgraded connection has the cookie too.
func TestCookieOfRepeatedRequest(t *testing.T) {
	bad := script(t, status(503))
	pods := namedPods(t, 1)
	r := policyRig(t, proxy.Options{})
	r.routeSaying(map[string]string{"affinity": "cookie", "proxy-next-upstream": "http_503"}, bad.addr, pods[0])
	for range 20 {
		v := visitor{r: r}
		if status, body := v.visit(); status != http.StatusOK || body != "0" || v.set != 1 {
			t.Errorf("%d %q, told %d times", status, body, v.set)
		}
		before := bad.calls.Load()
		if _, body := v.visit(); body != "0" || bad.calls.Load() != before {
			t.Errorf("the cookie leads to the Pod whose answer was not wanted: %q", body)
		}
	}
	if bad.calls.Load() == 0 {
		t.Error("the bad Pod was never asked")
	}
	// Alone it gives the answer, and the cookie is its.
	r.routeSaying(map[string]string{"affinity": "cookie", "proxy-next-upstream": "http_503"}, bad.addr)
	v := visitor{r: r}
	if status, body := v.visit(); status != http.StatusServiceUnavailable || body != "503" || v.set != 1 {
		t.Errorf("%d %q, told %d times", status, body, v.set)
	}
}

// The date of a cookie is that of the answer and what the annotation says.
func TestCookieExpires(t *testing.T) {
	r := policyRig(t, proxy.Options{})
	r.routeSaying(map[string]string{"affinity": "cookie", "session-cookie-expires": "3600", "session-cookie-max-age": "60"}, namedPods(t, 1)...)
	v := visitor{r: r}
	before := time.Now()
	v.visit()
	if at := v.last.Expires; at.Before(before.Add(time.Hour-2*time.Second)) || at.After(time.Now().Add(time.Hour+2*time.Second)) || !strings.HasSuffix(v.last.RawExpires, " GMT") {
		t.Errorf("expires %v (%s), an hour after %v", at, v.last.RawExpires, before)
	}
	if v.last.MaxAge != 60 {
		t.Errorf("max-age %d", v.last.MaxAge)
	}
}
