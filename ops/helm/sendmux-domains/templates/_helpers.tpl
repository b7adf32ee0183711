{{/* Names and labels. Names leave room for the longest app behind them: 63 octets is the most of a label. */}}
{{- define "sendmux.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- default $name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of everything of a release, which never change: selectors use them. */}}
{{- define "sendmux.ofRelease" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
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
{{- range list "PUBLIC_URL" "DOH_RESOLVERS" -}}
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
