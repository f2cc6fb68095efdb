{{/*
"true" where the Pods have ports of their node: a new Pod cannot start beside an old one on the same node then.
*/}}
{{- define "podlane.hostPorts" -}}
{{- if or .Values.controller.hostNetwork .Values.controller.hostPort.enabled -}}
true
{{- end -}}
{{- end -}}

{{/*
How Pods are replaced. Where nothing is said the new Pod comes first; where both would want the same port of a node, the old
one goes first.
*/}}
{{- define "podlane.updateStrategy" -}}
{{- $c := .Values.controller -}}
{{- $given := $c.updateStrategy | default dict -}}
{{- $kinds := ternary (list "RollingUpdate" "OnDelete") (list "RollingUpdate" "Recreate") (eq $c.kind "DaemonSet") -}}
{{- if and $given.type (not (has $given.type $kinds)) -}}
{{- fail (printf "controller.updateStrategy.type is %s: a %s knows %s" $given.type $c.kind (join " and " $kinds)) -}}
{{- end -}}
{{- $rolling := $given.rollingUpdate | default dict -}}
{{- if and (include "podlane.hostPorts" .) (hasKey $rolling "maxSurge") (not (has (toString $rolling.maxSurge) (list "0" "0%"))) -}}
{{- fail (printf "controller.updateStrategy.rollingUpdate.maxSurge is %v: with hostPort or hostNetwork a new Pod cannot start beside an old one on its node; set it to 0, and maxUnavailable to 1 or more" $rolling.maxSurge) -}}
{{- end -}}
{{- if $rolling -}}
{{- toYaml $given -}}
{{- else if and $given.type (ne $given.type "RollingUpdate") -}}
type: {{ $given.type }}
{{- else if include "podlane.hostPorts" . -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 0
  maxUnavailable: 1
{{- else -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 1
  maxUnavailable: 0
{{- end -}}
{{- end -}}

{{/* The Pods' security context, with the sysctls in the short form of ingress-nginx's chart. */}}
{{- define "podlane.podSecurityContext" -}}
{{- $c := .Values.controller -}}
{{- $context := deepCopy ($c.podSecurityContext | default dict) -}}
{{- $sysctls := $context.sysctls | default list -}}
{{- range $name, $value := $c.sysctls -}}
{{- $sysctls = append $sysctls (dict "name" $name "value" (include "podlane.scalar" $value)) -}}
{{- end -}}
{{- if $sysctls -}}{{- $_ := set $context "sysctls" $sysctls -}}{{- end -}}
{{- if $context -}}{{- toYaml $context -}}{{- end -}}
{{- end -}}

{{/* Refuses labels that are the chart's own: its selectors use them. A schema could not say where they stand. */}}
{{- define "podlane.checkLabels" -}}
{{- $c := .Values.controller -}}
{{- $service := $c.service -}}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- range $where, $labels := dict "commonLabels" .Values.commonLabels "controller.labels" $c.labels "controller.podLabels" $c.podLabels
    "controller.service.labels" $service.labels "controller.service.external.labels" $service.external.labels
    "controller.service.internal.labels" $service.internal.labels "controller.metrics.service.labels" $c.metrics.service.labels
    "controller.metrics.serviceMonitor.additionalLabels" $c.metrics.serviceMonitor.additionalLabels
    "controller.metrics.podMonitor.additionalLabels" $c.metrics.podMonitor.additionalLabels
    "controller.metrics.prometheusRule.additionalLabels" $c.metrics.prometheusRule.additionalLabels -}}
{{- range $label := $own -}}
{{- if hasKey ($labels | default dict) $label -}}
{{- fail (printf "%s: leave out %s, by which the chart's selectors find the Pods; nameOverride and the release's name give it its value" $where $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Refuses what cannot work together in the Pods, with the reason. */}}
{{- define "podlane.checkPod" -}}
{{- include "podlane.checkLabels" . -}}
{{- $c := .Values.controller -}}
{{- $shutdown := add (int $c.drainDelaySeconds) (int $c.shutdownTimeoutSeconds) -}}
{{- if ge (int $shutdown) (int $c.terminationGracePeriodSeconds) -}}
{{- fail (printf "controller.terminationGracePeriodSeconds is %d: it must be more than drainDelaySeconds + shutdownTimeoutSeconds (%d), or requests are killed in flight" (int $c.terminationGracePeriodSeconds) $shutdown) -}}
{{- end -}}
{{- $added := (($c.containerSecurityContext | default dict).capabilities | default dict).add | default list -}}
{{- $sysctls := include "podlane.podSecurityContext" . -}}
{{- if not (or (has "NET_BIND_SERVICE" $added) (contains "net.ipv4.ip_unprivileged_port_start" $sysctls)) -}}
{{- range $name, $port := $c.containerPort -}}
{{- if lt (int $port) 1024 -}}
{{- fail (printf "controller.containerPort.%s is %d: listening below 1024 needs a privilege that the Pods do not have. Leave it out: controller.service.ports or controller.hostPort gives clients that port. Else set controller.sysctls \"net.ipv4.ip_unprivileged_port_start\" to \"0\", or with hostNetwork run as root with the capability NET_BIND_SERVICE" $name (int $port)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $c.hostNetwork $c.hostPort.enabled -}}
{{- fail "controller.hostPort.enabled: with controller.hostNetwork the Pods listen on the node at controller.containerPort; set one of the two" -}}
{{- end -}}
{{- $ports := list (int $c.containerPort.http) (int $c.containerPort.https) (int $c.metrics.port) (int $c.admin.port) -}}
{{- if ne (len (uniq $ports)) 4 -}}
{{- fail (printf "controller.containerPort.http, containerPort.https, metrics.port and admin.port are %v: they must differ" $ports) -}}
{{- end -}}
{{- if contains "/wait-shutdown" (toJson $c.lifecycle) -}}
{{- fail "controller.lifecycle: /wait-shutdown is a program of ingress-nginx's image. Leave it out: Podlane drains on SIGTERM by itself, see controller.drainDelaySeconds" -}}
{{- end -}}
{{- end -}}

{{/* The template of the Pods, of a Deployment and of a DaemonSet. */}}
{{- define "podlane.pod" -}}
{{- include "podlane.checkIngressNginx" . -}}
{{- include "podlane.checkPod" . -}}
{{- $c := .Values.controller -}}
metadata:
  labels:
    {{- include "podlane.podLabels" . | nindent 4 }}
  {{- with $c.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "podlane.serviceAccountName" . | quote }}
  automountServiceAccountToken: true
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.priorityClassName }}
  priorityClassName: {{ quote . }}
  {{- end }}
  {{- with $c.runtimeClassName }}
  runtimeClassName: {{ quote . }}
  {{- end }}
  {{- if $c.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- if $c.dnsPolicy }}
  dnsPolicy: {{ $c.dnsPolicy }}
  {{- else if $c.hostNetwork }}
  # Names of Services are the cluster's, whatever network the Pod is in.
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with $c.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $c.shareProcessNamespace }}
  shareProcessNamespace: true
  {{- end }}
  terminationGracePeriodSeconds: {{ int $c.terminationGracePeriodSeconds }}
  {{- with include "podlane.podSecurityContext" . }}
  securityContext:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $c.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "podlane.container" . | nindent 4 }}
    {{- with $c.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: spool
      emptyDir:
        {{- toYaml $c.spool | nindent 8 }}
    {{- with $c.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $c.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toYaml . | nindent 6 | trim }}
      {{- if not .labelSelector }}
      labelSelector:
        matchLabels:
          {{- include "podlane.selectorLabels" $ | nindent 10 }}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* The container of Podlane. */}}
{{- define "podlane.container" -}}
{{- $c := .Values.controller -}}
- name: {{ $c.containerName }}
  image: {{ include "podlane.image" . | quote }}
  imagePullPolicy: {{ $c.image.pullPolicy }}
  args:
    {{- include "podlane.args" . | nindent 4 }}
  env:
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    - name: POD_NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
    {{- with $c.extraEnvs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: http
      containerPort: {{ int $c.containerPort.http }}
      protocol: TCP
      {{- if $c.hostPort.enabled }}
      hostPort: {{ int $c.hostPort.ports.http }}
      {{- end }}
    - name: https
      containerPort: {{ int $c.containerPort.https }}
      protocol: TCP
      {{- if $c.hostPort.enabled }}
      hostPort: {{ int $c.hostPort.ports.https }}
      {{- end }}
    - name: metrics
      containerPort: {{ int $c.metrics.port }}
      protocol: TCP
  startupProbe:
    httpGet:
      path: /healthz
      port: metrics
    {{- toYaml (omit $c.startupProbe "httpGet") | nindent 4 }}
  livenessProbe:
    httpGet:
      path: /healthz
      port: metrics
    {{- toYaml (omit $c.livenessProbe "httpGet") | nindent 4 }}
  readinessProbe:
    httpGet:
      path: /readyz
      port: metrics
    {{- toYaml (omit $c.readinessProbe "httpGet") | nindent 4 }}
  {{- with $c.lifecycle }}
  lifecycle:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.containerSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: spool
      mountPath: /tmp
    {{- with $c.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* What a Deployment and a DaemonSet have in common but the Pods. */}}
{{- define "podlane.workloadMetadata" -}}
name: {{ include "podlane.fullname" . | quote }}
namespace: {{ include "podlane.namespace" . | quote }}
labels:
  {{- include "podlane.labels" . | nindent 2 }}
  {{- with .Values.controller.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.controller.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
