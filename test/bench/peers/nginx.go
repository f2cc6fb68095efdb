package peers

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// nginxText is what a Kubernetes ingress controller based on nginx generates for one Ingress, with keep-alive to the Pods. Beyond
// nginx's defaults: connections enough; accepting all that wait at once; request bodies that stream, through a buffer of 256 KiB,
// which makes uploads a third cheaper than 64 KiB or 1 MiB; buffers that hold a whole large answer, so that none is written to a
// file; and a buffered access log. WebSocket has a location of its own, so that other requests pay nothing for it.
const nginxText = `daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid DIR/nginx.pid;
error_log DIR/error.log error;
events {
	worker_connections 16000;
	multi_accept on;
}
http {
	log_format full '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
		'$request_length $request_time [$proxy_host] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $request_id';
	access_log LOG;
	keepalive_timeout 75s;
	keepalive_requests 10000;
CERTIFICATE	client_max_body_size 16m;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	upstream pods {
		zone pods 256k;
		random two least_conn;
SERVERS		keepalive 1024;
		keepalive_requests 10000;
		keepalive_timeout 55s;
	}
	server {
		listen ADDRESS default_server backlog=4096LISTEN;
		return 404;
	}
	server {
		listen ADDRESSLISTEN;
		server_name HOST;
		proxy_http_version 1.1;
		proxy_connect_timeout 5s;
		proxy_read_timeout 60s;
		proxy_send_timeout 60s;
		proxy_request_buffering off;
		proxy_buffering on;
		proxy_buffers 16 8k;
		client_body_buffer_size 256k;
		location / {
			proxy_set_header Connection "";
HEADERS			proxy_pass http://pods;
		}
		location /w/ {
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection upgrade;
HEADERS			proxy_pass http://pods;
		}
	}
}
`

// nginxTLS is what that controller sets by default.
const nginxTLS = `	ssl_protocols TLSv1.2 TLSv1.3;
	ssl_session_cache shared:SSL:10m;
	ssl_session_timeout 10m;
	ssl_session_tickets off;
	ssl_buffer_size 4k;
`

const nginxHeaders = `			proxy_set_header Host $host;
			proxy_set_header X-Real-IP $remote_addr;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_set_header X-Forwarded-Host $host;
			proxy_set_header X-Forwarded-Port $server_port;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header X-Request-ID $request_id;
`

// NGINX is nginx with one worker.
func NGINX() Peer {
	return Peer{Name: "nginx", Program: "nginx", Package: "nginx-light", Version: []string{"-v"}, Launch: launchNGINX}
}

func launchNGINX(s Site) Launch {
	log := "off"
	if s.AccessLog != "" {
		log = s.AccessLog + " full buffer=64k flush=1s"
	}
	servers := lines(s.Backends, func(_ int, b netip.AddrPort) string {
		return fmt.Sprintf("\t\tserver %s max_fails=1 fail_timeout=10s;\n", b)
	})
	listen, certificate := "", ""
	switch s.Mode {
	case TLS:
		listen = " ssl"
	case H2:
		listen = " ssl http2" // newer ones would have a line of its own for http2, and take this
	}
	if s.Mode != Plain {
		certificate = "\tssl_certificate " + s.file(chainFile) + ";\n\tssl_certificate_key " + s.file(keyFile) + ";\n" + nginxTLS
	}
	return Launch{
		Files: s.withCertificate(map[string]string{"nginx.conf": render(nginxText, "LISTEN", listen, "CERTIFICATE", certificate,
			"HEADERS", nginxHeaders, "DIR", s.Dir, "LOG", log, "SERVERS", servers, "ADDRESS", s.Address.String(), "HOST", Host)}),
		// -e is where errors go until the file has been read: without it, to a folder of Debian's.
		Args: []string{"-e", filepath.Join(s.Dir, "error.log"), "-p", s.Dir, "-c", filepath.Join(s.Dir, "nginx.conf")},
	}
}
