{{- define "workflow-resumer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "workflow-resumer.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "workflow-resumer.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "workflow-resumer.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "workflow-resumer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "workflow-resumer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "workflow-resumer.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "workflow-resumer.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: resumer
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "workflow-resumer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "workflow-resumer.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "workflow-resumer.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "workflow-resumer.leaseName" -}}
{{- default (include "workflow-resumer.fullname" .) .Values.leaderElection.leaseName }}
{{- end }}

{{/* The port of the collector of traces: that of its URL, or of its scheme. */}}
{{- define "workflow-resumer.tracingPort" -}}
{{- $url := urlParse .Values.tracing.endpoint }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- default (ternary "443" "80" (eq $url.scheme "https")) $port }}
{{- end }}

{{/* The namespaces to work in, as a JSON object with the key "names"; empty for all. */}}
{{- define "workflow-resumer.watched" -}}
{{- if and .Values.singleNamespace .Values.watchNamespaces }}
{{- fail "singleNamespace and watchNamespaces are both set: set one of them" }}
{{- end }}
{{- $names := .Values.watchNamespaces }}
{{- if .Values.singleNamespace }}
{{- $names = list (include "workflow-resumer.namespace" .) }}
{{- end }}
{{- dict "names" $names | toJson }}
{{- end }}

{{/* What the operator may do where it works; each verb is one that it uses. */}}
{{- define "workflow-resumer.rules" -}}
- apiGroups: [argoproj.io]
  resources: [workflows]
  verbs: [get, list, watch, patch]
- apiGroups: [argoproj.io]
  resources: [workflowresumes]
  verbs: [get, list, watch, delete]
- apiGroups: [argoproj.io]
  resources: [workflowresumepolicies]
  verbs: [list, watch]
- apiGroups: [argoproj.io]
  resources: [workflowresumebreakers]
  verbs: [get, list, watch, create]
- apiGroups: [argoproj.io]
  resources: [workflowresumes/status, workflowresumepolicies/status, workflowresumebreakers/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* "true" where an object of an optional kind is to be made.
     Takes: root, path (of the values), apiVersion, kind. */}}
{{- define "workflow-resumer.render" -}}
{{- $values := index .root.Values .path }}
{{- $served := .root.Capabilities.APIVersions.Has (printf "%s/%s" .apiVersion .kind) }}
{{- if $values.enabled }}
{{- if or $served (eq $values.renderMode "alwaysRender") }}true
{{- else if eq $values.renderMode "failIfMissing" }}
{{- fail (printf "%s.enabled: the cluster does not serve %s %s: install it, or set %s.renderMode" .path .apiVersion .kind .path) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What to say where a folder that is a symbolic link in the sources is empty. Takes its path. */}}
{{- define "workflow-resumer.linked" -}}
this copy of the chart holds nothing in {{ . }}, which is a symbolic link in the sources: check these out with symbolic links (git config core.symlinks true), or take the packaged chart
{{- end }}
