{{/* Names and labels. Names leave room for the longest app behind them: 63 octets is the most of a label. */}}
{{- define "sendmux.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- default $name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of everything of a release, which never change: selectors use them. */}}
{{- define "sendmux.ofRelease" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of the pods of one app or command. Call with root, name. */}}
{{- define "sendmux.selector" -}}
{{ include "sendmux.ofRelease" .root }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{/* Labels of an object. Call with root, name. */}}
{{- define "sendmux.labels" -}}
{{ include "sendmux.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Gives the name of the objects of one app or command. Call with root, name. */}}
{{- define "sendmux.name" -}}
{{ include "sendmux.fullname" .root }}-{{ .name }}
{{- end }}

{{/* Gives what runs in this installation, as a map of facts by name, in YAML. */}}
{{- define "sendmux.running" -}}
{{- $root := . -}}
{{- $facts := .Files.Get "apps.yaml" | fromYaml -}}
{{- range $name, $app := $facts.apps -}}
{{- $values := get $root.Values.apps $name -}}
{{- $isUsed := or (ne $name "event-relay") $root.Values.settings.KAFKA_BROKERS -}}
{{- if or (not $values.enabled) (not $isUsed) -}}{{- $_ := unset $facts.apps $name -}}{{- end -}}
{{- end -}}
{{ $facts.apps | toYaml }}
{{- end }}

{{/* Gives the values of an app or command, in YAML: what it names itself counts instead of that of `defaults`, and
     as a whole. Call with root, name. */}}
{{- define "sendmux.values" -}}
{{- $values := deepCopy .root.Values.defaults -}}
{{- range $key, $value := get .root.Values.apps .name | default dict -}}{{- $_ := set $values $key $value -}}{{- end -}}
{{ $values | toYaml }}
{{- end }}

{{/* Gives the image. */}}
{{- define "sendmux.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}{{- fail "image.repository: name the repository that you have pushed the image to (docs/operations/kubernetes.md)" -}}{{- end -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else if .tag -}}
{{ .repository }}:{{ .tag }}
{{- else -}}
{{- fail "image.digest: give the digest of the image, sha256:…, which your registry said at the push. To follow a tag, which may name another image tomorrow, set image.tag instead" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Gives the secrets that an app or command reads, of those that are named, as a map in YAML. Call with root,
     facts. */}}
{{- define "sendmux.secrets" -}}
{{- $lists := (.root.Files.Get "apps.yaml" | fromYaml).secretsOf -}}
{{- $read := concat $lists.traces (.facts.secrets | default list) -}}
{{- if .facts.checksAllSettings -}}{{- $read = concat $read $lists.allSettings -}}{{- end -}}
{{- $named := dict -}}
{{- range $setting, $from := .root.Values.secrets.files -}}
{{- if has $setting $read -}}
{{- $key := dict "name" (default $.root.Values.secrets.name $from.name) "key" (default $setting $from.key) -}}
{{- $_ := set $named $setting $key -}}
{{- end -}}
{{- end -}}
{{ $named | toYaml }}
{{- end }}

{{/* Refuses settings that nothing reads, or that are no settings, and names what is missing. */}}
{{- define "sendmux.check" -}}
{{- $known := .Files.Get "settings.json" | fromJson -}}
{{- $faults := list -}}
{{- range $name, $value := .Values.settings -}}
{{- if has $name $known.secrets -}}
{{- $faults = append $faults (printf "settings.%s is a secret: put it into a Secret, and name it under secrets.files" $name) -}}
{{- else if has $name $known.credentials -}}
{{- $faults = append $faults (printf "settings.%s is a secret: give the pods a role of IAM (serviceAccountAnnotations), or name a Secret under defaults.extraEnv" $name) -}}
{{- else if has $name $known.files -}}
{{- $faults = append $faults (printf "settings.%s is a file: put it into a Secret, and name it under secrets.files" $name) -}}
{{- else if has $name $known.ofChart -}}
{{- $faults = append $faults (printf "settings.%s is given by the chart: leave it out" $name) -}}
{{- else if not (has $name $known.plain) -}}
{{- $faults = append $faults (printf "settings.%s is no setting: docs/settings.md has all of them" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $from := .Values.secrets.files -}}
{{- if not (or (has $name $known.secrets) (has $name $known.files)) -}}
{{- $faults = append $faults (printf "secrets.files.%s is no secret setting: docs/operations/secrets.md has all of them" $name) -}}
{{- end -}}
{{- end -}}
{{- if not (regexMatch "^[a-z][a-z0-9-]*$" (include "sendmux.fullname" .)) -}}
{{- $faults = append $faults (printf "the name of the release, %s, begins with a digit or has a dot, which a Service cannot: give the objects another one by fullnameOverride" .Release.Name) -}}
{{- end -}}
{{- $public := urlParse (default "" .Values.settings.PUBLIC_URL) -}}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled -}}
{{- if not (and (regexMatch "^https?$" $public.scheme) (regexMatch "^([a-zA-Z0-9-]+\\.)*[a-zA-Z][a-zA-Z0-9-]*$" $public.hostname)) -}}
{{- $faults = append $faults "settings.PUBLIC_URL: ingress and httpRoute take their host from it, so give it whole, with a host name and no address: https://app.example.com" -}}
{{- end -}}
{{- if not .Values.apps.gateway.enabled -}}
{{- $faults = append $faults "ingress and httpRoute lead to the gateway: set apps.gateway.enabled" -}}
{{- end -}}
{{- end -}}
{{- range $of, $values := merge (dict "defaults" .Values.defaults) .Values.apps -}}
{{- $path := eq $of "defaults" | ternary $of (printf "apps.%s" $of) -}}
{{- range $values.extraEnv -}}
{{- if or (has .name $known.ofChart) (hasKey $.Values.settings .name) -}}
{{- $faults = append $faults (printf "%s.extraEnv: %s is set twice, by the chart or by settings too" $path .name) -}}
{{- else if and (hasKey . "value") (or (has .name $known.secrets) (has .name $known.credentials)) -}}
{{- $faults = append $faults (printf "%s.extraEnv: %s is a secret: name a Secret by valueFrom.secretKeyRef" $path .name) -}}
{{- end -}}
{{- end -}}
{{- range $values.extraVolumes -}}
{{- if has .name (list "data" "secrets") -}}
{{- $faults = append $faults (printf "%s.extraVolumes: the chart has a volume %s itself" $path .name) -}}
{{- end -}}
{{- end -}}
{{- with $values.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- $faults = append $faults (printf "%s.autoscaling: minReplicas is more than maxReplicas" $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $labels := dict "defaults.podLabels" .Values.defaults.podLabels "podMonitor.labels" .Values.podMonitor.labels "prometheusRules.labels" .Values.prometheusRules.labels -}}
{{- range $name, $values := .Values.apps -}}{{- $_ := set $labels (printf "apps.%s.podLabels" $name) $values.podLabels -}}{{- end -}}
{{- range $path, $given := $labels -}}
{{- range $label, $_ := $given -}}
{{- if regexMatch "^(app\\.kubernetes\\.io|helm\\.sh)/" $label -}}
{{- $faults = append $faults (printf "%s: %s is a label of the chart, by which it finds its pods" $path $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range list "PUBLIC_URL" "DOH_RESOLVERS" "HOST" -}}
{{- if not (get $.Values.settings .) -}}{{- $faults = append $faults (printf "settings.%s is not set: docs/settings.md explains it" .) -}}{{- end -}}
{{- end -}}
{{- range list "DATABASE_URL" "MAIL_SERVER_DATABASE_URL" "SMTP_URL" "PERSONAL_DATA_KEYS" -}}
{{- if not (hasKey $.Values.secrets.files .) -}}{{- $faults = append $faults (printf "secrets.files.%s is missing: no app starts without it" .) -}}{{- end -}}
{{- end -}}
{{- if and .Values.apps.webhooks.enabled (not (hasKey .Values.secrets.files "WEBHOOK_SECRET_KEYS")) -}}
{{- $faults = append $faults "secrets.files.WEBHOOK_SECRET_KEYS is missing: the app webhooks does not start without it (apps.webhooks.enabled)" -}}
{{- end -}}
{{- if and .Values.apps.sealer.enabled (not (hasKey .Values.secrets.files "AUDIT_SIGNING_KEY_FILE")) -}}
{{- $faults = append $faults "secrets.files.AUDIT_SIGNING_KEY_FILE is missing: all sealers sign with one key, which a pod would lose" -}}
{{- end -}}
{{- range $name, $facts := (.Files.Get "apps.yaml" | fromYaml).apps -}}
{{- $values := get $.Values.apps $name -}}
{{- if and (hasKey $values "service") (not (has $name (list "gateway" "sender-policy"))) -}}
{{- $faults = append $faults (printf "apps.%s.service: nobody calls this app" $name) -}}
{{- end -}}
{{- if and (hasKey $values "autoscaling") (ne $name "gateway") (not $facts.lag) -}}
{{- $faults = append $faults (printf "apps.%s.autoscaling: no metric says that it needs more processes; set replicas" $name) -}}
{{- end -}}
{{- if and (hasKey $values "replicas") (include "sendmux.isScaled" (dict "root" $ "name" $name "facts" $facts)) -}}
{{- $faults = append $faults (printf "apps.%s.replicas: its autoscaler decides; set autoscaling.minReplicas, or autoscaling.enabled to false" $name) -}}
{{- end -}}
{{- $metrics := list -}}
{{- range $facts.lag -}}{{- $metrics = append $metrics .metric -}}{{- end -}}
{{- range $metric, $_ := ($values.autoscaling | default dict).targets -}}
{{- if not (has $metric $metrics) -}}
{{- $faults = append $faults (printf "apps.%s.autoscaling.targets.%s: it is scaled by %s" $name $metric ($metrics | join " and " | default "CPU alone")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $faults -}}{{- fail (printf "\n%s" (join "\n" $faults)) -}}{{- end -}}
{{- end }}
