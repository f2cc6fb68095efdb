{{/* The chart's name, at most 63 characters as Kubernetes asks for labels. */}}
{{- define "podlane.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of every object: the release's, joined with the chart's unless it says it already. */}}
{{- define "podlane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "podlane.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "podlane.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* The labels that selectors use. They must never change in the life of a release. */}}
{{- define "podlane.selectorLabels" -}}
app.kubernetes.io/name: {{ include "podlane.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "podlane.labels" -}}
{{ include "podlane.selectorLabels" . }}
app.kubernetes.io/part-of: {{ include "podlane.name" . | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The Pods' own labels. They leave out the chart's version, so that an upgrade that changes no Pod replaces none. */}}
{{- define "podlane.podLabels" -}}
{{ include "podlane.selectorLabels" . }}
app.kubernetes.io/part-of: {{ include "podlane.name" . | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .Values.controller.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "podlane.image" -}}
{{- $shared := ((.Values.global | default dict).image | default dict).registry -}}
{{- with .Values.controller.image -}}
{{- $name := .repository | default (printf "%s/%s" ($shared | default .registry) .image) -}}
{{- if .digest -}}
{{- printf "%s@%s" $name .digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "podlane.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "podlane.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "podlane.electionID" -}}
{{- .Values.controller.electionID | default (printf "%s-leader" (include "podlane.fullname" .)) -}}
{{- end -}}

{{/* The namespaces that are watched, with commas; empty means all. */}}
{{- define "podlane.watchNamespaces" -}}
{{- with .Values.controller.scope -}}
{{- if .enabled -}}
{{- if and .namespace .namespaces -}}
{{- fail "controller.scope.namespace: set this or controller.scope.namespaces" -}}
{{- end -}}
{{- join "," (.namespaces | default (list (.namespace | default (include "podlane.namespace" $)))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of the ConfigMap with the headers of addHeaders or proxySetHeaders. */}}
{{- define "podlane.headersName" -}}
{{- printf "%s-%s" (include "podlane.fullname" (index . 0) | trunc 45 | trimSuffix "-") (kebabcase (index . 1)) -}}
{{- end -}}

{{/* "true" where the namespace of the release is not among those that are watched. */}}
{{- define "podlane.outside" -}}
{{- with include "podlane.watchNamespaces" . -}}
{{- if not (has (include "podlane.namespace" $) (splitList "," .)) -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Service that answers requests without a route, as namespace/name. */}}
{{- define "podlane.defaultBackend" -}}
{{- with .Values.controller.defaultBackendService -}}
{{- $where := first (splitList "/" .) -}}
{{- with include "podlane.watchNamespaces" $ -}}
{{- if not (has $where (append (splitList "," .) (include "podlane.namespace" $))) -}}
{{- fail (printf "controller.defaultBackendService: with controller.scope it must be in the release's namespace or in one that is watched; %s is neither" $where) -}}
{{- end -}}
{{- end -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* The Service whose address goes into Ingress status, as namespace/name; empty means the nodes' addresses. */}}
{{- define "podlane.publishService" -}}
{{- with .Values.controller.publishService -}}
{{- if and .enabled .pathOverride -}}
{{- $where := first (splitList "/" .pathOverride) -}}
{{- with include "podlane.watchNamespaces" $ -}}
{{- if not (has $where (append (splitList "," .) (include "podlane.namespace" $))) -}}
{{- fail (printf "controller.publishService.pathOverride: with controller.scope the Service must be in the release's namespace or in one that is watched; %s is neither" $where) -}}
{{- end -}}
{{- end -}}
{{- .pathOverride -}}
{{- else if and .enabled (include "podlane.serviceName" $) -}}
{{- printf "$(POD_NAMESPACE)/%s" (include "podlane.serviceName" $) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
"true" where status has to list the nodes: it is written, and there is neither a Service to publish nor a fixed address.
Reading nodes and Pods is then, and only then, part of the RBAC rules.
*/}}
{{- define "podlane.publishNodes" -}}
{{- $args := .Values.controller.extraArgs -}}
{{- $written := ne (toString (get $args "update-status")) "false" -}}
{{- if and $written (not (include "podlane.publishService" .)) (not (hasKey $args "publish-status-address")) -}}
true
{{- end -}}
{{- end -}}

{{/* The ranges of the load balancers that speak the PROXY protocol. Nobody is believed by default, so that they must be named. */}}
{{- define "podlane.proxyProtocolTrusted" -}}
{{- with .Values.controller.proxyProtocol -}}
{{- if and .enabled (not .trusted) (not (hasKey $.Values.controller.extraArgs "trusted-proxies")) -}}
{{- fail "controller.proxyProtocol.trusted: name the address ranges of the load balancers, as the Pods see them (with many clouds those of the nodes); whoever connects from there says which address a client has" -}}
{{- end -}}
{{- join "," .trusted -}}
{{- end -}}
{{- end -}}

{{/* "true" where Podlane reads its sibling Pods: for the nodes' addresses, or to know whether it is the last one. */}}
{{- define "podlane.readsPods" -}}
{{- if or (include "podlane.publishNodes" .) (eq (toString (get .Values.controller.extraArgs "update-status-on-shutdown")) "true") -}}
true
{{- end -}}
{{- end -}}

{{/* "true" where there is a ClusterRole: always but with rbac.scope, for users who may not make one. */}}
{{- define "podlane.clusterRole" -}}
{{- if and .Values.rbac.scope (not .Values.controller.scope.enabled) -}}
{{- fail "rbac.scope: set controller.scope.enabled too; all namespaces cannot be watched without a ClusterRole" -}}
{{- end -}}
{{- if and .Values.rbac.scope (include "podlane.publishNodes" .) -}}
{{- fail "rbac.scope: nodes cannot be read without a ClusterRole; enable controller.service or set controller.extraArgs.publish-status-address" -}}
{{- end -}}
{{- if and .Values.rbac.create (not .Values.rbac.scope) -}}
true
{{- end -}}
{{- end -}}

{{/* A scalar as text. Numbers of a values file are floats here: 1000000 must not become 1e+06. */}}
{{- define "podlane.scalar" -}}
{{- if kindIs "float64" . -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{/*
The arguments of the container. The chart's own come first, extraArgs may add to them and change them, and each flag
appears once: of two, the binary would obey the last without a word. Flags that another value decides, because ports,
probes, RBAC or the grace period depend on it, are refused.
*/}}
{{- define "podlane.args" -}}
{{- $c := .Values.controller -}}
{{- $owned := dict
  "http-address" "controller.containerPort.http"
  "https-address" "controller.containerPort.https"
  "metrics-address" "controller.metrics.port"
  "admin-address" "controller.admin.port"
  "ingress-class" "controller.ingressClass"
  "controller-class" "controller.ingressClassResource.controllerValue"
  "election-id" "controller.electionID"
  "configmap" "controller.config"
  "publish-service" "controller.publishService"
  "publish-node-addresses" "controller.publishService"
  "report-node-internal-ip-address" "controller.reportNodeInternalIp"
  "watch-namespace" "controller.scope"
  "ingress-class-by-name" "controller.ingressClassByName"
  "disable-leader-election" "controller.disableLeaderElection"
  "election-ttl" "controller.electionTTL"
  "default-backend-service" "controller.defaultBackendService"
  "drain-delay" "controller.drainDelaySeconds"
  "shutdown-timeout" "controller.shutdownTimeoutSeconds"
  "use-proxy-protocol" "controller.proxyProtocol.enabled"
  "proxy-protocol-trusted" "controller.proxyProtocol.trusted"
  "watch-ingress-without-class" "controller.watchIngressWithoutClass" -}}
{{- range $flag, $value := $owned -}}
{{- if hasKey $c.extraArgs $flag -}}
{{- fail (printf "controller.extraArgs.%s: set %s instead" $flag $value) -}}
{{- end -}}
{{- end -}}
{{- $args := dict
  "http-address" (printf ":%d" (int $c.containerPort.http))
  "https-address" (printf ":%d" (int $c.containerPort.https))
  "metrics-address" (printf ":%d" (int $c.metrics.port))
  "admin-address" (printf "127.0.0.1:%d" (int $c.admin.port))
  "ingress-class" $c.ingressClass
  "controller-class" $c.ingressClassResource.controllerValue
  "election-id" (include "podlane.electionID" .)
  "configmap" (printf "$(POD_NAMESPACE)/%s" (include "podlane.fullname" .))
  "drain-delay" (printf "%ds" (int $c.drainDelaySeconds))
  "shutdown-timeout" (printf "%ds" (int $c.shutdownTimeoutSeconds)) -}}
{{- if and $c.service.enabled $c.service.enableHttp -}}{{- $_ := set $args "public-http-port" $c.service.ports.http -}}{{- end -}}
{{- if and $c.service.enabled $c.service.enableHttps -}}{{- $_ := set $args "public-https-port" $c.service.ports.https -}}{{- end -}}
{{- with include "podlane.publishService" . -}}{{- $_ := set $args "publish-service" . -}}{{- end -}}
{{- if include "podlane.publishNodes" . -}}{{- $_ := set $args "publish-node-addresses" "true" -}}{{- end -}}
{{- if and (include "podlane.publishNodes" .) $c.reportNodeInternalIp -}}{{- $_ := set $args "report-node-internal-ip-address" "true" -}}{{- end -}}
{{- with include "podlane.watchNamespaces" . -}}{{- $_ := set $args "watch-namespace" . -}}{{- end -}}
{{- if $c.ingressClassByName -}}{{- $_ := set $args "ingress-class-by-name" "true" -}}{{- end -}}
{{- if $c.disableLeaderElection -}}{{- $_ := set $args "disable-leader-election" "true" -}}{{- end -}}
{{- with $c.electionTTL -}}{{- $_ := set $args "election-ttl" . -}}{{- end -}}
{{- with include "podlane.defaultBackend" . -}}{{- $_ := set $args "default-backend-service" . -}}{{- end -}}
{{- if $c.watchIngressWithoutClass -}}{{- $_ := set $args "watch-ingress-without-class" "true" -}}{{- end -}}
{{- if $c.proxyProtocol.enabled -}}
{{- $_ := set $args "use-proxy-protocol" "true" -}}
{{- with include "podlane.proxyProtocolTrusted" . -}}{{- $_ := set $args "proxy-protocol-trusted" . -}}{{- end -}}
{{- end -}}
{{- range $flag, $value := $c.extraArgs -}}{{- $_ := set $args $flag $value -}}{{- end -}}
- controller
{{- range $flag, $value := $args }}
{{- $text := include "podlane.scalar" $value }}
- {{ if $text }}{{ printf "--%s=%s" $flag $text | quote }}{{ else }}{{ printf "--%s" $flag | quote }}{{ end }}
{{- end }}
{{- end -}}

{{/* What Podlane reads and writes in the namespaces that it watches: a ClusterRole's rules, or with scope a Role's. */}}
{{- define "podlane.namespacedRules" -}}
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [services, endpoints, secrets, configmaps]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What a ServiceMonitor and a PodMonitor say about each scrape. */}}
{{- define "podlane.scrape" -}}
path: /metrics
{{- with .scrapeInterval }}
interval: {{ quote . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ quote . }}
{{- end }}
honorLabels: {{ .honorLabels }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What they say about what a scrape may bring. */}}
{{- define "podlane.scrapeLimits" -}}
sampleLimit: {{ int .sampleLimit }}
{{- end -}}

{{/* What is to be said where the PodDisruptionBudget lets no Pod go, "" where it lets one. */}}
{{- define "podlane.stuckDrains" -}}
{{- $c := .Values.controller -}}
{{- $replicas := $c.replicaCount -}}
{{- if $c.autoscaling.enabled -}}{{- $replicas = $c.autoscaling.minReplicas -}}{{- end -}}
{{- if and (eq $c.kind "Deployment") (gt (int $replicas) 1) -}}
{{- $most := toString $c.maxUnavailable -}}
{{- $least := toString $c.minAvailable -}}
{{- if or (has $most (list "0" "0%")) (and (eq $most "") (or (eq $least "100%") (and (not (hasSuffix "%" $least)) (ge (int $least) (int $replicas))))) -}}
{{- $given := printf "controller.minAvailable is %s of %d replicas" $least (int $replicas) -}}
{{- if $most -}}{{- $given = printf "controller.maxUnavailable is %s" $most -}}{{- end -}}
{{ $given }}: no Pod may be evicted then, and `kubectl drain` of a node with one of them waits for ever.
{{- end -}}
{{- end -}}
{{- end -}}
