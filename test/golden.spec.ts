import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EventVersions } from '@app/decider';
import { domainEventVersions } from '@app/mail-domain';
import { checkChain } from '@app/event-store';
import { mailboxEventVersions } from '@app/mailbox';
import { fromCloudEvent, toCloudEvent, toLine } from '@app/messaging';
import { ajv, closed, readSchema } from './support/event-schemas';
import { eventsOf, readLife, recorded } from './support/golden';

const folder = join(__dirname, 'golden');
const read = (file: string) => readFileSync(join(folder, file), 'utf8');
const files = readdirSync(folder).filter((name) => name.endsWith('.ndjson'));
/** Complete logs of earlier releases, which test/old-logs.spec.ts reads. */
const logs = readdirSync(join(folder, 'log')).map((name) => `log/${name}`);
const versions = [domainEventVersions, mailboxEventVersions];
const all = files.flatMap((file) => eventsOf(read(file)));
const named = ({ type, schemaVersion }: { type: string; schemaVersion: number }) => `${type}.${schemaVersion}`;

/** Events as they were stored, one stream per file. They are kept for ever, and every release must read them. */
describe('the golden events', () => {
  it('are unchanged: none was edited or removed', () => {
    const sums = [...files, ...logs].map(
      (file) => `${createHash('sha256').update(read(file)).digest('hex')}  ${file}\n`,
    );
    expect(sums.sort()).toEqual(
      read('SHA256SUMS')
        .split(/(?<=\n)/)
        .sort(),
    );
  });

  it('contain every version of every event', () => {
    const known = versions.flatMap(({ written }: EventVersions) =>
      Object.entries(written).flatMap(([type, newest]) =>
        Array.from({ length: newest }, (_, index) => `${type}.${index + 1}`),
      ),
    );
    expect([...new Set(all.map(named))].sort()).toEqual(known.sort());
  });

  it('contain each optional or nullable field both ways and each enum value, and fit their schemas', () => {
    const missing: string[] = [];
    for (const name of new Set(all.map(named))) {
      const data = all.filter((event) => named(event) === name).map((event) => JSON.parse(event.data) as Fields);
      const [type, version] = name.split('.');
      const schema = readSchema(type!, version!) as Schema;
      for (const each of data) {
        const validator = ajv();
        expect(validator.validate(closed(schema), each) || [name, validator.errors]).toBe(true);
      }
      for (const [field, { enum: words = [], type: types }] of Object.entries(schema.properties ?? {})) {
        const seen = data.map((each) => each[field]);
        if (!schema.required?.includes(field)) words.push(undefined);
        if (Array.isArray(types) && types.includes('null')) words.push(null);
        for (const word of words) if (!seen.includes(word)) missing.push(`${name} ${field}: ${word as string}`);
        if (seen.every((value) => value === null || value === undefined)) missing.push(`${name} ${field}`);
      }
    }
    expect(missing).toEqual([]);
  });

  it.each(files)('%s: the lines are read, form one stream, and are written as they were', (file) => {
    const take = checkChain();
    const events = eventsOf(read(file));
    events.forEach(take);
    expect(`${events.map((event) => toLine(event)).join('\n')}\n`).toBe(read(file));
  });

  it.each(files)(
    '%s goes to Kafka under the schema versions that it was recorded with, and comes back as it was',
    (file) => {
      for (const event of eventsOf(read(file)).map(recorded)) {
        const { headers, value } = toCloudEvent(event);
        expect(headers.ce_dataschema).toBe(`urn:sendmux:event:${named(event).replace('.', ':')}`);
        expect(fromCloudEvent({ headers, value: Buffer.from(value) })).toEqual(event);
      }
    },
  );

  it.each(files)('%s gives the same data and state for each event as before', (file) => {
    const given: unknown = JSON.parse(read(join('read', file.replace('.ndjson', '.json'))));
    expect(JSON.parse(JSON.stringify(readLife(read(file))))).toEqual(given);
  });
});

type Fields = Readonly<Record<string, unknown>>;
interface Schema {
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, { readonly type?: string | string[]; readonly enum?: unknown[] }>>;
}
