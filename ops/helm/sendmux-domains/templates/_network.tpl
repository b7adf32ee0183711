{{/* The egress of an app or command. Call with root, name, facts. */}}
{{- define "sendmux.egress" -}}
{{- $root := .root -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- $settings := $root.Values.settings -}}
{{- $tokens := and $settings.KAFKA_BROKERS (has $settings.KAFKA_SASL_MECHANISM (list "oauthbearer" "aws-msk-iam")) -}}
{{- $only := dict "kafka" $settings.KAFKA_BROKERS "tokens" $tokens "otlp" $settings.OTEL_EXPORTER_OTLP_ENDPOINT "domainConnect" $settings.DOMAIN_CONNECT_PROVIDERS -}}
{{- $isOnInternet := has "internet" .facts.counterparts -}}
- ports: [{ port: 53, protocol: UDP }, { port: 53, protocol: TCP }]
  {{- with $policy.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- range .facts.counterparts }}
{{- if and (ne . "internet") (or (not (hasKey $only .)) (get $only .)) }}
{{- $peer := get $policy.counterparts . }}
{{- /* "Everybody on port 443" would open the networks that are inside. Whoever is outside is on the Internet. */}}
{{- if not (and $isOnInternet (not $peer.to) (eq (toJson $peer.ports) "[443]")) }}
# {{ . }}
- ports:
    {{- range $peer.ports }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
  {{- with $peer.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- else if eq . "internet" }}
# internet
- ports: [{ port: 443, protocol: TCP }, { port: 1024, endPort: 65535, protocol: TCP }]
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except:
          {{- toYaml $policy.internet.except | nindent 10 }}
    - ipBlock:
        cidr: 2000::/3
        {{- with $policy.internet.exceptV6 }}
        except:
          {{- toYaml . | nindent 10 }}
        {{- end }}
{{- end }}
{{- end }}
{{- with (include "sendmux.values" . | fromYaml).extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
