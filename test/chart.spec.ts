import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { loadSettings, portOf, secretSettings, type Settings } from '@app/runtime';
import { parse } from 'yaml';
import { gatewaySettings } from '../apps/gateway/gateway.module';
import { senderPolicySettings } from '../apps/sender-policy/sender-policy.module';
import {
  callHelm,
  chart,
  helm,
  judgesAreThere,
  lintDockerfile,
  manifestsOf,
  newestReleases,
  outdated,
  refused,
  render,
  renderings,
  required,
  sealed,
  settingsOfChart,
  stale,
  type Manifest,
} from './support/chart';

const root = resolve(__dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

interface Facts {
  readonly port: number;
  readonly ports?: Readonly<Record<string, number>>;
  readonly secrets?: readonly string[];
  readonly checksAllSettings?: boolean;
  readonly counterparts: readonly string[];
  readonly lag?: readonly { readonly metric: string; readonly labels: Readonly<Record<string, string>> }[];
  readonly paths?: Readonly<Record<'exact' | 'prefix', readonly string[]>>;
}
const { apps, secretsOf, commands } = parse(readFileSync(join(chart, 'apps.yaml'), 'utf8')) as {
  apps: Readonly<Record<string, Facts>>;
  secretsOf: Readonly<Record<'traces' | 'allSettings', readonly string[]>>;
  commands: Readonly<Record<string, Facts>>;
};

describe('what the chart says of the apps', () => {
  it('is what the code says', () => {
    expect(outdated()).toEqual([]);
    const inImage = readdirSync(join(root, 'apps')).filter((name) => !['cli', 'sandbox', 'all-in-one'].includes(name));
    expect(Object.keys(apps).sort()).toEqual(inImage.sort());
    for (const [name, { port, ports = {} }] of Object.entries(apps)) {
      expect(port).toBe(portOf(name as 'gateway', 3000));
      for (const further of Object.values(ports)) expect(further).toBe(portOf('sender-policy-postfix', 3000));
    }
  });

  it('names the secrets that each app reads, and no others', () => {
    const { secrets, files } = settingsOfChart();
    const kept = [...secrets, ...files];
    for (const [app, used] of [
      ['gateway', gatewaySettings],
      ['sender-policy', senderPolicySettings],
    ] as const)
      expect([...apps[app]!.secrets!].sort()).toEqual(used.filter((name) => kept.includes(name)).sort());
    const everywhere = [
      ...Object.values(secretsOf),
      ...Object.values({ ...apps, ...commands }).map((each) => each.secrets ?? []),
    ];
    expect([...new Set(everywhere.flat())].sort()).toEqual(kept.sort());
    for (const [app, { checksAllSettings }] of Object.entries(apps))
      expect([app, checksAllSettings === true]).toEqual([
        app,
        /loadSettings\(process\.env\)/.test(read(`apps/${app}/app.ts`)),
      ]);
  });

  it('runs them as the user of the image', () => {
    const { podSecurityContext } = parse(readFileSync(join(chart, 'values.yaml'), 'utf8')) as {
      podSecurityContext: { runAsUser: number; runAsGroup: number; fsGroup: number };
    };
    const { runAsUser, runAsGroup, fsGroup } = podSecurityContext;
    expect(read('Dockerfile')).toContain(`\nUSER ${runAsUser}:${runAsGroup}\n`);
    expect(fsGroup).toBe(runAsGroup);
  });

  it('scales by metrics that the apps have', () => {
    const sources = ['apps', 'libs'].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => /(?<!\.spec)\.ts$/.test(name))
        .map((name) => read(join(folder, name))),
    );
    const named = Object.values(apps).flatMap(({ lag = [] }) => lag);
    expect(named.length).toBeGreaterThan(5);
    for (const { metric, labels } of named) {
      const found = sources.filter((text) => text.includes(`name: '${metric}'`));
      expect([metric, found.length]).toEqual([metric, 1]);
      for (const label of Object.keys(labels)) expect(found[0]).toMatch(new RegExp(`labelNames: \\['${label}'`));
    }
  });

  it('lets customers reach every page of the console, and neither health nor metrics', () => {
    const { exact, prefix } = apps.gateway!.paths!;
    const isPublic = (path: string) =>
      exact.includes(path) || prefix.some((each) => path === each || path.startsWith(`${each}/`));
    const pages = [...read('web/console/main.tsx').matchAll(/(?:case |\[)'(\/[^']*)'/g)].map(([, path]) => path!);
    expect(pages.length).toBeGreaterThan(10);
    for (const path of [...pages, '/setup', '/assets/x.js', '/api/v1/domains', '/domains/mdom_1'])
      expect([path, isPublic(path)]).toEqual([path, true]);
    for (const path of ['/metrics', '/health/ready', '/health/live']) expect(isPublic(path)).toBe(false);
  });
});

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: object }[];
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly resources: Readonly<Record<'requests' | 'limits', Readonly<Record<string, string>>>>;
  readonly [probe: `${string}Probe`]: object | undefined;
}
interface PodSpec {
  readonly automountServiceAccountToken?: boolean;
  readonly securityContext?: Readonly<Record<string, unknown>>;
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly Readonly<Record<string, unknown>>[];
  readonly [host: `host${string}`]: unknown;
}
interface Pod {
  readonly labels: Readonly<Record<string, string>>;
  readonly spec: PodSpec;
  /** Whether it stays, and answers probes. */
  readonly isServing: boolean;
}

/** Gives the pods that an object asks for. */
function podsOf({ kind, metadata, spec }: Manifest): Pod[] {
  if (kind === 'Pod') return [{ labels: metadata.labels!, spec: spec as PodSpec, isServing: false }];
  if (kind !== 'Deployment' && kind !== 'Job') return [];
  const { template } = spec as { template: { metadata: Manifest['metadata']; spec: PodSpec } };
  return [{ labels: template.metadata.labels!, spec: template.spec, isServing: kind === 'Deployment' }];
}

const { secrets, credentials } = settingsOfChart();

/** Gives what a cluster would run with more rights than it needs, or without what keeps it running. */
function faultsOf(manifests: readonly Manifest[]): string[] {
  const faults: string[] = [];
  const selecting = (kind: string, labels: Pod['labels'], selector: 'podSelector' | 'selector') =>
    manifests.filter((each) => {
      if (each.kind !== kind) return false;
      const { matchLabels } = (each.spec as Record<string, { matchLabels: Pod['labels'] }>)[selector]!;
      return Object.entries(matchLabels).every(([name, value]) => labels[name] === value);
    });
  for (const { kind, metadata } of manifests)
    if (['Secret', 'ConfigMap', 'Role', 'ClusterRole', 'RoleBinding', 'ClusterRoleBinding'].includes(kind))
      faults.push(`${metadata.name}: there is a ${kind}`);
  for (const { labels, spec, isServing } of manifests.flatMap(podsOf)) {
    const app = labels['app.kubernetes.io/component']!;
    const holds = (what: string, is: boolean) => void (is || faults.push(`${app}: ${what}`));
    holds('has a token of the API', spec.automountServiceAccountToken === false);
    const { runAsNonRoot, runAsUser, seccompProfile } = spec.securityContext ?? {};
    holds('may be root', runAsNonRoot === true && Number(runAsUser) > 0);
    holds('has no seccomp profile', (seccompProfile as { type?: string } | undefined)?.type === 'RuntimeDefault');
    holds('is on the host', !Object.entries(spec).some(([name, value]) => name.startsWith('host') && value === true));
    holds('mounts the host', !spec.volumes.some((volume) => 'hostPath' in volume));
    for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
      const { image, env, resources, securityContext: may } = container;
      holds('follows a tag', /@sha256:[0-9a-f]{64}$/.test(image));
      holds('writes to its image', may.readOnlyRootFilesystem === true);
      holds('may gain rights', may.allowPrivilegeEscalation === false && may.privileged !== true);
      const { drop = [], add = [] } = (may.capabilities ?? {}) as Record<'drop' | 'add', string[] | undefined>;
      holds('has capabilities', drop.includes('ALL') && add.length === 0);
      holds('asks for no CPU or memory', !!resources.requests.cpu && !!resources.requests.memory);
      holds('has no limit of memory', !!resources.limits.memory);
      for (const { name, value } of env.filter((each) => each.value !== undefined))
        holds(
          `has ${name} in clear`,
          ![...secrets, ...credentials].includes(name) && !/:\/\/[^/\s]*:[^/\s]*@/.test(value!),
        );
      if (isServing)
        for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const)
          holds(`has no ${probe}`, container[probe] !== undefined);
    }
    const policies = selecting('NetworkPolicy', labels, 'podSelector');
    holds('may be reached, and reach, whatever there is', policies.some(deniesBoth));
    if (isServing) holds('has no disruption budget', selecting('PodDisruptionBudget', labels, 'selector').length === 1);
  }
  return faults;
}

const deniesBoth = ({ spec }: Manifest) => {
  const { policyTypes } = spec as { policyTypes: string[] };
  return policyTypes.includes('Ingress') && policyTypes.includes('Egress');
};

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'sendmux-chart-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Name = keyof typeof renderings;
const names = Object.keys(renderings) as Name[];
/** What is kept; that it is what Helm renders is for `npm run chart:check`. */
const rendered = Object.fromEntries(
  names.map((name) => [name, manifestsOf(readFileSync(renderings[name].file, 'utf8'))]),
) as Record<Name, Manifest[]>;
const itJudged = judgesAreThere ? it : it.skip;

describe('the chart, as it is kept rendered', () => {
  const find = (manifests: readonly Manifest[], kind: string, app: string) =>
    manifests.find(
      ({ kind: its, metadata }) => its === kind && metadata.labels?.['app.kubernetes.io/component'] === app,
    );
  const specOf = (manifests: readonly Manifest[], kind: string, app: string) =>
    find(manifests, kind, app)?.spec as Record<string, unknown> | undefined;
  const running = (manifests: readonly Manifest[]) =>
    manifests
      .filter(({ kind }) => kind === 'Deployment')
      .map(({ metadata }) => metadata.labels!['app.kubernetes.io/component']!)
      .sort();

  itJudged('passes make check: three releases of Kubernetes, hadolint, and Helm where it is there', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'tools/chart.mjs'), '--check'], {
      encoding: 'utf8',
    });
    expect(`${stdout}${stderr}`).toBe('');
    expect(status).toBe(0);
  });

  it('says without Helm that it is not of this chart, or was changed by hand', () => {
    const changed = join(folder, 'changed');
    cpSync(chart, changed, { recursive: true });
    expect(stale(changed)).toEqual([]);
    writeFileSync(join(changed, 'settings.json'), '{}');
    expect(stale(changed)).toEqual([]);
    const template = join(changed, 'templates/tests/doctor.yaml');
    writeFileSync(template, readFileSync(template, 'utf8').replace('Never', 'Always'));
    expect(stale(changed)).toEqual(names.map((name) => renderings[name].file.slice(root.length + 1)));
    const values = join(folder, 'values.yaml');
    writeFileSync(values, `${readFileSync(required, 'utf8')} `);
    const kept = readFileSync(renderings.required.file, 'utf8');
    const text = kept.slice(kept.indexOf('\n') + 1);
    expect(sealed(text, renderings.required)).toBe(kept);
    expect(sealed(text, { values: [values] }).split('\n')[0]).not.toBe(kept.split('\n')[0]);
    expect(sealed(`${text} `, renderings.required).split('\n')[0]).not.toBe(kept.split('\n')[0]);
  });

  it('is rendered with values that name settings', () => {
    const { plain, files } = settingsOfChart();
    for (const file of [join(chart, 'values.yaml'), ...names.flatMap((name) => renderings[name].values)]) {
      const values = parse(readFileSync(file, 'utf8')) as { settings?: object; secrets?: { files: object } };
      expect(plain).toEqual(expect.arrayContaining(Object.keys(values.settings ?? {})));
      expect([...secrets, ...files]).toEqual(expect.arrayContaining(Object.keys(values.secrets?.files ?? {})));
    }
  });

  itJudged('each release of Kubernetes refuses a field that it does not know, or of another type', () => {
    const [deployment] = rendered.required.filter(({ kind }) => kind === 'Deployment');
    const planted = [
      { ...deployment!, spec: { ...(deployment!.spec as object), replica: 2 } },
      { ...deployment!, spec: { ...(deployment!.spec as object), replicas: 'two' } },
    ];
    const releases = newestReleases(3);
    expect(new Set(releases.map((each) => each.split('.').slice(0, 2).join('.'))).size).toBe(3);
    expect(refused(planted, releases)).toHaveLength(planted.length * releases.length);
  });

  it('runs an app for each process, on Kafka event-relay too, and what is left out is not there', () => {
    const all = Object.keys(apps).sort();
    expect(running(rendered.everything)).toEqual(all);
    expect(running(rendered.required)).toEqual(all.filter((name) => name !== 'event-relay'));
    const without = ['event-relay', 'webhooks', 'sender-policy'];
    expect(running(rendered.least)).toEqual(all.filter((name) => !without.includes(name)));
    expect(rendered.least.filter(({ metadata }) => without.some((name) => metadata.name.endsWith(name)))).toEqual([]);
  });

  it.each(names)('gives no pod more than it needs (%s)', (name) => {
    expect(rendered[name].flatMap(podsOf).length).toBeGreaterThan(4);
    expect(faultsOf(rendered[name])).toEqual([]);
  });

  /** Each weakens a pod, or what is around it, and names the fault that has to be found. */
  const planted: [string, (text: string) => string][] = [
    ['has a token of the API', (text) => text.replaceAll('automountServiceAccountToken: false', '')],
    ['may be root', (text) => text.replaceAll('runAsNonRoot: true', '')],
    ['may be root', (text) => text.replaceAll('runAsUser: 1000', 'runAsUser: 0')],
    ['has no seccomp profile', (text) => text.replaceAll('type: RuntimeDefault', 'type: Unconfined')],
    ['is on the host', (text) => text.replaceAll('enableServiceLinks: false', 'hostNetwork: true')],
    ['mounts the host', (text) => text.replaceAll('emptyDir: { sizeLimit: 16Mi }', 'hostPath: { path: / }')],
    ['follows a tag', (text) => text.replaceAll(/@sha256:0{64}/g, ':latest')],
    ['writes to its image', (text) => text.replaceAll('readOnlyRootFilesystem: true', '')],
    ['may gain rights', (text) => text.replaceAll('privileged: false', 'privileged: true')],
    ['has capabilities', (text) => text.replaceAll('drop: [ALL]', 'drop: [ALL], add: [NET_RAW]')],
    ['has capabilities', (text) => text.replaceAll('capabilities: { drop: [ALL] }', '')],
    ['asks for no CPU or memory', (text) => text.replaceAll(/^ +cpu: \d+m$/gm, '')],
    ['has DATABASE_URL in clear', (text) => text.replaceAll('name: DATABASE_URL_FILE', 'name: DATABASE_URL')],
    ['has PUBLIC_URL in clear', (text) => text.replaceAll('https://app', 'https://user:secret@app')],
    ['has no readinessProbe', (text) => text.replaceAll('readinessProbe', 'otherProbe')],
    ['may be reached, and reach, whatever there is', (text) => text.replaceAll('[Ingress, Egress]', '[Ingress]')],
    ['has no disruption budget', (text) => text.replaceAll('kind: PodDisruptionBudget', 'kind: Other')],
    ['there is a ConfigMap', (text) => text.replace('kind: Service\n', 'kind: ConfigMap\n')],
  ];
  it.each(planted)('such a fault is found: %s', (fault, weaken) => {
    const text = read('ops/helm/rendered.yaml');
    expect(weaken(text)).not.toBe(text);
    expect(faultsOf(manifestsOf(weaken(text))).join('\n')).toContain(fault);
  });

  it.each(names)('gives each app settings with which it starts (%s)', (name) => {
    const given = {
      DATABASE_URL: 'postgres://user:secret@postgres/events',
      DATABASE_DIRECT_URL: 'postgres://user:secret@postgres/events',
      MAIL_SERVER_DATABASE_URL: 'postgres://user:secret@postgres/mail',
      MAIL_SERVER_DATABASE_DIRECT_URL: 'postgres://user:secret@postgres/mail',
      SMTP_URL: 'smtp://user:secret@smtp:587',
      PERSONAL_DATA_KEYS: `a=${Buffer.alloc(32).toString('base64')}`,
      WEBHOOK_SECRET_KEYS: `a=${Buffer.alloc(32).toString('base64')}`,
    };
    const mount = join(folder, name);
    mkdirSync(mount);
    for (const secret of secretSettings)
      writeFileSync(join(mount, secret), given[secret as keyof typeof given] ?? 'secret');
    const only: Record<string, readonly (keyof Settings)[]> = {
      gateway: gatewaySettings,
      'sender-policy': senderPolicySettings,
      migrate: commands.migrate!.secrets as (keyof Settings)[],
    };
    const containers = rendered[name].flatMap(podsOf).flatMap(({ spec }) => spec.containers);
    for (const { name: app, env, args } of containers) {
      const variables = env.map(({ name: variable, value = 'from-a-secret' }) => [
        variable,
        value.replace('/run/secrets/sendmux', mount),
      ]);
      const settings = loadSettings(Object.fromEntries(variables) as NodeJS.ProcessEnv, only[app]);
      if (app in apps) expect(args).toEqual([`dist/apps/${app}/main.js`]);
      else expect(args).toEqual(['dist/apps/cli/main.js', app]);
      if (settings.DATABASE_URL) expect(settings.DATABASE_URL).toBe(given.DATABASE_URL);
      expect(existsSync(join(root, args[0]!.replace(/^dist(.*)\.js$/, '.$1.ts')))).toBe(true);
    }
  });

  it('mounts for each variable of a file the secret of that name, and no app has one that it does not read', () => {
    for (const manifests of Object.values(rendered))
      for (const { spec } of manifests.flatMap(podsOf))
        for (const { name, env } of spec.containers) {
          const { projected } = spec.volumes.find((volume) => volume.name === 'secrets') as {
            projected: { sources: { secret: { items: { path: string }[] } }[] };
          };
          const mounted = projected.sources.flatMap(({ secret }) => secret.items.map(({ path }) => path));
          const named = env.flatMap(({ value = '' }) => /^\/run\/secrets\/sendmux\/(.+)$/.exec(value)?.[1] ?? []);
          expect(named).toEqual(mounted);
          const { secrets: own = [], checksAllSettings } = (apps[name] ?? commands[name])!;
          const all = [...own, ...secretsOf.traces, ...(checksAllSettings ? secretsOf.allSettings : [])];
          expect(mounted.filter((secret) => !all.includes(secret))).toEqual([]);
        }
    const variables = podsOf(find(rendered.everything, 'Deployment', 'notifier')!)[0]!.spec.containers[0]!.env;
    expect(variables.map(({ name }) => name)).not.toContain('DOMAIN_CONNECT_PROVIDERS');
  });

  it('migrates before anything else of it is there, by what is there by then', () => {
    const hooks = rendered.everything.filter(
      ({ metadata }) => metadata.annotations?.['helm.sh/hook'] === 'pre-install,pre-upgrade',
    );
    const weight = (kind: string) =>
      Number(hooks.find((each) => each.kind === kind)!.metadata.annotations!['helm.sh/hook-weight']);
    expect(hooks.map(({ kind }) => kind).sort()).toEqual(['Job', 'NetworkPolicy']);
    expect(weight('NetworkPolicy')).toBeLessThan(weight('Job'));
    const { template } = specOf(rendered.everything, 'Job', 'migrate') as unknown as { template: { spec: object } };
    expect(template.spec).toMatchObject({ serviceAccountName: 'default', restartPolicy: 'Never' });
  });

  it('lets only the app webhooks reach whatever port of the Internet, and nobody call what is not theirs', () => {
    const egressOf = (manifests: readonly Manifest[], app: string) =>
      specOf(manifests, 'NetworkPolicy', app)!.egress as { to?: object[]; ports: { port: number }[] }[];
    const portsOf = (app: string) =>
      egressOf(rendered.everything, app).flatMap(({ ports }) => ports.map(({ port }) => port));
    for (const app of Object.keys(apps))
      expect(JSON.stringify(egressOf(rendered.everything, app)).includes('"0.0.0.0/0"')).toBe(app === 'webhooks');
    // Kafka, the mails, and collectors of traces.
    for (const app of ['sender-policy', 'gateway']) expect(portsOf(app)).not.toContain(9096);
    for (const app of Object.keys(apps)) expect(portsOf(app).includes(587)).toBe(app === 'notifier');
    for (const app of Object.keys(apps)) expect(portsOf(app)).toContain(4318);
    // Tokens for Kafka are asked for over https; sender-policy calls nobody there.
    expect(portsOf('sealer')).toContain(443);
    expect(portsOf('sender-policy')).not.toContain(443);
  });

  it('keeps the app webhooks from the networks that are inside', () => {
    for (const manifests of Object.values(rendered)) {
      const rules = specOf(manifests, 'NetworkPolicy', 'webhooks')?.egress as
        { to?: { ipBlock?: { cidr: string; except: string[] } }[]; ports: { port: number }[] }[] | undefined;
      for (const { to, ports } of rules ?? [])
        if (ports.some(({ port }) => port === 443)) {
          const [wide, ...others] = to!.map(({ ipBlock }) => ipBlock!);
          expect(wide!.cidr).toBe('0.0.0.0/0');
          const inside = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '169.254.0.0/16', '100.64.0.0/10'];
          expect(wide!.except).toEqual(expect.arrayContaining(inside));
          expect(others.map(({ cidr }) => cidr)).toEqual(['2000::/3']);
        }
    }
  });

  it('scales the gateway by CPU, and consumers by lag where there are metrics', () => {
    const scaled = (manifests: readonly Manifest[]) =>
      manifests
        .filter(({ kind }) => ['HorizontalPodAutoscaler', 'ScaledObject'].includes(kind))
        .map(({ kind, metadata }) => `${kind} ${metadata.labels!['app.kubernetes.io/component']}`)
        .sort();
    const byLag = ['notifier', 'provisioning', 'verification-scheduler', 'webhooks'];
    expect(scaled(rendered.required)).toEqual(['HorizontalPodAutoscaler gateway']);
    expect(scaled(rendered.least)).toEqual([]);
    expect(scaled(rendered['external-lag'])).toEqual(
      ['gateway', ...byLag].map((app) => `HorizontalPodAutoscaler ${app}`),
    );
    expect(scaled(rendered.everything)).toEqual([
      'HorizontalPodAutoscaler gateway',
      ...byLag.map((app) => `ScaledObject ${app}`),
    ]);
    // An upgrade must not set back what an autoscaler has decided.
    for (const app of byLag) {
      expect(specOf(rendered.everything, 'Deployment', app)).not.toHaveProperty('replicas');
      expect(specOf(rendered.required, 'Deployment', app)).toHaveProperty('replicas', 2);
    }
    const { triggers } = specOf(rendered.everything, 'ScaledObject', 'webhooks') as unknown as {
      triggers: { metadata: { query: string } }[];
    };
    expect(triggers.map(({ metadata }) => metadata.query)).toEqual([
      'max(sendmux_webhook_oldest_due_seconds{namespace="mail",lane="live"})',
      'sum(sendmux_events_behind{namespace="mail",group="webhooks"})',
    ]);
  });

  it('leads customers to the API and the pages, under the host of PUBLIC_URL', () => {
    const { rules, tls } = specOf(rendered.everything, 'Ingress', 'gateway') as unknown as {
      rules: { host: string; http: { paths: { path: string }[] } }[];
      tls: { hosts: string[] }[];
    };
    const { exact, prefix } = apps.gateway!.paths!;
    expect(rules.map(({ host }) => host)).toEqual(['app.example.com']);
    expect(tls.flatMap(({ hosts }) => hosts)).toEqual(['app.example.com']);
    expect(rules[0]!.http.paths.map(({ path }) => path)).toEqual([...exact, ...prefix]);
    const route = specOf(rendered.everything, 'HTTPRoute', 'gateway') as unknown as {
      hostnames: string[];
      rules: { matches: { path: { value: string } }[] }[];
    };
    expect(route.hostnames).toEqual(['app.example.com']);
    expect(route.rules.flatMap(({ matches }) => matches.map(({ path }) => path.value))).toEqual([...exact, ...prefix]);
  });

  it('goes on while others hear of its end, and is given the time that a stop takes', () => {
    const stop = Number(/stopWithinMs = ([\d_]+)/.exec(read('libs/process/run-app.ts'))![1]!.replace('_', ''));
    for (const [app, { drainSeconds = 0 }] of Object.entries(
      apps as Record<string, Facts & { drainSeconds?: number }>,
    )) {
      const { template } = specOf(rendered.everything, 'Deployment', app) as unknown as {
        template: { spec: PodSpec & { terminationGracePeriodSeconds: number } };
      };
      const { lifecycle } = template.spec.containers[0] as unknown as {
        lifecycle?: { preStop: { sleep: { seconds: number } } };
      };
      expect(lifecycle?.preStop.sleep.seconds ?? 0).toBe(drainSeconds);
      expect(template.spec.terminationGracePeriodSeconds * 1000).toBeGreaterThan(drainSeconds * 1000 + stop + 3_000);
      expect(drainSeconds > 0).toBe(specOf(rendered.everything, 'Service', app) !== undefined);
    }
  });

  it('has Prometheus know each app by the job that the alarms name', () => {
    const { podMetricsEndpoints } = rendered.everything.find(({ kind }) => kind === 'PodMonitor')!.spec as {
      podMetricsEndpoints: { relabelings: object[] }[];
    };
    expect(podMetricsEndpoints[0]!.relabelings).toEqual([
      {
        sourceLabels: ['__meta_kubernetes_pod_label_app_kubernetes_io_component'],
        targetLabel: 'job',
        replacement: 'sendmux-$1',
      },
    ]);
  });

  itJudged('has its Dockerfiles judged', () => {
    const bad = join(folder, 'Dockerfile');
    writeFileSync(bad, `${read('Dockerfile')}\nUSER root\nRUN cd /tmp && apt-get install curl\n`);
    expect(lintDockerfile(bad)).toMatch(/DL3002[^]*DL3008|DL3008[^]*DL3002/);
  });
});

/** Without Helm it is one test that says what is left out. */
if (!helm)
  it.skip('the chart is rendered anew, linted and packed, and refuses wrong values: tools/install-counterparts --helm', () =>
    undefined);
(helm ? describe : () => undefined)('the chart, by Helm', () => {
  const wrong: [string, string][] = [
    [
      'settings.DATABASE_URL="postgres://user:secret@host/x"',
      'settings.DATABASE_URL is a secret: put it into a Secret',
    ],
    ['settings.AWS_SECRET_ACCESS_KEY="x"', 'settings.AWS_SECRET_ACCESS_KEY is a secret: give the pods a role of IAM'],
    ['settings.KAFKA_CA_FILE="/x"', 'settings.KAFKA_CA_FILE is a file: put it into a Secret'],
    ['settings.PORT="80"', 'settings.PORT is given by the chart'],
    ['settings.MAX_DOMAIN="9"', 'settings.MAX_DOMAIN is no setting'],
    ['settings.MAX_DOMAINS=1000000', "at '/settings/MAX_DOMAINS': got number, want string"],
    ['settings.PUBLIC_URL=""', 'settings.PUBLIC_URL is not set'],
    ['secrets.files.LOG_LEVEL={}', 'secrets.files.LOG_LEVEL is no secret setting'],
    ['secrets.files.SMTP_URL=null', 'secrets.files.SMTP_URL is missing'],
    ['secrets.files.WEBHOOK_SECRET_KEYS=null', 'secrets.files.WEBHOOK_SECRET_KEYS is missing'],
    ['secrets.files.AUDIT_SIGNING_KEY_FILE=null', 'secrets.files.AUDIT_SIGNING_KEY_FILE is missing'],
    ['image.digest=""', 'image.digest: give the digest of the image'],
    ['image.digest="sha256:abc"', "at '/image/digest'"],
    ['image.repository=""', 'image.repository: name the repository'],
    ['apps.gateway.replica=3', "additional properties 'replica' not allowed"],
    ['apps.sandbox={}', "additional properties 'sandbox' not allowed"],
    ['replicaCount=3', "additional properties 'replicaCount' not allowed"],
    ['apps.notifier.service={"type":"ClusterIP"}', 'apps.notifier.service: nobody calls this app'],
    [
      'apps.sealer.autoscaling={"enabled":true,"minReplicas":1,"maxReplicas":2}',
      'apps.sealer.autoscaling: no metric says that it needs more processes',
    ],
    ['apps.webhooks.autoscaling.targets.lag=5', 'it is scaled by sendmux_webhook_oldest_due_seconds and'],
    ['lagMetrics.from="datadog"', "at '/lagMetrics/from'"],
    ['httpRoute.enabled=true', "at '/httpRoute/parentRefs'"],
    ['networkPolicy.counterparts.postgresql.ports=[0]', "at '/networkPolicy/counterparts/postgresql/ports/0'"],
    ['settings=null', "missing property 'settings'"],
    ['settings.HOST=null', 'settings.HOST is not set'],
    ['apps.gateway=null', "at '/apps': missing property 'gateway'"],
    ['defaults.resources=null', "at '/defaults': missing property 'resources'"],
    ['apps.gateway.resources.limits=null', "at '/apps/gateway/resources': missing property 'limits'"],
    ['networkPolicy.from=null', "at '/networkPolicy': missing property 'from'"],
    ['networkPolicy.counterparts.ses=null', "at '/networkPolicy/counterparts': missing property 'ses'"],
    ['networkPolicy.internet.except=["fd00::/8"]', "at '/networkPolicy/internet/except/0'"],
    ['networkPolicy.internet.exceptV6=["fd00::/8"]', "at '/networkPolicy/internet/exceptV6/0'"],
    ['image.digest="SHA256:ABC"', "at '/image/digest'"],
    ['apps.gateway.replicas=5', 'apps.gateway.replicas: its autoscaler decides; set autoscaling.minReplicas'],
    ['apps.gateway.autoscaling.maxReplicas=1', 'apps.gateway.autoscaling: minReplicas is more than maxReplicas'],
    ['defaults.podLabels={"app.kubernetes.io/component":"x"}', 'defaults.podLabels: app.kubernetes.io/component is a'],
    ['podMonitor.labels={"helm.sh/chart":"x"}', 'podMonitor.labels: helm.sh/chart is a label of the chart'],
    ['defaults.extraVolumes=[{"name":"data"}]', 'defaults.extraVolumes: the chart has a volume data itself'],
    ['apps.sealer.extraEnv=[{"name":"PORT","value":"80"}]', 'apps.sealer.extraEnv: PORT is set twice'],
    ['apps.sealer.extraEnv=[{"name":"PUBLIC_URL","value":"x"}]', 'apps.sealer.extraEnv: PUBLIC_URL is set twice'],
    [
      'defaults.extraEnv=[{"name":"SMTP_URL","value":"smtp://user:secret@host"}]',
      'defaults.extraEnv: SMTP_URL is a secret: name a Secret by valueFrom.secretKeyRef',
    ],
    ['prometheusRules.enabled=true', 'not made by `npm run chart:package`'],
  ];
  it.each(wrong)('refuses %s, and says why', (value, why) => {
    const { status, stderr } = render([required], { set: [value] });
    expect([status, stderr]).toEqual([1, expect.stringContaining(why)]);
    expect(stderr).not.toContain('://user:secret');
  });

  it.each([
    ['app.example.com', true],
    ['https://10.0.0.1', true],
    ['https://[2001:db8::1]', true],
    ['https://app.example.com', false],
  ])('leads customers to no host that is none: %s, and the gateway enabled: %s', (url, gateway) => {
    for (const by of ['ingress={"enabled":true}', 'httpRoute={"enabled":true,"parentRefs":[{"name":"x"}]}']) {
      const set = [by, `settings.PUBLIC_URL="${url}"`, `apps.gateway.enabled=${gateway}`];
      const why = gateway ? 'settings.PUBLIC_URL: ingress and httpRoute take' : 'set apps.gateway.enabled';
      const { status, stderr } = render([required], { set });
      expect([status, stderr]).toEqual([1, expect.stringContaining(why)]);
    }
  });

  it('has names and texts that YAML reads as something else, or Kubernetes does not take', () => {
    for (const as of ['1234', '9lives', 'mail.eu']) {
      const { status, stderr } = render([required], { as });
      expect([status, stderr]).toEqual([1, expect.stringContaining('by fullnameOverride')]);
    }
    const odd: [string, string[]][] = [
      ['1e3', ['fullnameOverride="true"', 'secrets.name="123"', 'secrets.files.SMTP_URL={"name":"1e3","key":"1.0"}']],
      [
        'true',
        ['defaults.priorityClassName="123"', 'migration.serviceAccountName="1"', 'apps.provisioning.enabled=false'],
      ],
      [`a${'b'.repeat(52)}`, ['image.repository="1.example.com:5000/x"', 'image.tag="1.10"', 'image.digest=""']],
      ['x', ['ingress={"enabled":true,"className":"1"}', 'settings.PUBLIC_URL="https://App.Example.COM:8443/x"']],
      ['x', ['settings.HOST="::"', 'settings.MAX_DOMAINS="1e3"', 'networkPolicy.internet.exceptV6=["2a00:1450::/29"]']],
      [
        'x',
        [
          'networkPolicy.internet.except=[]',
          'defaults.resources={"requests":{"cpu":1,"memory":"1Gi"},"limits":{"memory":"1Gi"}}',
        ],
      ],
    ];
    const all = odd.flatMap(([as, set]) => {
      const { status, stdout, stderr } = render([required], { as, set });
      expect([status, stderr]).toEqual([0, '']);
      return manifestsOf(stdout);
    });
    for (const { metadata } of all) {
      expect(metadata.name).toMatch(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
      for (const label of Object.values(metadata.labels!)) expect(label).toMatch(/^[A-Za-z0-9][\w.-]{0,62}$/);
    }
    expect(JSON.stringify(all)).toContain('"host":"app.example.com"');
    if (judgesAreThere) expect(refused(all, newestReleases(1))).toEqual([]);
  });

  it('names everything that is missing at once, and follows a tag only when told', () => {
    const { stderr } = render([], { set: ['image.repository="x"', 'image.tag="0.1.0"'] });
    for (const setting of ['PUBLIC_URL', 'DOH_RESOLVERS']) expect(stderr).toContain(`settings.${setting} is not set`);
    const { stdout } = render([required], { set: ['image.digest=""', 'image.tag="0.1.0"'] });
    expect(faultsOf(manifestsOf(stdout)).every((fault) => fault.endsWith('follows a tag'))).toBe(true);
  });

  it('is packed with the alarms, as they are', () => {
    const staged = join(folder, basename(chart));
    cpSync(chart, staged, { recursive: true });
    mkdirSync(join(staged, 'rules'));
    const groups = [
      { name: 'x', rules: [{ alert: 'X', expr: 'up == 0', annotations: { summary: '{{ $labels.app }} is down' } }] },
    ];
    writeFileSync(join(staged, 'rules/x.rules.yml'), JSON.stringify({ groups }));
    const { stdout } = render([required], { of: staged, set: ['prometheusRules.enabled=true'] });
    const rules = manifestsOf(stdout).filter(({ kind }) => kind === 'PrometheusRule');
    expect(rules.map(({ metadata, spec }) => [metadata.name, spec])).toEqual([['sendmux-domains-x-rules', { groups }]]);
    const packed = spawnSync(process.execPath, [join(root, 'tools/chart.mjs'), '--package', folder], {
      encoding: 'utf8',
    });
    const { version } = JSON.parse(read('package.json')) as { version: string };
    expect(packed).toMatchObject({ status: 0, stderr: '' });
    expect(
      callHelm('lint', '--strict', join(folder, `sendmux-domains-${version}.tgz`), '--values', required),
    ).toMatchObject({ status: 0 });
  });
});
