{{/* Gives the metrics of lag that an app is scaled by, as a list in YAML. Call with root, name, facts. */}}
{{- define "sendmux.lag" -}}
{{- $metrics := list -}}
{{- $targets := ((get .root.Values.apps .name).autoscaling | default dict).targets | default dict -}}
{{- range .facts.lag -}}
{{- if and (hasKey $targets .metric) (or (not .onKafka) $.root.Values.settings.KAFKA_BROKERS) -}}
{{- $metrics = append $metrics (merge (dict "target" (get $targets .metric)) .) -}}
{{- end -}}
{{- end -}}
{{ $metrics | toYaml }}
{{- end }}

{{/* Says by what an autoscaler decides how many processes an app has: cpu, external, keda, or nothing. Call with
     root, name, facts. */}}
{{- define "sendmux.isScaled" -}}
{{- $scaling := (get .root.Values.apps .name).autoscaling | default dict -}}
{{- $from := .root.Values.lagMetrics.from -}}
{{- if $scaling.enabled -}}
{{- if $scaling.cpuPercent -}}cpu
{{- else if and (ne $from "none") (include "sendmux.lag" . | fromYamlArray) -}}{{ $from }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Says how fast an app grows and shrinks: a new process has its share of the work within a minute, and lag comes in
     waves. */}}
{{- define "sendmux.behaviour" -}}
scaleUp:
  stabilizationWindowSeconds: 60
  policies: [{ type: Percent, value: 100, periodSeconds: 60 }]
scaleDown:
  stabilizationWindowSeconds: 600
  policies: [{ type: Pods, value: 1, periodSeconds: 120 }]
{{- end }}
