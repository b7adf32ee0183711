import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkChain } from '@app/event-store';
import { domainEventVersions, type EventVersions } from '@app/mail-domain';
import { mailboxEventVersions } from '@app/mailbox';
import { toLine } from '@app/messaging';
import { ajv, closed, readSchema } from './support/event-schemas';
import { eventsOf, readLife } from './support/golden';

const folder = join(__dirname, 'golden');
const read = (file: string) => readFileSync(join(folder, file), 'utf8');
const files = readdirSync(folder).filter((name) => name.endsWith('.ndjson'));
const versions = [domainEventVersions, mailboxEventVersions];
const all = files.flatMap((file) => eventsOf(read(file)));
const named = ({ type, schemaVersion }: { type: string; schemaVersion: number }) => `${type}.${schemaVersion}`;

/** Events as they were stored, one stream a file: kept for ever, and read by every release. */
describe('the golden events', () => {
  it('are what they were: none has changed, and none has gone', () => {
    const sums = files.map((file) => `${createHash('sha256').update(read(file)).digest('hex')}  ${file}\n`);
    expect(sums.sort()).toEqual(
      read('SHA256SUMS')
        .split(/(?<=\n)/)
        .sort(),
    );
  });

  it('have every version of every event', () => {
    const known = versions.flatMap(({ written }: EventVersions) =>
      Object.entries(written).flatMap(([type, newest]) =>
        Array.from({ length: newest }, (_, index) => `${type}.${index + 1}`),
      ),
    );
    expect([...new Set(all.map(named))].sort()).toEqual(known.sort());
  });

  it('have each field that may be absent or null both ways, each word of a choice, and fit their schemas', () => {
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

  it.each(files)('%s: the lines are read, follow each other, and are written as they were', (file) => {
    const take = checkChain();
    const events = eventsOf(read(file));
    events.forEach(take);
    expect(`${events.map((event) => toLine(event)).join('\n')}\n`).toBe(read(file));
  });

  it.each(files)('%s gives what it gave, event by event', (file) => {
    const given: unknown = JSON.parse(read(join('read', file.replace('.ndjson', '.json'))));
    expect(JSON.parse(JSON.stringify(readLife(read(file))))).toEqual(given);
  });
});

type Fields = Readonly<Record<string, unknown>>;
interface Schema {
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, { readonly type?: string | string[]; readonly enum?: unknown[] }>>;
}
