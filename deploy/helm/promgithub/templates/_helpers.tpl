{{- /* The start of every name: a StatefulSet's name plus "-ingest" may have 52 characters. */ -}}
{{- define "promgithub.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- /* Labels of every object. */ -}}
{{- define "promgithub.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{- /* Labels of the pods of a role, by which everything selects them. Takes a list: the root, the role. */ -}}
{{- define "promgithub.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* Labels of an object of a role. Takes a list: the root, the role. */ -}}
{{- define "promgithub.roleLabels" -}}
{{ include "promgithub.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "promgithub.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "promgithub.settings" -}}
- configMapRef: {name: {{ include "promgithub.fullname" . }}}
{{- end -}}

{{- /* What the pods of both roles have in common. */ -}}
{{- define "promgithub.pod" -}}
serviceAccountName: {{ include "promgithub.fullname" . }}
automountServiceAccountToken: false
# A Service called `promgithub` would otherwise set PROMGITHUB_SERVICE_HOST and PROMGITHUB_SERVICE_PORT.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "promgithub.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "promgithub.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{- define "promgithub.secretsMount" -}}
- {name: secrets, mountPath: /run/secrets/promgithub, readOnly: true}
{{- end -}}

{{- /* A volume with keys of the Secret. Takes the root as `root` and the list `keys`. */ -}}
{{- define "promgithub.secretsVolume" -}}
- name: secrets
  secret:
    secretName: {{ .root.Values.secretName }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end -}}

{{- /* The key of the Secret that recovery needs. */ -}}
{{- define "promgithub.recoveryKey" -}}
{{ ternary "github-app-key" "github-token" (ne .Values.recovery.appId "") }}
{{- end -}}
