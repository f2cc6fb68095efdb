package install

// shop is what the user has: objects as they are written for ingress-nginx. %s are the certificate and its key.
const shop = `---
apiVersion: v1
kind: Secret
metadata: {name: shop-tls}
type: kubernetes.io/tls
stringData:
  tls.crt: %s
  tls.key: %s
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations:
    nginx.ingress.kubernetes.io/proxy-body-size: 8m
    nginx.ingress.kubernetes.io/proxy-send-timeout: soon
    nginx.ingress.kubernetes.io/proxy-read-timeout: "30"
spec:
  ingressClassName: nginx
  tls: [{hosts: [shop.example.com], secretName: shop-tls}]
  rules:
    - host: shop.example.com
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
          - {path: /shop/, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: registry.example.com/goweb:v1
          readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
`

// oldController has the names of ingress-nginx's own manifests. %s is the file of its configuration.
const oldController = `
apiVersion: v1
kind: Namespace
metadata: {name: ingress-nginx}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
data: {hide-headers: X-Powered-By, worker-processes: "4"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
spec:
  replicas: 1
  selector: {matchLabels: {app: ingress-nginx}}
  template:
    metadata: {labels: {app: ingress-nginx}}
    spec:
      containers:
        - name: controller
          image: registry.example.com/nginx:v1
          args: ["-c", "%s"]
          readinessProbe: {tcpSocket: {port: 443}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
spec:
  type: LoadBalancer
  selector: {app: ingress-nginx}
  ports: [{name: http, port: 80}, {name: https, port: 443}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ingress-nginx-admission}
webhooks:
  - name: validate.nginx.ingress.kubernetes.io
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Ignore
    timeoutSeconds: 1
    clientConfig: {service: {namespace: ingress-nginx, name: ingress-nginx-controller-admission, path: /networking/v1/ingresses}}
    rules: [{apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [ingresses]}]
`

// nginxText is what ingress-nginx would write for the shop, as far as its clients see it.
const nginxText = `daemon off;
master_process off;
pid DIR/pid;
error_log stderr;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	server_tokens off;
	server {
		listen 80;
		listen 443 ssl http2;
		ssl_certificate DIR/tls.crt;
		ssl_certificate_key DIR/tls.key;
		location / {
			if ($scheme = http) { return 308 https://$host$request_uri; }
			client_max_body_size 8m;
			proxy_http_version 1.1;
			proxy_set_header Host $host;
			proxy_set_header Connection "";
			proxy_pass http://POD:8000;
			add_header Strict-Transport-Security "max-age=31536000; includeSubDomains" always;
		}
	}
}
`

// account is the namespace and the service account of the release, with the marks by which Helm knows its own.
const account = `
apiVersion: v1
kind: Namespace
metadata: {name: podlane}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: podlane
  namespace: podlane
  labels: {app.kubernetes.io/managed-by: Helm}
  annotations: {meta.helm.sh/release-name: podlane, meta.helm.sh/release-namespace: podlane}
`
