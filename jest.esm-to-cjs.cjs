// Jest transformer: turns ESM-only packages of node_modules into CommonJS, and an import() of the exporter of traces
// into a require; leaves other CommonJS files untouched.
const { existsSync, readFileSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { createTransformer } = require('@swc/jest');

const swc = createTransformer({
  sourceMaps: false,
  module: { type: 'commonjs' },
  jsc: { target: 'es2022', parser: { syntax: 'ecmascript' } },
});
const types = new Map();
function packageType(dir) {
  if (!types.has(dir)) {
    const p = join(dir, 'package.json');
    let t = existsSync(p)
      ? (JSON.parse(readFileSync(p, 'utf8')).type ?? (dir.endsWith('node_modules') ? 'commonjs' : undefined))
      : undefined;
    if (t === undefined && existsSync(p) && JSON.parse(readFileSync(p, 'utf8')).name) t = 'commonjs';
    types.set(dir, t ?? (dirname(dir) === dir ? 'commonjs' : packageType(dirname(dir))));
  }
  return types.get(dir);
}
const isEsm = (f) => f.endsWith('.mjs') || (f.endsWith('.js') && packageType(dirname(f)) === 'module');
const importsLater = (src, f) => f.includes('/@opentelemetry/otlp-exporter-base/') && src.includes(' import(');
const isTurned = (src, f) => isEsm(f) || importsLater(src, f);
module.exports = {
  canInstrument: false,
  getCacheKey: (src, f, o) => swc.getCacheKey(src, f, o) + (isTurned(src, f) ? 'e' : 'c'),
  process: (src, f, o) => (isTurned(src, f) ? swc.process(src, f, o) : { code: src }),
};
