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

{{- define "addnorm.env" -}}
- name: ADDNORM_DRAIN_DELAY
  value: {{ .Values.drainDelay | quote }}
{{- if .Values.connectionAge }}
- name: ADDNORM_CONNECTION_AGE
  value: {{ .Values.connectionAge | quote }}
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
  value: {{ .watch | quote }}
{{- end }}
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
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}
