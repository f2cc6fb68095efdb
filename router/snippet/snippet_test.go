package snippet_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"podlane.dev/podlane/router/snippet"
)

func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		text string
		want map[string]string
		left []string
	}{
		{"", nil, nil},
		{`more_set_headers "X-Frame-Options: DENY" 'X-A:  b c';`, map[string]string{"set-response-headers": "X-Frame-Options: DENY\nX-A: b c"}, nil},
		{"more_set_headers -s 404 \"X: y\";", nil, []string{"line 1: more_set_headers -s 404 X: y: only"}},
		{"# why\nadd_header X-A \"a;b\" always;\nadd_header X-B b;", map[string]string{"add-response-headers-always": "X-A: a;b", "add-response-headers": "X-B: b"}, nil},
		{"proxy_set_header X-User $remote_user;\nproxy_set_header Accept-Encoding \"\";", map[string]string{"set-request-headers": "X-User: $remote_user\nAccept-Encoding: "}, nil},
		{"return 301 https://new.example/;", map[string]string{"permanent-redirect": "https://new.example/"}, nil},
		{"return 308 https://new.example/;", map[string]string{"permanent-redirect": "https://new.example/", "permanent-redirect-code": "308"}, nil},
		{"return 307 https://new.example/;", map[string]string{"temporal-redirect": "https://new.example/", "temporal-redirect-code": "307"}, nil},
		{"return 301 https://new.example$request_uri;", nil, []string{"line 1: return 301"}},
		{"return 200 hello;", nil, []string{"line 1: return 200"}},
		{"return 403;", map[string]string{"denylist-source-range": "0.0.0.0/0,::/0"}, nil},
		{"deny 10.0.0.1; allow 10.0.0.0/8; allow ::1; deny all;", map[string]string{"denylist-source-range": "10.0.0.1", "whitelist-source-range": "10.0.0.0/8,::1"}, nil},
		{"deny 10.0.0.1;", map[string]string{"denylist-source-range": "10.0.0.1"}, nil},
		{"deny 10.0.0.1; allow all;", map[string]string{"denylist-source-range": "10.0.0.1"}, nil},
		{"allow 10.0.0.0/8; deny 10.0.0.1; deny all;", nil, []string{"line 1: deny 10.0.0.1"}},
		{"deny unix:;", nil, []string{"line 1: deny unix:"}},
		{"rewrite ^/$ /shop redirect;", map[string]string{"app-root": "/shop"}, nil},
		{"rewrite ^/old/(.*)$ /new/$1 permanent;", nil, []string{"line 1: rewrite"}},
		{"if ($host = a) {\n  return 403;\n}\nadd_header X y;", map[string]string{"add-response-headers": "X: y"}, []string{"line 1: if ($host = a) { … }: there is no"}},
		{"lua_need_request_body on;", nil, []string{"line 1: lua_need_request_body on: there is no"}},
		{"add_header X", nil, []string{"the text is no nginx configuration: line 1: it ends"}},
		{"}", nil, []string{"too many"}},
		{"a { b; ", nil, []string{"it ends"}},
		{"a 'b;", nil, []string{"not closed"}},
		{";", nil, []string{"without a name"}},
	} {
		got := snippet.Translate(c.text)
		if !maps.Equal(got.Annotations, c.want) {
			t.Errorf("%q gives %q, want %q", c.text, got.Annotations, c.want)
		}
		if len(got.Left) != len(c.left) {
			t.Errorf("%q leaves %q, want %q", c.text, got.Left, c.left)
			continue
		}
		for i, want := range c.left {
			if !strings.Contains(got.Left[i], want) {
				t.Errorf("%q leaves %q, want %q", c.text, got.Left[i], want)
			}
		}
	}
}

// FuzzTranslate: whatever the text, each directive is either translated or told of, and no annotation has a line that was not there.
func FuzzTranslate(f *testing.F) {
	f.Add("more_set_headers \"A: b\"; deny all; if ($x) { return 403; }")
	f.Add("a {{ b; }} 'c\\'' \"\n\";")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := snippet.Parse(text)
		got := snippet.Translate(text)
		switch {
		case err != nil && (len(got.Annotations) > 0 || len(got.Left) != 1):
			t.Fatalf("%q does not parse (%v) and gives %v", text, err, got)
		case err == nil && len(list) > 0 && len(got.Annotations)+len(got.Left) == 0 && !strings.Contains(fmt.Sprint(list), "all"):
			t.Fatalf("%q has %v, of which nothing is told", text, list)
		}
	})
}
