import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { recordRestoration, sealedUpTo, Seals, SealingKey, trusting, Verification } from '@app/audit';
import { inTransaction, openPool } from '@app/database';
import { EventArchive, EventLog, EventStore, keptRestores, raiseEpoch, readEpochs } from '@app/event-store';
import type { Pool } from 'pg';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { exportFile } from './event-export';
import { readLines } from './event-file';
import { importFile } from './event-import';

const key = new SealingKey(generateKeyPairSync('ed25519').privateKey);
const trusted = trusting(key.publicKey);
const { signal } = new AbortController();

/** The export of a log that was restored: the same log where it is imported. */
describe('an export of a restored log', () => {
  let folder: string;
  let [here, there]: TestDatabase[] = [];
  let [pool, poolThere]: Pool[] = [];
  let [log, logThere]: EventLog[] = [];

  const append = (stream: string, database = pool!) =>
    new EventStore(database).append({
      stream,
      expectedVersion: 0,
      events: [{ type: 'Happened', schemaVersion: 1, data: {}, time: new Date().toISOString() }],
      metadata: { actor: 'test', correlationId: 'c' },
    });
  const seal = (database = pool!, of = log!) => new Seals(database, of, key).seal();
  const restore = (isSigned: boolean) =>
    inTransaction(pool!, async (client) => {
      const now = new Date();
      const { epoch } = await raiseEpoch(
        client,
        { reason: 'The disk was lost', givenUpTo: 0, now },
        await sealedUpTo(client),
      );
      if (isSigned) await recordRestoration(client, key, epoch, now);
    });
  const linesOf = async (file: string) => {
    const lines: string[] = [];
    for await (const line of readLines(file)) lines.push(line);
    return lines;
  };

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'export-'));
    [here, there] = [await migratedDatabase('service'), await migratedDatabase('service')];
    [pool, poolThere] = [openPool(here.url, 3), openPool(there.url, 3)];
    [log, logThere] = [new EventLog(pool), new EventLog(poolThere)];
    for (const stream of ['a', 'b']) await append(stream);
    await seal();
    await append('c');
    await restore(true);
    // Another pool, since a process that runs through a restore keeps the epochs that it has read.
    await log.close();
    await pool.end();
    pool = openPool(here.url, 3);
    log = new EventLog(pool);
    await append('d');
    await seal();
  });
  afterEach(async () => {
    await Promise.all([log!.close(), logThere!.close()]);
    await Promise.all([pool!.end(), poolThere!.end()]);
    await Promise.all([here!.drop(), there!.drop()]);
    rmSync(folder, { recursive: true });
  });

  const exported = async (): Promise<string> => {
    const file = join(folder, 'events.ndjson');
    await exportFile(file, pool!, new EventArchive(pool!), { selection: {}, head: await log!.head(), signal });
    return file;
  };
  const imported = (file: string) => importFile(file, new EventArchive(poolThere!), signal);

  it('gives back its identity, its epochs and who signed them, and the seals go on', async () => {
    const file = await exported();
    const events = (await linesOf(file)).filter((line) => line.includes('"streamversion"'));
    const { number } = (await readEpochs(pool!)).at(-1)!;
    expect(events.map((line) => (JSON.parse(line) as { id: string }).id)).toEqual([
      'a/1',
      'b/1',
      `c/1/${number}`,
      `d/1/${number}`,
    ]);
    await imported(file);
    expect(await readEpochs(poolThere!)).toEqual(await readEpochs(pool!));
    expect(await keptRestores(poolThere!)).toEqual(await keptRestores(pool!));
    await append('e', poolThere);
    await seal(poolThere, logThere);
    const verified = await new Verification(poolThere!, logThere!, { trusted }).run();
    expect(verified).toMatchObject({ faults: [], unsealed: 0 });
  });

  it('says of a restore that nobody has signed what the log itself says of it', async () => {
    await restore(false);
    await imported(await exported());
    const [ours, theirs] = await Promise.all(
      [[pool!, log!] as const, [poolThere!, logThere!] as const].map(([at, of]) =>
        new Verification(at, of, { trusted }).run(),
      ),
    );
    expect(theirs!.faults).toEqual(ours!.faults);
    expect(theirs!.faults).not.toEqual([]);
  });

  it('is refused where a restore is missing, or says something else than what was signed', async () => {
    const lines = await linesOf(await exported());
    const at = lines.findIndex((line) => line.includes('log.Restored'));
    const changed = async (change: (line: string) => string[]) => {
      const file = join(folder, 'changed.ndjson');
      writeFileSync(file, [...lines.slice(0, at), ...change(lines[at]!), ...lines.slice(at + 1)].join('\n'));
      return imported(file);
    };
    const isNone = `Line ${at + 1} of ${join(folder, 'changed.ndjson')}: it is no restore of the log.`;
    await expect(changed(() => [])).rejects.toThrow(isNone);
    await expect(changed((line) => [line.replace(/"after":\d+/, '"after":-1')])).rejects.toThrow(isNone);
    await expect(changed((line) => [line.replace(/"epoch":\d+/, '"epoch":7')])).rejects.toThrow(isNone);
    expect(await readEpochs(poolThere!)).toHaveLength(1);
  });
});
