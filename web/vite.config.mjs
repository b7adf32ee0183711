// Builds the pages into dist/web: a document for each, and what they load in assets/, named after its content.
import { resolve } from 'node:path';
import { defineConfig } from 'vite';

const root = import.meta.dirname;

export default defineConfig({
  root,
  publicDir: false,
  logLevel: 'warn',
  build: {
    outDir: resolve(root, '../dist/web'),
    emptyOutDir: true,
    target: 'es2022',
    // The policy of the pages allows no `data:` but for pictures, and all browsers of the target preload modules.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ['index', 'setup', 'sandbox'].map((page) => resolve(root, `${page}.html`)) },
  },
});
