package expr_test

import (
	"strings"
	"testing"

	"podlane.dev/podlane/proxy/exchange"
	"podlane.dev/podlane/proxy/expr"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"$":                                 "a $ that no name follows: write a variable such as $request_uri",
		"a$-b":                              "a $ that no name follows",
		"$$host":                            "a $ that no name follows",
		"${host":                            "a ${ that no } closes",
		"${":                                "a ${ that no } closes",
		"${}":                               "a ${ without a name",
		"${ho st}":                          "a ${ without a name",
		"/x/$1":                             "$1: captures of a regular expression are no variables here: write a variable such as $request_uri",
		"$10":                               "$10: captures",
		"${2}":                              "$2: captures",
		"$requst_uri":                       "no variable $requst_uri: write $request_uri if that is meant",
		"$http_":                            "no variable $http_:",
		"$geoip2_city":                      "no variable $geoip2_city: write one of those in ANNOTATIONS.md",
		"$cookie":                           "no variable $cookie:",
		"a\r\nb":                            "control character",
		"a\x00":                             "control character",
		"a\x7f":                             "control character",
		strings.Repeat("a", expr.MaxText+1): "at most 8192 bytes",
		strings.Repeat("$uri", expr.MaxVariables+1):          "at most 128",
		"$" + strings.Repeat("x", expr.MaxText-1):            "xxx...: write one of those in ANNOTATIONS.md",
		"$http_host $" + strings.Repeat("9", expr.MaxText/2): "999...: captures",
	}
	for text, want := range tests {
		e, err := expr.Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || e != nil {
			t.Errorf("%.40q: %v, want %q", text, err, want)
			continue
		}
		if len(err.Error()) > 250 {
			t.Errorf("%.40q: a message of %d bytes", text, len(err.Error()))
		}
	}
	if _, err := expr.ParseLog("a\x00"); err == nil {
		t.Error("a log format with NUL is accepted")
	}
}

func TestConstant(t *testing.T) {
	t.Parallel()
	for text, constant := range map[string]bool{
		"": true, "abc": true, "https://a.example/x?y={z}": true, "$host": false, "a$host": false, "${host}b": false,
	} {
		e := parse(t, text)
		got, ok := e.Constant()
		if ok != constant || ok && got != text {
			t.Errorf("%q: %q, %v", text, got, ok)
		}
		if e.String() != text {
			t.Errorf("%q: String is %q", text, e)
		}
		if value := string(e.Append(nil, exchange.New())); ok && value != text {
			t.Errorf("%q gives %q", text, value)
		}
	}
	var zero expr.Expr
	if text, ok := zero.Constant(); !ok || text != "" || zero.String() != "" || len(zero.Append(nil, exchange.New())) != 0 {
		t.Error("the zero Expr is not the empty text")
	}
}

func TestParseLog(t *testing.T) {
	t.Parallel()
	x := get(t, "/p")
	for text, want := range map[string]string{
		`{"u":"$uri"}`:          `{"u":"/p"}`,
		`a\tb\n\"$uri\"`:        "a\tb\n\"/p\"",
		`\\n $uri\'`:            `\n /p'`,
		`\x\$uri`:               `\x\/p`,
		"two\nlines\tof $uri\n": "two\nlines\tof /p\n",
	} {
		e, err := expr.ParseLog(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := string(e.AppendEscaped(nil, x, expr.EscapeJSON)); got != want || e.String() != text {
			t.Errorf("%q gives %q, want %q; String is %q", text, got, want, e)
		}
	}
}

// TestNoCredentialsInLogs is SECURITY.md's C10: what a client proves its identity with is in no log, by whatever name it is asked for.
func TestNoCredentialsInLogs(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{
		"http_authorization", "http_proxy_authorization", "http_cookie", "HTTP_Cookie", "cookie_session", "Cookie_a", "sent_http_set_cookie", "upstream_http_set_cookie",
	} {
		_, err := expr.ParseLog("$host ${" + variable + "}")
		if err == nil || !strings.Contains(err.Error(), "$"+variable+" holds what a client proves its identity with") {
			t.Errorf("$%s: %v", variable, err)
		}
		parse(t, "$"+variable) // a key of a cache may need it
	}
	if _, err := expr.ParseLog("$arg_cookie $http_x_cookie $host"); err != nil {
		t.Error(err)
	}
	x := get(t, "/", "Authorization: Basic YWxpY2U6czNjcmV0", "Cookie: session=s3cret")
	for _, v := range expr.Variables() {
		e, err := expr.ParseLog("$" + strings.Replace(v.Name, "NAME", "session", 1))
		if err != nil {
			continue
		}
		if line := string(e.AppendEscaped(nil, x, expr.EscapeNone)); strings.Contains(line, "s3cret") {
			t.Errorf("$%s: %s", v.Name, line)
		}
	}
}
