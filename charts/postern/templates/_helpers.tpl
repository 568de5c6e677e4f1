{{- define "postern.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "postern.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "postern.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "postern.selectorLabels" -}}
app.kubernetes.io/name: {{ include "postern.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "postern.labels" -}}
{{ include "postern.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "postern.metadata" -}}
name: {{ include "postern.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "postern.labels" . | nindent 2 }}
{{- end }}

{{- define "postern.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "postern.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "postern.image" -}}
{{- $name := .Values.image.repository }}
{{- with .Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end }}
{{- with .Values.image.digest }}
{{- printf "%s@%s" $name . }}
{{- else }}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* A duration such as 1m30s, in seconds, rounded up. */ -}}
{{- define "postern.seconds" -}}
{{- $sum := 0.0 }}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 }}
{{- range regexFindAll "[0-9]+(ms|h|m|s)" . -1 }}
{{- $count := regexFind "^[0-9]+" . | float64 }}
{{- $sum = addf $sum (mulf $count (get $units (regexReplaceAll "^[0-9]+" . ""))) }}
{{- end }}
{{- ceil $sum | int }}
{{- end }}

{{- /* The termination grace period: the delay, the time that sockets may linger, the deadline, and ten seconds for the last bytes. */ -}}
{{- define "postern.gracePeriod" -}}
{{- $config := .Values.config }}
{{- $seconds := add 10 (include "postern.seconds" $config.shutdownDelay | int) (include "postern.seconds" $config.drainDeadline | int) }}
{{- if eq $config.drainMode "linger" }}
{{- $seconds = add $seconds (include "postern.seconds" $config.linger | int) }}
{{- end }}
{{- $seconds }}
{{- end }}
