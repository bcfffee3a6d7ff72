{{- define "resumetry.labels" -}}
app.kubernetes.io/name: resumetry
app.kubernetes.io/part-of: resumetry
{{- end }}

{{- define "resumetry.metadata" -}}
name: resumetry
namespace: {{ .Release.Namespace }}
labels:
  {{- include "resumetry.labels" . | nindent 2 }}
{{- end }}
