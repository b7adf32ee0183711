// test/golden: what a new file there gives, and its sum. What has a sum is never changed and never goes.
//   npm run events:golden
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { typescriptLoader } from './load-typescript.mjs';

const root = resolve(import.meta.dirname, '..');
const folder = join(root, 'test/golden');
const { readLife } = typescriptLoader(root)('./test/support/golden.ts');

const manifest = join(folder, 'SHA256SUMS');
const sums = existsSync(manifest) ? readFileSync(manifest, 'utf8').trim().split('\n') : [];
const sumOf = (file) =>
  createHash('sha256')
    .update(readFileSync(join(folder, file)))
    .digest('hex');
for (const line of sums) {
  const [sum, file] = line.split('  ');
  if (existsSync(join(folder, file)) && sumOf(file) === sum) continue;
  console.error(
    `test/golden/${file} is not what it was. Golden events are kept for ever: put it back, and add a file.`,
  );
  process.exit(1);
}
const files = readdirSync(folder)
  .filter((name) => name.endsWith('.ndjson'))
  .sort();
for (const file of files)
  writeFileSync(
    join(folder, 'read', file.replace('.ndjson', '.json')),
    `${JSON.stringify(readLife(readFileSync(join(folder, file), 'utf8')), null, 1)}\n`,
  );
writeFileSync(manifest, `${files.map((file) => `${sumOf(file)}  ${file}`).join('\n')}\n`);
