package nginxcompat

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"podlane.dev/podlane/router/policy"
)

// TestExternalAuth compares with nginx's auth_request, configured as ingress-nginx's template does: what the service is asked, what the Pod and the client
// get, and what each of its answers means.
func TestExternalAuth(t *testing.T) {
	asked := make(chan string, 4)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked <- question(q)
		for _, h := range q.Header.Values("Auth-Header") {
			key, value, _ := strings.Cut(h, ":")
			w.Header().Add(key, strings.TrimSpace(value))
		}
		status := 200
		_, _ = fmt.Sscan(q.Header.Get("Auth-Status"), &status)
		w.WriteHeader(status)
	}))
	t.Cleanup(service.Close)
	const asks = `location = /_auth {
			internal;
			proxy_pass_request_body off;
			proxy_http_version 1.1;
			proxy_set_header Content-Length "";
			proxy_set_header Connection "";
			proxy_set_header Host 127.0.0.1;
			proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
			proxy_set_header X-Original-Method $request_method;
			proxy_set_header X-Sent-From nginx-ingress-controller;
			proxy_set_header X-Auth-Request-Redirect $request_uri;
			set $target SERVICE/verify;
			proxy_pass $target;
		}`
	const location = `auth_request /_auth;
			auth_request_set $auth_cookie $upstream_http_set_cookie;
			add_header Set-Cookie $auth_cookie;
			auth_request_set $user $upstream_http_x_user;
			proxy_set_header X-User $user;`
	signin := `location @signin { add_header Set-Cookie $auth_cookie; return 302 https://login.test/start?rd=$scheme://$http_host$request_uri; }`
	for name, s := range map[string]setup{
		"refused": {values: policy.Values{}, location: location},
		"sign in": {values: policy.Values{"auth-signin": "https://login.test/start?rd=$scheme://$http_host$request_uri"}, location: location + " error_page 401 = @signin;", server: signin},
	} {
		t.Run(name, func(t *testing.T) {
			s.values["auth-url"], s.values["auth-response-headers"] = service.URL+"/verify", "X-User"
			s.server += strings.ReplaceAll(asks, "SERVICE", service.URL)
			s.pod = "Content-Type: text/plain\r\n\r\nUSER"
			p := newPair(t, s)
			for _, status := range []int{200, 201, 204, 206, 301, 302, 400, 401, 403, 404, 500, 503} {
				p.same(t, get("/a%20b?c=d", fmt.Sprint("Auth-Status: ", status), "X-User: admin", "Cookie: a=1", "Auth-Header: X-User: alice",
					"Auth-Header: Set-Cookie: s=1; Path=/", `Auth-Header: WWW-Authenticate: Basic realm="x"`), "body", "Content-Type")
				if theirs, ours := <-asked, <-asked; theirs != ours {
					t.Errorf("nginx asks\n%s\nPodlane asks\n%s", theirs, ours)
				}
			}
			p.same(t, get("/", "X-User: admin"), "body", "Content-Type")
		})
	}
}

// TestSignIn: the way to where clients sign in is for every 401 of a location, that of a missing password too, as error_page has it.
func TestSignIn(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		status := 200
		_, _ = fmt.Sscan(q.Header.Get("Auth-Status"), &status)
		w.Header().Set("WWW-Authenticate", `Bearer realm="service"`)
		w.WriteHeader(status)
	}))
	t.Cleanup(service.Close)
	for _, satisfy := range []string{"all", "any"} {
		t.Run(satisfy, func(t *testing.T) {
			p := newPair(t, setup{
				users: passwordFile,
				values: policy.Values{
					"auth-url": service.URL, "auth-signin": "https://login.test/start?rd=$scheme://$http_host$request_uri",
					"auth-type": "basic", "auth-secret": "users", "auth-realm": "staff", "satisfy": satisfy,
				},
				server: "location = /_auth { internal; proxy_pass_request_body off; proxy_http_version 1.1; proxy_set_header Content-Length ''; proxy_set_header Connection ''; set $target " +
					service.URL + "; proxy_pass $target; } location @signin { return 302 https://login.test/start?rd=$scheme://$http_host$request_uri; }",
				location: `auth_request /_auth; auth_basic "staff"; auth_basic_user_file DIR/users; satisfy ` + satisfy + "; error_page 401 = @signin;",
			})
			for _, status := range []int{200, 401, 403, 500} {
				for _, user := range []string{"", "alice:wrong", "alice:secret"} {
					lines := []string{fmt.Sprint("Auth-Status: ", status)}
					if user != "" {
						lines = append(lines, "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte(user)))
					}
					except := []string{"body", "content-type"}
					if satisfy == "any" { // nginx sends the other challenge first, and with a 500 too
						except = append(except, "www-authenticate")
					}
					p.same(t, get("/x?y", lines...), except...)
				}
			}
		})
	}
}

// question is what a service is asked, without the fields that only Podlane always sets.
func question(q *http.Request) string {
	lines := []string{q.Method + " " + q.RequestURI + " of " + q.Host}
	for _, key := range slices.Sorted(maps.Keys(q.Header)) {
		switch {
		case strings.HasPrefix(key, "X-Forwarded-"), key == "X-Real-Ip", key == "X-Request-Id", key == "X-Scheme":
		default:
			lines = append(lines, fmt.Sprintf("%s: %q", key, q.Header[key]))
		}
	}
	return strings.Join(lines, "\n")
}
