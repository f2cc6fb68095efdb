package expr

// Variable is one variable, for the reference.
type Variable struct {
	// Name is what follows the $. One that ends in NAME stands for a family: http_NAME for $http_user_agent and all others.
	Name string
	// Doc is one sentence.
	Doc string
}

// familyEnd ends the names of families.
const familyEnd = "NAME"

// definition is a Variable with what it does.
type definition struct {
	Variable
	read reader
}

func define(name, doc string, read reader) definition { return definition{Variable{name, doc}, read} }

// Variables returns all variables, in the order of the reference.
func Variables() []Variable {
	list := make([]Variable, len(table))
	for i := range table {
		list[i] = table[i].Variable
	}
	return list
}

// byName finds those that are no families. It is never written after it is built.
var byName = func() map[string]*definition {
	m := make(map[string]*definition, len(table))
	for i := range table {
		m[table[i].Name] = &table[i]
	}
	return m
}()

// table holds every variable.
var table = []definition{
	define("request", "The request line: method, target as sent, and version.", request),
	define("request_method", "The method.", requestMethod),
	define("request_uri", "Path and query as the client sent them.", requestURI),
	define("escaped_request_uri", "$request_uri with all but letters, digits and -._~ percent-encoded, for use inside of a query.", escapedRequestURI),
	define("uri", "The path, decoded, without dot segments and repeated slashes; once a rewrite has changed it, the new path.", uri),
	define("document_uri", "The same as $uri.", uri),
	define("args", "The query without the question mark.", args),
	define("query_string", "The same as $args.", args),
	define("is_args", "A question mark if there is a query that is not empty, else nothing.", isArgs),
	define("arg_NAME", "The first parameter NAME of the query, in any case, as it was sent.", argument),
	define("host", "The host of the request in lower case, without port; the host of the rule where the request names none.", host),
	define("http_host", "The Host field as sent.", httpHost),
	define("best_http_host", "X-Forwarded-Host where a trusted proxy sent it, else $http_host.", bestHTTPHost),
	define("http_NAME", "The request's header field NAME, in lower case and with underscores for dashes, as the Pod gets it; repeated ones are joined.", requestField),
	define("cookie_NAME", "The cookie NAME, in any case.", cookie),
	define("scheme", "https where the connection is encrypted, else http.", scheme),
	define("pass_access_scheme", "The scheme that the client used: what a trusted proxy says of it, else $scheme.", passScheme),
	define("https", "on where the connection is encrypted, else nothing.", https),
	define("http2", "h2 for HTTP/2 over TLS, h2c for HTTP/2 in clear, else nothing.", http2),
	define("server_protocol", "HTTP/1.0, HTTP/1.1 or HTTP/2.0.", serverProtocol),
	define("server_name", "The host of the Ingress rule that matched, _ for a rule without a host.", serverName),
	define("server_addr", "The address at which the connection arrived.", serverAddr),
	define("server_port", "The port at which the connection arrived.", serverPort),
	define("pass_server_port", "The port that the client used: what a trusted proxy says of it, else the connection's.", passPort),
	define("pass_port", "The same as $pass_server_port.", passPort),
	define("content_type", "The request's Content-Type.", contentType),
	define("content_length", "The length of the request's body, where it is known before it is read.", contentLength),
	define("request_length", "The size of the request, head and body, about as the client sent it.", requestLength),
	define("request_id", "The value of X-Request-ID: the client's where it is usable, else one of 32 random hexadecimal digits.", requestID),
	define("req_id", "The same as $request_id.", requestID),
	define("opentelemetry_trace_id", "The ID of the trace that the request is a part of, where it is in one.", traceID),
	define("opentelemetry_span_id", "The ID of the request's span in it.", spanID),
	define("opentelemetry_context_traceparent", "Both, as traceparent (W3C Trace Context) tells them.", traceParent),

	define("remote_addr", "The client's address: what a trusted proxy says of it, else the connection's.", remoteAddr),
	define("the_real_ip", "The same as $remote_addr.", remoteAddr),
	define("binary_remote_addr", "$remote_addr as 4 or 16 bytes, for keys.", binaryRemoteAddr),
	define("remote_port", "The port of the connection's other end, or what the PROXY protocol says of it.", peerPort),
	define("remote_user", "The user name of basic authentication, never the password.", remoteUser),
	define("realip_remote_addr", "The address of the connection's other end, or what the PROXY protocol says of it.", peerAddr),
	define("realip_remote_port", "The same as $remote_port.", peerPort),
	define("proxy_protocol_port", "The same as $remote_port.", peerPort),
	define("connection", "The number of the connection, of all that this process took.", connection),
	define("connection_requests", "How many requests came over the connection, with this one.", connectionRequests),
	define("proxy_protocol_addr", "The same as $realip_remote_addr, without the PROXY protocol too.", peerAddr),
	define("proxy_add_x_forwarded_for", "X-Forwarded-For as the Pod gets it.", forwardedFor),

	define("ssl_protocol", "The version of TLS, as in TLSv1.3.", sslProtocol),
	define("ssl_cipher", "The cipher suite by OpenSSL's name, as in ECDHE-RSA-AES128-GCM-SHA256.", sslCipher),
	define("ssl_session_reused", "r where the handshake resumed a session, else a dot.", sslSessionReused),
	define("ssl_early_data", "Nothing: early data of TLS 1.3 is not taken.", never),
	define("ssl_server_name", "The server name of the TLS handshake.", sslServerName),
	define("ssl_client_verify", "NONE, SUCCESS, or FAILED: and why, of the client's certificate under the rules of the host.", sslClientVerify),
	define("ssl_client_s_dn", "The subject of the client's certificate (RFC 2253).", sslClientSubject),
	define("ssl_client_i_dn", "The issuer of the client's certificate (RFC 2253).", sslClientIssuer),
	define("ssl_client_serial", "The serial number of the client's certificate, in hexadecimal digits.", sslClientSerial),
	define("ssl_client_fingerprint", "The SHA-1 of the client's certificate, in hexadecimal digits.", sslClientFingerprint),

	define("namespace", "The namespace of the Ingress that matched.", namespace),
	define("ingress_name", "The name of the Ingress that matched.", ingressName),
	define("service_name", "The name of the Service that the Ingress names.", serviceName),
	define("service_port", "That Service's port as the Ingress names it, by name or number.", servicePort),
	define("location_path", "The path of the rule that matched, as written.", locationPath),
	define("proxy_upstream_name", "Namespace, name and port of the Service that the Ingress names, joined by dashes.", upstreamName),
	define("proxy_alternative_upstream_name", "The same of the canary's Service, where the request went there.", alternativeName),

	define("status", "The status of the response.", status),
	define("body_bytes_sent", "The number of bytes of the response's body.", bodyBytesSent),
	define("bytes_sent", "The size of the response, body and head, the head as HTTP/1.1 writes it.", bytesSent),
	define("sent_http_NAME", "The response's header field NAME, written as with $http_NAME.", responseField),
	define("upstream_addr", "Address and port of the Pods that were tried, with commas between them; of the last, where there is no access log.", upstreamAddr),
	define("upstream_status", "The status of each try, 502 or 504 where it had no answer.", upstreamStatus),
	define("upstream_response_time", "Seconds that each try took, until the end of the response.", upstreamTime),
	define("upstream_header_time", "Seconds to the first byte of the response, of each try.", upstreamHeaderTime),
	define("upstream_connect_time", "Seconds that connecting took, 0 over a connection that was there, of each try.", upstreamConnectTime),
	define("upstream_response_length", "The number of bytes of the body that came from the Pod.", upstreamLength),
	define("upstream_cache_status", "Nothing: answers are not cached.", never),
	define("upstream_http_NAME", "The header field NAME of the Pod's response, written as with $http_NAME.", upstreamField),

	define("request_completion", "OK once the client has its answer to the end, else nothing.", requestCompletion),
	define("request_time", "Seconds since the start of the request, with milliseconds.", requestTime),
	define("time_iso8601", "The time, as in 2026-11-22T13:45:10+00:00.", timeISO8601),
	define("time_local", "The time, as in 22/Nov/2026:13:45:10 +0000.", timeLocal),
	define("hostname", "The name of the host that Podlane runs on, which is that of its Pod.", hostname),
	define("pid", "The number of Podlane's process.", pid),
	define("msec", "The time in seconds since 1970, with milliseconds.", msec),
}
