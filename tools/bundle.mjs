// Puts each process of dist/ together with what it loads, its packages included, into few files, which replace what the
// compiler wrote: an app loads in less than half of the time. What a package loads by a name that it computes is taken
// from node_modules as before.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { rolldown } from 'rolldown';

const root = resolve(import.meta.dirname, '..');
const dist = join(root, 'dist');
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

/**
 * What takes the place of a file of a package. Each logger of pino asks for the files of its callers, which only a
 * transport needs, and none is used: with `--enable-source-maps`, Node reads the maps of the bundles for the answer,
 * which takes up to a tenth of the start of an app.
 */
const instead = new Map([[join(root, 'node_modules/pino/lib/caller.js'), 'module.exports = () => [];\n']]);
const replaced = new Set();

/**
 * Gives the bundler the source maps of the compiler, so that a stack leads to the sources, and none of packages: Node
 * keeps what it reads of a map, which took 85 MiB of the process of all apps.
 */
const maps = {
  name: 'maps',
  load: {
    filter: { id: /\.[cm]?js$/ },
    handler: (id) => {
      if (instead.has(id)) replaced.add(id);
      return {
        code: instead.get(id) ?? readFileSync(id, 'utf8'),
        map: id.includes('/node_modules/') ? { mappings: '' } : readFileSync(`${id}.map`, 'utf8'),
      };
    },
  },
};

// The product is apart from what is for development only, which its image leaves out.
const ofProduct = await bundle(
  product.map((app) => `apps/${app}/main`),
  'apps/chunks',
);
const ofDevelopment = await bundle(
  [...development.map((app) => `apps/${app}/main`), 'local/all-in-one'],
  'local/chunks',
);
for (const file of instead.keys())
  if (!replaced.has(file))
    throw new Error(`Nothing loads ${relative(root, file)} any more, which bundle.mjs replaces.`);
// Says which files each of the written ones has in it, by paths below the root.
writeFileSync(join(dist, 'bundled.json'), JSON.stringify({ ...ofProduct, ...ofDevelopment }, null, 1));

/**
 * Puts entries together. Gives the files that each written one has in it.
 *
 * @param chunks the folder of their common parts. It lies as deep below dist/ as the folder of an app, so that a path
 * relative to `__dirname` means the same in both.
 */
async function bundle(entries, chunks) {
  const build = await rolldown({
    input: Object.fromEntries(entries.map((entry) => [entry, join(dist, `${entry}.js`)])),
    platform: 'node',
    external: apart,
    plugins: [maps],
    onLog(level, log, otherwise) {
      if (!expected.includes(log.code)) otherwise(level, log);
    },
  });
  const { output } = await build.write({
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
  const within = ({ moduleIds }) => moduleIds.filter((id) => id.startsWith('/')).map((id) => relative(root, id));
  return Object.fromEntries(
    output.filter(({ type }) => type === 'chunk').map((chunk) => [join('dist', chunk.fileName), within(chunk)]),
  );
}
