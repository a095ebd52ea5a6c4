{{- define "omniflow.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "omniflow.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "omniflow.labels" -}}
{{ include "omniflow.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: omniflow
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "omniflow.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{- /* The host name of the control plane inside the cluster. */ -}}
{{- define "omniflow.host" -}}
{{- printf "%s.%s.svc.%s" (include "omniflow.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- end }}

{{- define "omniflow.tlsSecret" -}}
{{- default (printf "%s-tls" (include "omniflow.fullname" .)) .Values.tls.existingSecret -}}
{{- end }}

{{- define "omniflow.dataDir" -}}/var/lib/omniflow/data{{- end }}

{{- define "omniflow.dataClaim" -}}
{{- default (printf "data-%s-0" (include "omniflow.fullname" .)) .Values.persistence.existingClaim -}}
{{- end }}

{{- define "omniflow.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
# With the default, Always, each start would make the payload key writable by the group, and `omf serve` rejects such files.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "omniflow.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The configuration of the filter. The context has `root`, `gateway` and `cluster`. */ -}}
{{- define "omniflow.filterConfig" -}}
{{- $own := dict "cluster" .cluster "authority" (include "omniflow.host" .root) -}}
{{- with .gateway.trustedHops -}}
{{- $_ := set $own "trusted_hops" (int .) -}}
{{- end -}}
{{- merge $own (deepCopy .root.Values.filter.config) | toYaml -}}
{{- end }}

{{- /* The name of the objects of a gateway. The context has `root` and `gateway`. */ -}}
{{- define "omniflow.gatewayObject" -}}
{{- printf "%s-%s" (include "omniflow.fullname" .root) .gateway.name -}}
{{- end }}

{{- /* The namespaces and names of all gateway token Secrets, as a JSON object {"secrets": [...]}. */ -}}
{{- define "omniflow.tokenSecrets" -}}
{{- $secrets := list -}}
{{- if .Values.istio.enabled -}}
{{- range .Values.istio.gateways -}}
{{- $secrets = append $secrets (dict "namespace" .namespace "name" .tokenSecret) -}}
{{- end -}}
{{- end -}}
{{- if .Values.envoyGateway.enabled -}}
{{- range .Values.envoyGateway.gateways -}}
{{- $secrets = append $secrets (dict "namespace" .proxyNamespace "name" .tokenSecret) -}}
{{- end -}}
{{- end -}}
{{- dict "secrets" (uniq $secrets) | toJson -}}
{{- end }}

{{- /* The namespaces of the pods that connect to the control plane, as a JSON object {"namespaces": [...]}. */ -}}
{{- define "omniflow.clientNamespaces" -}}
{{- $names := append .Values.networkPolicy.allowedNamespaces .Release.Namespace -}}
{{- range (include "omniflow.tokenSecrets" . | fromJson).secrets -}}
{{- $names = append $names .namespace -}}
{{- end -}}
{{- dict "namespaces" (uniq $names | sortAlpha) | toJson -}}
{{- end }}
