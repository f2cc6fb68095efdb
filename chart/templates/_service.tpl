{{/* The name of the Service for clients inside. */}}
{{- define "podlane.internalName" -}}
{{- printf "%s-internal" (include "podlane.fullname" . | trunc 54 | trimSuffix "-") -}}
{{- end -}}

{{/* The name of the Service of this chart whose address Ingresses get: the one for clients outside, where there is one. */}}
{{- define "podlane.serviceName" -}}
{{- with .Values.controller.service -}}
{{- if and .enabled .external.enabled -}}
{{- include "podlane.fullname" $ -}}
{{- else if and .enabled .internal.enabled -}}
{{- include "podlane.internalName" $ -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of the Service whose address Ingresses get, whoever made it. */}}
{{- define "podlane.publishedName" -}}
{{- include "podlane.publishService" . | default (include "podlane.fullname" .) | splitList "/" | last -}}
{{- end -}}

{{/* Refuses Services that would not do what they seem to. */}}
{{- define "podlane.checkServices" -}}
{{- with .Values.controller.service -}}
{{- if not (or .enableHttp .enableHttps) -}}
{{- fail "controller.service: a Service needs a port; enable enableHttp or enableHttps, or set enabled: false" -}}
{{- end -}}
{{- $type := .internal.type | default .type -}}
{{- if and .internal.enabled (eq $type "LoadBalancer") (not (or .internal.annotations .internal.loadBalancerClass)) -}}
{{- fail "controller.service.internal.enabled: set internal.annotations or internal.loadBalancerClass to those that make your cloud's load balancer an internal one; without them it would be a second public one" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What a Service's specification has, whoever its clients are. Takes .root and .values, which has the keys of
controller.service. Fields that only another type may have would make the API server refuse it: they are left out.
*/}}
{{- define "podlane.serviceSpec" -}}
{{- $common := .root.Values.controller.service -}}
{{- with .values -}}
{{- $type := .type | default $common.type -}}
type: {{ $type }}
{{- with .clusterIP }}
clusterIP: {{ quote . }}
{{- end }}
{{- with .clusterIPs }}
clusterIPs:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .externalIPs }}
externalIPs:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if eq $type "LoadBalancer" }}
{{- with .loadBalancerIP }}
loadBalancerIP: {{ quote . }}
{{- end }}
{{- with .loadBalancerClass }}
loadBalancerClass: {{ quote . }}
{{- end }}
{{- with .loadBalancerSourceRanges }}
loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if not .allocateLoadBalancerNodePorts }}
allocateLoadBalancerNodePorts: false
{{- end }}
{{- end }}
{{- if ne $type "ClusterIP" }}
{{- with .externalTrafficPolicy }}
externalTrafficPolicy: {{ . }}
{{- end }}
{{- end }}
{{- with .internalTrafficPolicy }}
internalTrafficPolicy: {{ . }}
{{- end }}
{{- with .trafficDistribution }}
trafficDistribution: {{ . }}
{{- end }}
{{- with .sessionAffinity }}
sessionAffinity: {{ . }}
{{- end }}
{{- if and .healthCheckNodePort (eq $type "LoadBalancer") (eq .externalTrafficPolicy "Local") }}
healthCheckNodePort: {{ int .healthCheckNodePort }}
{{- end }}
{{- with .ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- if $common.enableHttp }}
  - name: http
    port: {{ int (.ports.http | default $common.ports.http) }}
    protocol: TCP
    targetPort: {{ include "podlane.scalar" (.targetPorts.http | default $common.targetPorts.http) }}
    {{- if .appProtocol }}
    appProtocol: http
    {{- end }}
    {{- if and .nodePorts.http (ne $type "ClusterIP") }}
    nodePort: {{ int .nodePorts.http }}
    {{- end }}
  {{- end }}
  {{- if $common.enableHttps }}
  - name: https
    port: {{ int (.ports.https | default $common.ports.https) }}
    protocol: TCP
    targetPort: {{ include "podlane.scalar" (.targetPorts.https | default $common.targetPorts.https) }}
    {{- if .appProtocol }}
    appProtocol: https
    {{- end }}
    {{- if and .nodePorts.https (ne $type "ClusterIP") }}
    nodePort: {{ int .nodePorts.https }}
    {{- end }}
  {{- end }}
{{- end }}
selector:
  {{- include "podlane.selectorLabels" .root | nindent 2 }}
{{- end -}}
