{{- define "addnorm.name" -}}
{{- if contains "addnorm" .Release.Name -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- else -}}{{ printf "%s-addnorm" (.Release.Name | trunc 42 | trimSuffix "-") }}{{- end -}}
{{- end -}}

{{- define "addnorm.selector" -}}
app.kubernetes.io/name: addnorm
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "addnorm.labels" -}}
{{ include "addnorm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "addnorm.image" -}}
{{- $tag := .Values.image.tag | default (printf "%s%s" .Chart.AppVersion (ternary "-gpu" "" .Values.gpu.enabled)) -}}
{{ printf "%s:%s" .Values.image.repository $tag }}
{{- end -}}

{{- /* Numbers of a values file are floating-point ones to Helm, which writes 1000000 as 1e+06. */}}
{{- define "addnorm.text" -}}
{{ if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . | quote }}{{ else }}{{ quote . }}{{ end }}
{{- end -}}

{{- define "addnorm.grpc" -}}
{{- if (default dict .Values.grpc).port -}}
- name: grpc
  port: {{ (default dict .Values.grpc).port }}
  targetPort: grpc
  appProtocol: kubernetes.io/h2c
{{- end -}}
{{- end -}}

{{- define "addnorm.env" -}}
- name: ADDNORM_DRAIN_DELAY
  value: {{ include "addnorm.text" .Values.drainDelay }}
{{- if .Values.connectionAge }}
- name: ADDNORM_CONNECTION_AGE
  value: {{ include "addnorm.text" .Values.connectionAge }}
{{- end }}
{{- if hasKey .Values.settings "ADDNORM_GRPC_PORT" }}
{{- fail "settings.ADDNORM_GRPC_PORT opens no port: set grpc.port, which does, and sets the variable." }}
{{- end }}
{{- with (default dict .Values.grpc).port }}
{{- if has (int .) (list 8000 (int $.Values.service.port)) }}
{{- fail "grpc.port must be another than 8000, where pods answer over HTTP, and than service.port." }}
{{- end }}
- name: ADDNORM_GRPC_PORT
  value: {{ include "addnorm.text" . }}
{{- end }}
{{- if .Values.storeSecret }}
- name: ADDNORM_STORE
  valueFrom:
    secretKeyRef:
      name: {{ .Values.storeSecret }}
      key: store
{{- else if .Values.store }}
- name: ADDNORM_STORE
  value: {{ .Values.store | quote }}
{{- else if .Values.peers }}
- name: ADDNORM_PEERS
  value: dns:{{ include "addnorm.name" . }}-peers:8000
{{- end }}
{{- if .Values.gpu.enabled }}
- name: ADDNORM_DEVICE
  value: cuda
{{- end }}
{{- with .Values.models }}
{{- if .claim }}
- name: ADDNORM_MODELS
  value: /models
{{- if .default }}
- name: ADDNORM_DEFAULT_MODEL
  value: {{ .default | quote }}
{{- end }}
{{- if .watch }}
- name: ADDNORM_WATCH
  value: {{ include "addnorm.text" .watch }}
{{- end }}
{{- else if or .default .watch }}
{{- fail "models.default and models.watch are for the models of a volume: name it in models.claim." }}
{{- end }}
{{- end }}
{{- with .Values.apiKeys }}
{{- if .secret }}
- name: ADDNORM_API_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: api-keys
- name: ADDNORM_INFERENCE_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: inference-keys
      optional: true
{{- if .neededFor }}
- name: ADDNORM_API_KEY_FOR
  value: {{ .neededFor | quote }}
{{- end }}
{{- else if .neededFor }}
{{- fail "apiKeys.neededFor needs keys: name their Secret in apiKeys.secret." }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ include "addnorm.text" $value }}
{{- end }}
{{- end -}}
