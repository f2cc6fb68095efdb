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
	client_max_body_size 16m;
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
		listen ADDRESS default_server backlog=4096;
		return 404;
	}
	server {
		listen ADDRESS;
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
	return Launch{
		Files: map[string]string{"nginx.conf": render(nginxText,
			"HEADERS", nginxHeaders, "DIR", s.Dir, "LOG", log, "SERVERS", servers, "ADDRESS", s.Address.String(), "HOST", Host)},
		// -e is where errors go until the file has been read: without it, to a folder of Debian's.
		Args: []string{"-e", filepath.Join(s.Dir, "error.log"), "-p", s.Dir, "-c", filepath.Join(s.Dir, "nginx.conf")},
	}
}
