// Builds the pages into dist/web: a document for each, and what they load in assets/, named after its content.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { defineConfig } from 'vite';

const root = import.meta.dirname;
const outDir = resolve(root, '../dist/web');

/** Puts a compressed one beside each file, since whoever serves them compresses nothing. */
const compressed = {
  name: 'compressed',
  closeBundle() {
    for (const name of readdirSync(join(outDir, 'assets'))) {
      const path = join(outDir, 'assets', name);
      const content = readFileSync(path);
      writeFileSync(`${path}.br`, brotliCompressSync(content));
      writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
    }
  },
};

export default defineConfig({
  root,
  publicDir: false,
  logLevel: 'warn',
  plugins: [compressed],
  build: {
    outDir,
    emptyOutDir: true,
    target: 'es2022',
    // The policy of the pages allows no `data:` but for pictures, and all browsers of the target preload modules.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ['index', 'setup', 'sandbox'].map((page) => resolve(root, `${page}.html`)) },
  },
});
