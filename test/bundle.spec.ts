import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const dist = resolve(__dirname, '../dist');
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
    const ours = sources.filter((source) => !source.includes('/node_modules/'));
    expect(ours.length).toBeGreaterThan(5);
    expect(ours.filter((source) => !source.endsWith('.ts'))).toEqual([]);
    expect(ours.filter((source) => !existsSync(resolve(dist, 'apps/chunks', source)))).toEqual([]);
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
});
