{{/* Gives the spec of a pod. Call with root, name, facts, and args for the command of Node; with `probed` where it
     stays. */}}
{{- define "sendmux.pod" -}}
{{- $root := .root -}}
{{- $values := include "sendmux.values" . | fromYaml -}}
{{- $secrets := include "sendmux.secrets" . | fromYaml -}}
{{- $known := $root.Files.Get "settings.json" | fromJson -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .name }}
    image: {{ include "sendmux.image" $root | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: {{ .args | toJson }}
    env:
      - name: PORT
        value: "3000"
      - name: SENDMUX_DATA_DIR
        value: /data
      {{- range $name, $value := $root.Values.settings }}
      {{- if or (not (hasPrefix "DOMAIN_CONNECT_" $name)) (has "DOMAIN_CONNECT_KEY_FILE" $.facts.secrets) }}
      - name: {{ $name }}
        value: {{ $value | quote }}
      {{- end }}
      {{- end }}
      {{- range $setting, $from := $secrets }}
      - name: {{ has $setting $known.files | ternary $setting (printf "%s_FILE" $setting) }}
        value: /run/secrets/sendmux/{{ $setting }}
      {{- end }}
      {{- with $values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- if .probed }}
    ports:
      - name: http
        containerPort: {{ .facts.port }}
      {{- range $name, $port := .facts.ports }}
      - name: {{ $name }}
        containerPort: {{ $port }}
      {{- end }}
    # A start waits for the lock of migrations, and for what it reads of PostgreSQL.
    startupProbe:
      httpGet: { path: /health/live, port: http }
      periodSeconds: 2
      timeoutSeconds: 4
      failureThreshold: 90
    # An app says itself when only a restart helps, and after a time that it has measured.
    livenessProbe:
      httpGet: { path: /health/live, port: http }
      periodSeconds: 10
      timeoutSeconds: 4
      failureThreshold: 3
    readinessProbe:
      httpGet: { path: /health/ready, port: http }
      periodSeconds: 5
      timeoutSeconds: 4
      failureThreshold: 2
    {{- with .facts.drainSeconds }}
    lifecycle:
      preStop:
        sleep: { seconds: {{ . }} }
    {{- end }}
    {{- end }}
    resources:
      {{- toYaml $values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      privileged: false
      readOnlyRootFilesystem: true
      capabilities: { drop: [ALL] }
    volumeMounts:
      - name: data
        mountPath: /data
      - name: secrets
        mountPath: /run/secrets/sendmux
        readOnly: true
      {{- with $values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: data
    emptyDir: { sizeLimit: 16Mi }
  # A file for each secret, exchanged when the Secret changes: apps follow them, without a restart.
  - name: secrets
    projected:
      defaultMode: 288 # 0440
      sources:
        {{- range $setting, $from := $secrets }}
        - secret:
            name: {{ $from.name | quote }}
            items: [{ key: {{ $from.key | quote }}, path: {{ $setting }} }]
        {{- end }}
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
