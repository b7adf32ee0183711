// Puts each process of dist/ together with what it loads, its packages included, into few files, which replace what the
// compiler wrote: an app loads in less than half of the time. What a package loads by a name that it computes is taken
// from node_modules as before.
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { rolldown } from 'rolldown';

const dist = resolve(import.meta.dirname, '../dist');
const development = ['sandbox'];
const product = readdirSync(join(dist, 'apps')).filter((app) => !development.includes(app));

/**
 * Warnings that say nothing: packages that another one can use, which are none of ours, since the compiler has found
 * those; a package that asks where its own file is, for what the apps do not use; and parts that one app loads later
 * and another one at once.
 */
const expected = ['UNRESOLVED_IMPORT', 'EMPTY_IMPORT_META', 'INEFFECTIVE_DYNAMIC_IMPORT'];

/** Packages that open files of their own, which are beside them and would not be beside a bundle. */
const apart = [/^@platformatic\//];

/** Gives the bundler the source maps of the compiler, so that a stack leads to the sources. */
const mapsOfCompiler = {
  name: 'maps-of-compiler',
  load: {
    filter: { id: /\/dist\/(apps|libs|local)\/.*\.js$/ },
    handler: (id) => ({ code: readFileSync(id, 'utf8'), map: readFileSync(`${id}.map`, 'utf8') }),
  },
};

// The product is apart from what is for development only, which its image leaves out.
await bundle(
  product.map((app) => `apps/${app}/main`),
  'apps/chunks',
);
await bundle([...development.map((app) => `apps/${app}/main`), 'local/all-in-one'], 'local/chunks');

/**
 * Puts entries together.
 *
 * @param chunks the folder of their common parts. It lies as deep below dist/ as the folder of an app, so that a path
 * relative to `__dirname` means the same in both.
 */
async function bundle(entries, chunks) {
  const build = await rolldown({
    input: Object.fromEntries(entries.map((entry) => [entry, join(dist, `${entry}.js`)])),
    platform: 'node',
    external: apart,
    plugins: [mapsOfCompiler],
    onLog(level, log, otherwise) {
      if (!expected.includes(log.code)) otherwise(level, log);
    },
  });
  await build.write({
    dir: dist,
    format: 'cjs',
    sourcemap: true,
    sourcemapExcludeSources: true,
    // Nest and the logs name classes by their names.
    keepNames: true,
    entryFileNames: '[name].js',
    chunkFileNames: `${chunks}/[name]-[hash].js`,
  });
  await build.close();
}
