{{/* The value at a path with dots, as JSON; empty where there is none, or where it is empty itself. */}}
{{- define "podlane.valueAt" -}}
{{- $at := index . 0 -}}
{{- range $part := splitList "." (index . 1) -}}
{{- $at = kindIs "map" $at | ternary $at dict -}}
{{- $at = get $at $part -}}
{{- end -}}
{{- if $at -}}{{- toJson $at -}}{{- end -}}
{{- end -}}

{{/* What stands in a value however empty: {"configMapName":"","configMapKey":""} is as good as nothing. */}}
{{- define "podlane.saysSomething" -}}
{{- regexReplaceAll "\"[A-Za-z]+\":(\"\"|\\{\\}|\\[\\]|null|false),?" . "" | regexFind "[^{}\\[\\],]" -}}
{{- end -}}

{{/* Refuses keys of ingress-nginx's chart that ask for what is not there. files/ingress-nginx.yaml lists them. */}}
{{- define "podlane.checkIngressNginx" -}}
{{- range .Files.Get "files/ingress-nginx.yaml" | fromYamlArray -}}
{{- if eq .here "refused" -}}
{{- if include "podlane.saysSomething" (include "podlane.valueAt" (list $.Values .key)) -}}
{{- fail (printf "%s: %s" .key .why) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $image := .Values.controller.image -}}
{{- if contains "ingress-nginx/controller" (printf "%s %s" $image.image $image.repository) -}}
{{- fail "controller.image: this is the image of ingress-nginx. Remove it, or set it to Podlane's" -}}
{{- end -}}
{{- end -}}

{{/* The keys of ingress-nginx's chart that are set and do nothing, one line each. */}}
{{- define "podlane.unusedKeys" -}}
{{- range .Files.Get "files/ingress-nginx.yaml" | fromYamlArray -}}
{{- if eq .here "unused" -}}
{{- if include "podlane.valueAt" (list $.Values .key) }}
  {{ .key }}: {{ .why }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
