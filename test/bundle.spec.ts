import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { startSystem, type AppName } from './support/processes';

const root = resolve(__dirname, '..');
const dist = join(root, 'dist');
/** The files that each file of a bundle was made of. */
const bundled = JSON.parse(readFileSync(join(dist, 'bundled.json'), 'utf8')) as Record<string, string[]>;
const apps = readdirSync(join(dist, 'apps')).filter((name) => name !== 'chunks');
const main = (app: string) => join(dist, 'apps', app, 'main.js');

/** Gives the files of the build that a file needs, at once or later, itself included. */
function neededBy(file: string, seen = new Set<string>()): Set<string> {
  // Comments of packages name files that are not there.
  if (seen.has(file) || !existsSync(file)) return seen;
  seen.add(file);
  for (const [, path] of readFileSync(file, 'utf8').matchAll(/\b(?:require|import)\("(\.[^"]+\.js)"\)/g))
    neededBy(resolve(dirname(file), path!), seen);
  return seen;
}

describe('the build', () => {
  // What is for development is removed from the image of the product.
  it.each(apps.filter((app) => app !== 'sandbox'))('%s needs nothing that is for development only', (app) => {
    const needed = [...neededBy(main(app))].map((file) => relative(dist, file));
    expect(needed.length).toBeGreaterThan(5);
    expect(needed.filter((file) => !/^apps\/(?!sandbox\/)/.test(file))).toEqual([]);
  });

  it('leads from a bundle to the sources', () => {
    const maps = readdirSync(join(dist, 'apps/chunks')).filter((name) => /^commands-.*\.map$/.test(name));
    expect(maps).toHaveLength(1);
    const { sources } = JSON.parse(readFileSync(join(dist, 'apps/chunks', maps[0]!), 'utf8')) as { sources: string[] };
    expect(sources.length).toBeGreaterThan(5);
    // Node keeps what it reads of a map.
    expect(sources.filter((source) => !source.endsWith('.ts') || source.includes('node_modules'))).toEqual([]);
    expect(sources.filter((source) => !existsSync(resolve(dist, 'apps/chunks', source)))).toEqual([]);
  });

  // What such a package opens is not beside a bundle. These ask for a file of Node's, or for what is not used here.
  it('has no package that opens a file of its own, but for those where that is known not to matter', () => {
    const known = ['@nestjs/', 'commander', 'pino', 'thread-stream', 'undici'];
    const asks = /(?<![\w.])(__dirname|__filename|import\.meta\.(url|dirname|filename))/;
    const files = new Set(Object.values(bundled).flat());
    const asking = [...files].filter(
      (file) => packageOf(file).length > 0 && asks.test(readFileSync(join(root, file), 'utf8')),
    );
    const packages = [...new Set(asking.flatMap(packageOf))];
    expect(packages).toContain('pino');
    expect(packages.filter((name) => !known.some((each) => name.startsWith(each)))).toEqual([]);
  });

  it.each(apps)('%s loads few files, and none of node_modules', (app) => {
    const report = `process.on('exit', () => console.log(Object.keys(require.cache).join('\\n')));`;
    const { stdout } = spawnSync(process.execPath, ['-e', `${report} require(${JSON.stringify(main(app))})`], {
      encoding: 'utf8',
      // It ends when it has read its settings.
      env: { PATH: process.env.PATH, PORT: 'none', SENDMUX_SETTINGS_FILE: '/dev/null' },
    });
    const loaded = stdout.split('\n').filter((line) => line.startsWith('/') && line.endsWith('.js'));
    expect(loaded).toContain(main(app));
    expect(loaded.length).toBeLessThan(80);
    expect(loaded.filter((file) => file.includes('/node_modules/'))).toEqual([]);
  });

  // One package in two copies has two registries, of decorators for example.
  it('has no package that a process loads from node_modules too', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sendmux-loaded-'));
    const system = await startSystem({ apps: ['sandbox'] });
    try {
      const parts: AppName[] = ['gateway', 'provisioning', 'verification-scheduler', 'notifier', 'webhooks', 'sealer'];
      const options = `--require ${resolve(__dirname, 'support/loaded-modules.cjs')}`;
      await Promise.all(
        parts.map((app) =>
          system.start(app, { NODE_OPTIONS: options, LOADED_MODULES_FILE: join(folder, app), LOG_LEVEL: 'debug' }),
        ),
      );
      const { api } = await system.team();
      const added = await api.add('mail.acme.com');
      expect(added.status).toBe(201);
      expect((await api.verify((added.body as { data: { id: string } }).data.id)).status).toBe(200);
      await Promise.all(parts.map((app) => system.stop(app)));
      for (const app of parts) {
        const files = readFileSync(join(folder, app), 'utf8').split('\n');
        const apart = new Set(files.filter((file) => file.startsWith('/')).flatMap(packageOf));
        const within = new Set(files.flatMap((file) => bundled[relative(root, file)] ?? []).flatMap(packageOf));
        expect([app, within.has('@nestjs/core')]).toEqual([app, true]);
        expect([app, [...apart].filter((name) => within.has(name))]).toEqual([app, []]);
      }
    } finally {
      await system.end();
      rmSync(folder, { recursive: true });
    }
  });
});

/** Gives the package that a file of node_modules belongs to. */
const packageOf = (file: string): string[] => /.*\bnode_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.slice(1) ?? [];
