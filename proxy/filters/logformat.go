package filters

import (
	"errors"
	"fmt"

	"podlane.dev/podlane/proxy/expr"
	"podlane.dev/podlane/router/policy"
)

// LogFormat is how the lines of the access log are written.
type LogFormat struct {
	Line   *expr.Expr
	Escape expr.Escape
}

// String returns f for the text of a Table. f may be nil.
func (f *LogFormat) String() string {
	if f == nil {
		return "JSON"
	}
	return fmt.Sprintf("%q escaped %d", f.Line.String(), f.Escape)
}

// AccessLogFormat returns the family of how the lines of the access log are written.
func AccessLogFormat() Policy {
	return &Of[*LogFormat]{
		Of: policy.Of[*LogFormat]{
			Name: "access-log-format",
			Doc:  "How the lines of the access log are written, where there is one. What is said holds for requests from then on.",
			Keys: []policy.Key{
				{
					Name: "log-format-upstream", Kind: policy.String, Where: policy.ConfigMap, Default: "lines of JSON",
					Example: `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_length $request_time ` +
						`[$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id`,
					Doc: "A line with variables of nginx.",
					Differs: "the default is Podlane's own; variables that hold what clients prove themselves with ($http_authorization, cookies) are refused; " +
						"$http_NAME is what the Pod gets; a line has 64 KiB at most; --access-log-drop-query does not change it",
				},
				{
					Name: "log-format-escape-json", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "true",
					Doc: "Escapes values for strings of JSON, instead of as nginx does it by default.",
				},
				{
					Name: "log-format-escape-none", Kind: policy.Bool, Where: policy.ConfigMap, Default: "false", Example: "false",
					Doc:     "Does not escape values.",
					Differs: "control characters are written as %XX: no value begins another line",
				},
			},
			IfInvalid: policy.Ignore,
			Global:    true,
			Parse:     parseLogFormat,
		},
		Global: func(s *Settings, f *LogFormat) { s.LogFormat = f },
	}
}

func parseLogFormat(v policy.Values) (*LogFormat, error) {
	json, err1 := v.Bool("log-format-escape-json", false)
	none, err2 := v.Bool("log-format-escape-none", false)
	text := v.Text("log-format-upstream", "")
	line, err3 := expr.ParseLog(text)
	if err3 != nil {
		err3 = fmt.Errorf("log-format-upstream: %w", err3)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	if text == "" {
		return nil, nil //nolint:nilnil // nothing is said
	}
	f := &LogFormat{Line: line, Escape: expr.EscapeLog}
	switch {
	case none:
		f.Escape = expr.EscapeText
	case json:
		f.Escape = expr.EscapeJSON
	}
	return f, nil
}
