import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { EventArchive } from '@app/event-store';
import { archiveHeaderLine, readLines, writeLines } from './event-file';
import { importFile } from './event-import';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'event-file-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function read(file: string): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLines(file)) lines.push(line);
  return lines;
}

describe('the lines of a file', () => {
  const lines = ['{"found":"v=spf1\u2028\u2029\u0085all"}', '', `{"long":"${'ä🙂'.repeat(50_000)}"}`, '{}'];

  it.each(['events.ndjson', 'events.ndjson.gz'])('are read from %s as they were written', async (name) => {
    const file = join(folder, name);
    await writeLines(file, Readable.from(lines));
    expect(await read(file)).toEqual(lines);
  });

  it('may end with CRLF, or the last one with nothing', async () => {
    const file = join(folder, 'events.ndjson');
    writeFileSync(file, '{"a":1}\r\n{"b":2}');
    expect(await read(file)).toEqual(['{"a":1}', '{"b":2}']);
  });

  it('are not those of a file that is cut off, is no gzip or is not there', async () => {
    const file = join(folder, 'events.ndjson.gz');
    await writeLines(file, Readable.from(lines));
    writeFileSync(file, readFileSync(file).subarray(0, 100));
    await expect(read(file)).rejects.toThrow('unexpected end of file');
    writeFileSync(file, 'text');
    await expect(read(file)).rejects.toThrow('incorrect header check');
    await expect(read(join(folder, 'none.gz'))).rejects.toThrow('ENOENT');
    await expect(read(join(folder, 'none'))).rejects.toThrow('ENOENT');
  });
});

it('refuses to import an archive, and says what to import', async () => {
  const file = join(folder, 'events-1.ndjson');
  const header = { partition: 1, after: 0, upTo: 9, events: 0, amendments: 0, seals: 0 };
  const line = archiveHeaderLine({ format: 'sendmux-archive/1', log: 'x', ...header }, '2026-01-01T00:00:00.000Z');
  await writeLines(file, Readable.from([line]));
  const importing = importFile(file, {} as EventArchive, new AbortController().signal);
  await expect(importing).rejects.toThrow(
    `Line 1 of ${file}: it is that of an archive, a part of a log. Import what \`sendmux events export\` writes`,
  );
});
