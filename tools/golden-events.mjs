// Converts each new file in test/golden to a stream as it is stored, and writes how this release reads it, and its
// checksum. A file that has a checksum must never be changed or removed.
//   npm run events:golden
// A new file has one line for each event: {"subject":"mdom_…","time":"…","actor":"…","type":"…","data":{…}}
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { typescriptLoader } from './load-typescript.mjs';

const root = resolve(import.meta.dirname, '..');
const folder = join(root, 'test/golden');
const load = typescriptLoader(root);
const { readLife } = load('./test/support/golden.ts');
const { eventHash, microsecondsOf, noHash } = load('./libs/event-store/event-hash.ts');
const { toLine } = load('./libs/messaging/cloud-event-line.ts');
const { eventVersions } = load('./libs/subscriptions/index.ts');

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
for (const file of files) {
  const path = join(folder, file);
  const text = readFileSync(path, 'utf8');
  if (!('hash' in JSON.parse(text.split('\n')[0]))) writeFileSync(path, stored(text));
}
for (const file of files)
  writeFileSync(
    join(folder, 'read', file.replace('.ndjson', '.json')),
    `${JSON.stringify(readLife(readFileSync(join(folder, file), 'utf8')), null, 1)}\n`,
  );
const logs = readdirSync(join(folder, 'log')).map((name) => `log/${name}`);
writeFileSync(manifest, `${[...files, ...logs.sort()].map((file) => `${sumOf(file)}  ${file}`).join('\n')}\n`);

/** Gives the lines of a new file as `sendmux events export` would write them if this release had stored the events. */
function stored(text) {
  const lines = text.trim().split('\n');
  let previous = noHash;
  return lines
    .map((line, index) => {
      const { subject: stream, time, actor, type, data } = JSON.parse(line);
      const version = index + 1;
      const event = {
        stream,
        version,
        position: version,
        type,
        schemaVersion: eventVersions.written[type],
        time,
        data: JSON.stringify(data),
        metadata: JSON.stringify({ actor, correlationId: stream }),
        previous,
      };
      const hash = eventHash(Object.assign({ microseconds: microsecondsOf(time) }, event));
      previous = hash;
      return `${toLine(Object.assign(event, { hash }))}\n`;
    })
    .join('');
}
