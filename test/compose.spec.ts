import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';
import { loadSettings, portOf, secretSettings, settingNames } from '@app/runtime';

const root = resolve(__dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

interface Service {
  image: string;
  build?: string | { context: string; target: string };
  command?: string[];
  environment: Record<string, string | number>;
  depends_on?: Record<string, { condition: string }>;
  ports?: string[];
  volumes?: string[];
  configs?: { source: string; target: string }[];
  restart: string;
  read_only?: boolean;
  cap_drop?: string[];
  security_opt?: string[];
  healthcheck?: { test: string[] };
}
interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  configs: Record<string, { content: string }>;
}

const { services, volumes, configs } = parse(read('docker-compose.yml'), { merge: true }) as Compose;
const built = Object.entries(services).filter(([, { image }]) => /^sendmux-domains(-sandbox)?$/.test(image));
const onKafka = ['provisioning', 'verification-scheduler', 'notifier', 'event-relay', 'sealer', 'webhooks'] as const;
const listening = ['gateway', ...onKafka, 'sender-policy', 'sandbox'] as const;
/** Resolves the defaults of `${NAME:-default}`, and `$$` to a dollar sign, as compose does. */
const plain = (text: unknown) =>
  String(text)
    .replace(/\$\{\w+:-([^}]*)\}/g, (_, fallback: string) => fallback)
    .replaceAll('$$', '$');

describe('docker-compose.yml', () => {
  it('runs every app, each from a file that the build makes', () => {
    expect(built.map(([name]) => name).sort()).toEqual(['migrate', ...listening].sort());
    // The services are all apps except the command line, which `migrate` runs, and the process that holds several.
    expect(readdirSync(join(root, 'apps')).sort()).toEqual(['cli', 'all-in-one', ...listening].sort());
    for (const [name, { command }] of built) {
      const [, app] = /^dist\/apps\/([\w-]+)\/main\.js$/.exec(command![0]!) ?? [];
      expect(existsSync(join(root, `apps/${app}/main.ts`))).toBe(true);
      expect(app).toBe(name === 'migrate' ? 'cli' : name);
    }
    expect(services.migrate!.command).toEqual(['dist/apps/cli/main.js', 'migrate']);
  });

  it('builds the sandbox with the packages of development, and everything else without', () => {
    for (const [name, { image, build }] of built) {
      const sandbox = name === 'sandbox';
      expect(image).toBe(sandbox ? 'sendmux-domains-sandbox' : 'sendmux-domains');
      expect(build).toEqual(sandbox ? { context: '.', target: 'sandbox' } : '.');
    }
  });

  it('sets only known settings, to valid values', () => {
    for (const [, { environment }] of built) {
      const given = Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, plain(value)]));
      expect(Object.keys(given).filter((name) => !settingNames.includes(name as never))).toEqual([]);
      expect(loadSettings({ ...given, SENDMUX_DATA_DIR: '/nonexistent' })).toMatchObject({ HOST: '0.0.0.0' });
    }
  });

  it('waits only for existing services, and for health only where there is a health check', () => {
    for (const { depends_on: awaited = {} } of Object.values(services))
      for (const [name, { condition }] of Object.entries(awaited)) {
        expect(services[name]).toBeDefined();
        if (condition === 'service_healthy') expect(services[name]!.healthcheck).toBeDefined();
        if (condition === 'service_completed_successfully') expect(services[name]!.restart).toMatch(/^on-failure/);
      }
    // The gateway appends to the store and needs no Kafka.
    expect(Object.keys(services.gateway!.depends_on!)).toEqual(['migrate', 'sandbox']);
    for (const name of onKafka)
      expect(Object.keys(services[name]!.depends_on!)).toEqual(['migrate', 'sandbox', 'kafka']);
  });

  it('checks the health of each app on its own port, and publishes only ports in use', () => {
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

  it('gives no app more rights than it needs', () => {
    for (const [, service] of built)
      expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] });
  });

  it('mounts only existing volumes and configs, and restarts services that end', () => {
    for (const { volumes: mounts = [], configs: files = [], restart } of Object.values(services)) {
      for (const mount of mounts) expect(volumes).toHaveProperty(mount.split(':')[0]!);
      for (const { source } of files) expect(configs).toHaveProperty(source);
      expect(restart).toMatch(/^(unless-stopped|on-failure:5)$/);
    }
  });
});

describe('its Kafka', () => {
  const { environment, volumes: mounts } = services.kafka!;

  it('is one node at the address of the apps’ setting', () => {
    const { KAFKA_BROKERS } = services.gateway!.environment;
    expect(environment.KAFKA_ADVERTISED_LISTENERS).toBe(`PLAINTEXT://${KAFKA_BROKERS}`);
    const port = String(KAFKA_BROKERS).split(':')[1];
    expect(environment.KAFKA_LISTENERS).toBe(`PLAINTEXT://:${port},CONTROLLER://:9093`);
    expect(environment.KAFKA_CONTROLLER_QUORUM_VOTERS).toBe(`${environment.KAFKA_NODE_ID}@kafka:9093`);
    expect(services.kafka!.healthcheck!.test.slice(1)).toEqual([
      '/opt/kafka/bin/kafka-broker-api-versions.sh',
      '--bootstrap-server',
      KAFKA_BROKERS,
    ]);
  });

  it('keeps its data in its volume, without replication', () => {
    expect(mounts).toEqual([`kafka:${environment.KAFKA_LOG_DIRS}`]);
    for (const topic of ['OFFSETS_TOPIC', 'TRANSACTION_STATE_LOG'])
      expect(environment[`KAFKA_${topic}_REPLICATION_FACTOR`]).toBe(1);
  });
});

describe('its Postfix', () => {
  const dockerfile = read('local/postfix/Dockerfile');
  const documented = read('docs/operations/postfix.md');
  const blocks = (language: string) =>
    [...documented.matchAll(new RegExp('```' + language + '\\n([^]*?)```', 'g'))].map(([, text]) =>
      text!.trim().split('\n'),
    );
  const config = (name: string) => plain(configs[name]!.content).trim().split('\n');

  it('has the main.cf of the documentation, except for the transport', () => {
    const main = blocks('ini').at(-1)!;
    expect(main.length).toBeGreaterThan(4);
    for (const line of main.filter((text) => !text.startsWith('virtual_transport')))
      expect(dockerfile).toContain(`'${line.replace('inet:127.0.0.1:3007', 'inet:sender-policy:3007')}' \\`);
    const [, sandbox] = /virtual_transport = smtp:\[sandbox\]:(\d+)'/.exec(dockerfile)!;
    expect(Number(sandbox)).toBe(portOf('sandbox-smtp', Number(services.gateway!.environment.PORT)));
  });

  it('reads the maps of the documentation, in the database that the apps write', () => {
    const maps = services.postfix!.configs!.map(({ source }) => config(source));
    const queries = blocks('ini').slice(0, -1);
    expect(maps.map((lines) => lines.at(-1))).toEqual(queries.map((lines) => lines.at(-1)));
    for (const lines of maps) expect(lines.slice(0, -1)).toEqual(config('postfix-domains').slice(0, -1));
    const { host, pathname } = new URL(plain(services.gateway!.environment.MAIL_SERVER_DATABASE_URL));
    expect(config('postfix-domains')).toContain(`hosts = ${host}`);
    expect(config('postfix-domains')).toContain(`dbname = ${pathname.slice(1)}`);
    for (const { target } of services.postfix!.configs!) expect(dockerfile).toMatch(new RegExp(`pgsql:${target}[',]`));
  });

  it('can only read there, with its password', () => {
    const [, user, password, database] = config('postfix-domains').map((line) => line.split(' = ')[1]!);
    expect(config('mail-server-database')).toEqual([
      `CREATE DATABASE ${database};`,
      `CREATE ROLE ${user} LOGIN PASSWORD '${password}';`,
      `\\connect ${database}`,
      `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO ${user};`,
    ]);
  });
});

describe('Dockerfile', () => {
  const dockerfile = read('Dockerfile');

  it('copies only existing paths that .dockerignore does not exclude', () => {
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

  it('does not run as root, but as the user of a number, which Kubernetes can tell from root', () => {
    const runs = dockerfile.split(/^FROM /m).filter((stage) => /^CMD /m.test(stage));
    expect(runs).toHaveLength(2);
    for (const stage of runs) expect(stage).toMatch(/^USER 1000:1000$/m);
    expect(dockerfile).toContain('chown 1000:1000 /data');
  });

  it('lists what is in the image beside it, and says what it is built on', () => {
    const product = dockerfile.slice(dockerfile.lastIndexOf('FROM '));
    expect(product).toMatch(/npm ci --omit=dev [^]*npm run --silent sbom >sbom\.cdx\.json/);
    for (const label of ['title', 'licenses', 'version', 'revision', 'base.name'])
      expect(product).toContain(`org.opencontainers.image.${label}=`);
    expect(dockerfile.match(/^FROM (?!base|build)\S+/gm)).toEqual(['FROM ${NODE_IMAGE}']);
  });

  it('has neither development packages nor the sandbox in the product image', () => {
    const product = dockerfile.slice(dockerfile.lastIndexOf('FROM '));
    expect(product.match(/npm ci.*/g)).toEqual([expect.stringContaining('--omit=dev')]);
    expect(product.match(/--from=\S+ \S+/g)).toEqual(['--from=product /app/dist']);
    expect(dockerfile).toMatch(/^FROM build AS product\nRUN rm -r dist\/apps\/sandbox dist\/local /m);
  });

  it('has the Node that .nvmrc names and tools/with-node installs', () => {
    const major = read('.nvmrc').trim();
    expect(dockerfile.match(/^ARG NODE_IMAGE=.*/gm)).toEqual([`ARG NODE_IMAGE=node:${major}-trixie-slim`]);
    expect(read('tools/with-node')).toContain(`\nimage=${major}\n`);
    for (const supported of ['22', '24', '26'])
      for (const version of versionsBrought(supported)) expect(version.split('.')[0]).toBe(supported);
  });
});

/** Gives the versions of Node that npm installs for a major version, one for each platform. */
function versionsBrought(major: string): string[] {
  const { optionalDependencies } = JSON.parse(read(`tools/node/${major}/package.json`)) as {
    optionalDependencies: Record<string, string>;
  };
  return Object.values(optionalDependencies);
}

describe('docs/settings.md', () => {
  it('has a row for each setting, and no others', () => {
    const rows = [...read('docs/settings.md').matchAll(/^\| `([A-Z0-9_]+)` \|/gm)].map(([, name]) => name);
    expect(rows.sort()).toEqual([...settingNames].sort());
  });

  it('names the secrets that may be in files, and no others', () => {
    const paragraph = /\nSecrets may be \[in files\][^]*?\n\n/.exec(read('docs/settings.md'))![0];
    const named = [...paragraph.matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name);
    expect(named).toEqual(secretSettings);
    const table = read('docs/operations/secrets.md').split('Not by these variables')[0]!;
    for (const name of secretSettings) expect(table).toContain(`\`${name}\``);
  });
});

describe('package.json', () => {
  const manifest = JSON.parse(read('package.json')) as Record<'dependencies' | 'devDependencies', object>;
  const filesOf = (folder: string): string[] =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file));
  const isImported = (name: string, files: readonly string[]) =>
    files.some((file) => new RegExp(`['"]${name}(/[^'"]*)?['"]`).test(read(file)));

  /** Packages that another package loads, each with that one. */
  const loadedBy: Record<string, string> = {
    'pino-http': 'nestjs-pino',
    'reflect-metadata': '@nestjs/core',
  };

  it('has no dependency that the product does not import', () => {
    const product = ['apps', 'libs'].flatMap(filesOf).filter((file) => /(?<!\.spec)\.ts$/.test(file));
    const unused = Object.keys(manifest.dependencies).filter((name) => !isImported(name, product));
    expect(unused.sort()).toEqual(Object.keys(loadedBy).sort());
    for (const loader of Object.values(loadedBy)) expect(manifest.dependencies).toHaveProperty([loader]);
  });

  it('lists what the tools import', () => {
    const tools = [...filesOf('tools').filter((file) => /^tools\/[^/]+\.mjs$/.test(file)), 'eslint.config.mjs'];
    const imported = tools.flatMap((file) =>
      [...read(file).matchAll(/from '((?:@[^/']+\/)?[^./'][^/']*)/g)].map(([, name]) => name!),
    );
    const listed = { ...manifest.dependencies, ...manifest.devDependencies };
    expect([...new Set(imported)].filter((name) => !name.startsWith('node:') && !(name in listed))).toEqual([]);
  });
});

describe('npm run sbom', () => {
  it('lists every package of the product, each with its licence, and none of development', () => {
    const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', 'sbom'], { cwd: root, encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
    const { bomFormat, metadata, components, dependencies } = JSON.parse(stdout) as {
      bomFormat: string;
      metadata: { component: { name: string; version: string; type: string } };
      components: { 'bom-ref': string; purl: string; licenses?: object[] }[];
      dependencies: { ref: string; dependsOn: string[] }[];
    };
    expect(bomFormat).toBe('CycloneDX');
    const { version } = JSON.parse(read('package.json')) as { version: string };
    expect(metadata.component).toMatchObject({ name: 'sendmux-domains', version, type: 'application' });
    const { packages } = JSON.parse(read('package-lock.json')) as {
      packages: Record<string, { version: string; dev?: boolean; optional?: boolean; license?: string }>;
    };
    const product = Object.entries(packages).filter(([path, { dev }]) => path !== '' && !dev);
    const installed = product.filter(([path]) => existsSync(join(root, path)));
    expect(installed.length).toBeGreaterThan(100);
    expect(product.filter((each) => !installed.includes(each) && !each[1].optional)).toEqual([]);
    const purl = (path: string, of: string) =>
      `pkg:npm/${path.replace(/^.*node_modules\//, '').replace('@', '%40')}@${of}`;
    expect(new Set(components.map((each) => each.purl))).toEqual(
      new Set(installed.map(([path, each]) => purl(path, each.version))),
    );
    expect(components.filter(({ licenses = [] }) => licenses.length === 0)).toEqual([]);
    const listed = new Set(components.map((each) => each['bom-ref']));
    expect(dependencies.flatMap(({ dependsOn }) => dependsOn).filter((ref) => !listed.has(ref))).toEqual([]);
  });
});
