import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';
import { loadSettings, portOf, settingNames } from '@app/runtime';

const root = resolve(__dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

interface Service {
  image: string;
  build?: string;
  command?: string[];
  environment: Record<string, string | number>;
  depends_on?: Record<string, { condition: string }>;
  ports?: string[];
  volumes?: string[];
  configs?: { source: string }[];
  restart: string;
  healthcheck?: { test: string[] };
}
interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  configs: Record<string, unknown>;
}

const { services, volumes, configs } = parse(read('docker-compose.yml'), { merge: true }) as Compose;
const built = Object.entries(services).filter(([, { build }]) => build);
const listening = ['gateway', 'provisioning', 'verification-scheduler', 'notifier', 'sandbox'] as const;

describe('docker-compose.yml', () => {
  it('runs every app, each from a file that the build makes', () => {
    expect(built.map(([name]) => name).sort()).toEqual(['migrate', ...listening].sort());
    for (const [name, { command }] of built) {
      const [, app] = /^dist\/apps\/([\w-]+)\/main\.js$/.exec(command![0]!) ?? [];
      expect(existsSync(join(root, `apps/${app}/main.ts`))).toBe(true);
      expect(app).toBe(name === 'migrate' ? 'cli' : name);
    }
    expect(services.migrate!.command).toEqual(['dist/apps/cli/main.js', 'migrate']);
  });

  it('sets only settings that there are, to values that pass', () => {
    for (const [, { environment }] of built) {
      const plain = Object.fromEntries(
        Object.entries(environment).map(([name, value]) => [
          name,
          String(value).replace(/\$\{\w+:-([^}]*)\}/g, (_, fallback: string) => fallback),
        ]),
      );
      expect(Object.keys(plain).filter((name) => !settingNames.includes(name as never))).toEqual([]);
      expect(loadSettings({ ...plain, SENDMUX_DATA_DIR: '/nonexistent' })).toMatchObject({ HOST: '0.0.0.0' });
    }
  });

  it('waits only for services that there are, and for health only where it is asked', () => {
    for (const { depends_on: awaited = {} } of Object.values(services))
      for (const [name, { condition }] of Object.entries(awaited)) {
        expect(services[name]).toBeDefined();
        if (condition === 'service_healthy') expect(services[name]!.healthcheck).toBeDefined();
        if (condition === 'service_completed_successfully') expect(services[name]!.restart).toMatch(/^on-failure/);
      }
    for (const name of listening.filter((app) => app !== 'sandbox'))
      expect(Object.keys(services[name]!.depends_on!)).toEqual(['migrate', 'sandbox']);
  });

  it('asks the health of each app on its own port, and publishes ports that are listened on', () => {
    const port = Number(services.gateway!.environment.PORT);
    for (const app of listening) {
      expect(services[app]!.healthcheck!.test).toEqual(['CMD', 'node', 'tools/health.mjs', String(portOf(app, port))]);
      for (const published of services[app]!.ports ?? [])
        expect(published).toBe(`127.0.0.1:${portOf(app, port)}:${portOf(app, port)}`);
    }
    const { environment } = services.gateway!;
    const at = (app: 'sandbox' | 'sandbox-doh' | 'sandbox-smtp') => `sandbox:${portOf(app, port)}`;
    expect(new URL(environment.AWS_ENDPOINT_URL_SESV2 as string).host).toBe(at('sandbox'));
    expect(new URL(environment.SMTP_URL as string).host).toBe(at('sandbox-smtp'));
    for (const url of (environment.DOH_RESOLVERS as string).split(','))
      expect(new URL(url).host).toBe(at('sandbox-doh'));
  });

  it('mounts only volumes and configs that there are, and restarts what ends', () => {
    for (const { volumes: mounts = [], configs: files = [], restart } of Object.values(services)) {
      for (const mount of mounts) expect(volumes).toHaveProperty(mount.split(':')[0]!);
      for (const { source } of files) expect(configs).toHaveProperty(source);
      expect(restart).toMatch(/^(unless-stopped|on-failure:5)$/);
    }
  });
});

describe('Dockerfile', () => {
  const dockerfile = read('Dockerfile');

  it('copies only what there is and .dockerignore lets through', () => {
    const allowed = read('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, names]) => names!.split(' '));
    expect(copied.length).toBeGreaterThan(8);
    for (const name of copied) {
      expect(existsSync(join(root, name))).toBe(true);
      expect(allowed).toContain(name.split('/')[0]);
    }
  });

  it('does not run as root, and on a Node that the package allows', () => {
    expect(dockerfile.slice(dockerfile.lastIndexOf('FROM '))).toMatch(/^USER node$/m);
    expect(new Set(dockerfile.match(/node:\S+/g)!.filter((name) => name !== 'node:node'))).toEqual(
      new Set(['node:20-bookworm-slim']),
    );
  });
});

describe('docs/settings.md', () => {
  it('has a row for each setting, and none for another', () => {
    const rows = [...read('docs/settings.md').matchAll(/^\| `([A-Z0-9_]+)` \|/gm)].map(([, name]) => name);
    expect(rows.sort()).toEqual([...settingNames].sort());
  });
});
