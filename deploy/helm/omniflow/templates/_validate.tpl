{{- /* Rules that involve several values. values.schema.json checks single values first. */ -}}
{{- define "omniflow.validate" -}}
{{- if eq .Values.mode "postgres" -}}
{{- fail "\n\nmode: postgres is not available yet: this version of omf stores its data in SQLite only. Set mode: sqlite.\n" -}}
{{- end -}}
{{- if ne (int .Values.replicaCount) 1 -}}
{{- fail (printf "\n\nreplicaCount: %d is not possible: SQLite permits one process. Set replicaCount: 1. Gateways continue with their last snapshot while the control plane restarts.\n" (int .Values.replicaCount)) -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
{{- if and .Values.tls.existingSecret .Values.tls.certManager.enabled -}}
{{- fail "\n\nSet either tls.existingSecret or tls.certManager.enabled, not both.\n" -}}
{{- end -}}
{{- if not (or .Values.tls.existingSecret .Values.tls.certManager.enabled) -}}
{{- fail "\n\nA certificate is required: set tls.existingSecret to a Secret of the type kubernetes.io/tls, or tls.certManager.enabled with an issuerRef. Set tls.enabled: false only if something else encrypts the connection, because it carries keys and tokens.\n" -}}
{{- end -}}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) -}}
{{- fail "\n\ntls.certManager.enabled requires tls.certManager.issuerRef.name.\n" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.settings.webhook_url (not .Values.webhook.existingSecret) -}}
{{- fail "\n\nsettings.webhook_url requires webhook.existingSecret, a Secret with the signing secret (whsec_...) under the key secret.\n" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (or .Values.settings.webhook_url .Values.settings.otlp_endpoint) (not .Values.networkPolicy.extraEgress) -}}
{{- fail "\n\nThe network policy blocks the receiver in settings.webhook_url or settings.otlp_endpoint: add a rule for it to networkPolicy.extraEgress, or set networkPolicy.enabled: false.\n" -}}
{{- end -}}
{{- if and (or .Values.istio.enabled .Values.envoyGateway.enabled) (not .Values.filter.url) -}}
{{- fail "\n\nfilter.url is required: push the filter to your registry, and set filter.url to oci://REGISTRY/IMAGE:TAG. There is no public image.\n" -}}
{{- end -}}
{{- if and .Values.istio.enabled (not .Values.istio.gateways) -}}
{{- fail "\n\nistio.enabled requires at least one entry in istio.gateways.\n" -}}
{{- end -}}
{{- if and .Values.envoyGateway.enabled (not .Values.envoyGateway.gateways) -}}
{{- fail "\n\nenvoyGateway.enabled requires at least one entry in envoyGateway.gateways.\n" -}}
{{- end -}}
{{- range .Values.istio.gateways -}}
{{- if and .selector .gatewayName -}}
{{- fail (printf "\n\nistio.gateways: %s has both selector and gatewayName. Set one of them.\n" .name) -}}
{{- end -}}
{{- if not (or .selector .gatewayName) -}}
{{- fail (printf "\n\nistio.gateways: %s requires selector, the labels of its pods, or gatewayName. Without either, the filter would be loaded into every proxy of the namespace.\n" .name) -}}
{{- end -}}
{{- if and (eq .kind "waypoint") (not .gatewayName) -}}
{{- fail (printf "\n\nistio.gateways: the waypoint %s requires gatewayName. Istio ignores selectors for waypoints.\n" .name) -}}
{{- end -}}
{{- if and (eq .kind "sidecar") .gatewayName -}}
{{- fail (printf "\n\nistio.gateways: the sidecar %s requires selector instead of gatewayName.\n" .name) -}}
{{- end -}}
{{- end -}}
{{- if .Values.envoyGateway.enabled -}}
{{- if hasPrefix "file://" .Values.filter.url -}}
{{- fail "\n\nfilter.url: Envoy Gateway does not support file://. Use oci:// or https://.\n" -}}
{{- end -}}
{{- if and .Values.tls.enabled -}}
{{- range .Values.envoyGateway.gateways -}}
{{- if not .caSecret -}}
{{- fail (printf "\n\nenvoyGateway.gateways: %s requires caSecret, a Secret in the namespace %s with the CA of the control plane as ca.crt.\n" .name .proxyNamespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tokenJob.enabled (not .Values.tokenJob.image) -}}
{{- fail "\n\ntokenJob.enabled requires tokenJob.image, an image with kubectl and sh.\n" -}}
{{- end -}}
{{- if and .Values.backup.prune.enabled (not .Values.backup.prune.image) -}}
{{- fail "\n\nbackup.prune.enabled requires backup.prune.image, an image with sh, ls and rm, such as busybox.\n" -}}
{{- end -}}
{{- if and .Values.backup.enabled (eq .Values.persistence.accessMode "ReadWriteOncePod") -}}
{{- fail "\n\nbackup.enabled requires another persistence.accessMode: with ReadWriteOncePod, the pod of the backup cannot mount the volume.\n" -}}
{{- end -}}
{{- end }}
