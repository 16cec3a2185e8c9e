{{- define "nlsim.labels" -}}
app.kubernetes.io/name: nlsim
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The image called .name, e.g. cpu. */}}
{{- define "nlsim.image" -}}
{{- $images := .root.Values.images -}}
{{- $image := get $images .name -}}
{{- $place := ternary $image.repository (printf "%s/%s" $images.registry $image.repository) (empty $images.registry) -}}
{{- if $image.digest -}}
{{ $place }}@{{ $image.digest }}
{{- else -}}
{{ $place }}:{{ $images.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "nlsim.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "nlsim.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "nlsim.modelClaim" -}}
{{- .Values.modelCache.existingClaim | default "nlsim-models" -}}
{{- end }}
