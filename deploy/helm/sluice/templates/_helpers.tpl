{{- define "sluice.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- end -}}
{{- /* "-internal" still fits in 63 characters. */ -}}
{{- $name | trunc 54 | trimSuffix "-" -}}
{{- end -}}

{{- define "sluice.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluice.labels" -}}
{{ include "sluice.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Of the pod of `helm test`: Services must not select it. */ -}}
{{- define "sluice.testLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluice.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The public listener: the name of its port, and the pod's port. */ -}}
{{- define "sluice.scheme" -}}
{{ ternary "https" "http" (not (empty .Values.tls.existingSecret)) }}
{{- end -}}
{{- define "sluice.port" -}}
{{ ternary 8443 8000 (not (empty .Values.tls.existingSecret)) }}
{{- end -}}

{{- /* Fails if a proxy is in front and not listed. The arguments are the root and the value's name. */ -}}
{{- define "sluice.behindProxy" -}}
{{- $settings := (index . 0).Values.settings -}}
{{- if not (or (hasKey $settings "trusted-proxies") (hasKey $settings "proxy-protocol")) -}}
{{- fail (printf "%s.enabled: set settings.trusted-proxies to the addresses of the proxy's pods, or all clients count as one, which can have 200 connections" (index . 1)) -}}
{{- end -}}
{{- end -}}

{{- /* The volume belongs to one gateway, and servers are in its place. */ -}}
{{- define "sluice.nodes" -}}
{{- if .Values.dataDir.enabled -}}
{{- if .Values.nats.url }}{{ fail "dataDir.enabled: histories are either on a volume or on the servers of nats.url" }}{{ end -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled }}{{ fail "dataDir.enabled: the volume belongs to one replica; for more, set nats.url" }}{{ end -}}
{{- end -}}
{{- if and .Values.nats.url .Values.networkPolicy.enabled (not .Values.networkPolicy.egress) -}}
{{- fail "nats.url: with networkPolicy.enabled, it needs networkPolicy.egress, for DNS and for the servers" -}}
{{- end -}}
{{- end -}}

{{- /* One line of the configuration file, from a list of key and value. */ -}}
{{- define "sluice.setting" -}}
{{- $value := index . 1 -}}
{{- if kindIs "bool" $value -}}
{{- /* YAML reads a bare on or off as a bool. */ -}}
{{- $value = ternary "on" "off" $value -}}
{{- else if not (kindIs "string" $value) -}}
{{- /* Numbers of a values file are floats, which would be printed as 1e+06. */ -}}
{{- $value = $value | int64 | toString -}}
{{- end -}}
{{- if not (regexMatch "^[A-Za-z0-9._/:*,%=-]+$" $value) -}}
{{- $value = printf "%q" $value -}}
{{- end -}}
{{ index . 0 }} = {{ $value }}
{{ end -}}

{{- define "sluice.conf" -}}
{{- $of := dict "listen" "service" "tls-listen" "tls" "tls-cert" "tls" "tls-key" "tls" "internal-listen" "internalService" "api-key-file" "apiKey" "shutdown-timeout" "shutdown.timeoutSeconds" "nats-url" "nats.url" "nats-nkey" "nats" "nats-creds" "nats" "nats-tls-ca" "nats" "nats-tls-cert" "nats" "nats-tls-key" "nats" "data-dir" "dataDir" "namespaces" "namespaces" "token-hmac-secret-file" "tokens" "token-public-key-file" "tokens" -}}
{{- range $key, $value := .Values.settings -}}
{{- with get $of $key }}{{ fail (printf "settings.%s: the chart sets it itself, from %s" $key .) }}{{ end -}}
{{- range kindIs "slice" $value | ternary $value (list $value) -}}
{{ include "sluice.setting" (list $key .) }}
{{- end -}}
{{- end -}}
{{- if .Values.namespaces -}}
namespaces = /etc/sluice/config/channels.json
{{ end -}}
{{- with .Values.nats -}}
{{- if .url }}
nats-url = {{ .url }}
{{ with .nkeyKey }}nats-nkey = /etc/sluice/nats/{{ . }}
{{ end -}}
{{ with .credsKey }}nats-creds = /etc/sluice/nats/{{ . }}
{{ end -}}
{{ with .caKey }}nats-tls-ca = /etc/sluice/nats/{{ . }}
{{ end -}}
{{ with .certKey }}nats-tls-cert = /etc/sluice/nats/{{ . }}
{{ end -}}
{{ with .keyKey }}nats-tls-key = /etc/sluice/nats/{{ . }}
{{ end -}}
{{- end -}}
{{- end -}}
{{- if .Values.dataDir.enabled -}}
data-dir = /var/lib/sluice/data
{{ end -}}
{{- if .Values.tokens.existingSecret -}}
{{- range .Values.tokens.hmacSecretKeys -}}
token-hmac-secret-file = /etc/sluice/tokens/{{ . }}
{{ end -}}
{{- range .Values.tokens.publicKeyKeys -}}
token-public-key-file = /etc/sluice/tokens/{{ . }}
{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The ConfigMap's files. */ -}}
{{- define "sluice.files" -}}
sluice.conf: |
  {{- include "sluice.conf" . | nindent 2 }}
{{- with .Values.namespaces }}
channels.json: |
  {{- toPrettyJson . | nindent 2 }}
{{- end }}
{{- end -}}
