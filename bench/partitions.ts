/**
 * Compares what is done with a log in many partitions with the same in one of a single partition: appends, the tail, a
 * read of a stream, the state of a domain as of a time, the verification and the rebuild of a read model. The results
 * are the times of the large log as a multiple of those of the small one, for each event where a log is read whole.
 *
 *     node dist/bench/partitions.js [--few 1000000] [--events 20000000] [--size 1000000] [--rounds 3]
 */
import { createPrivateKey, randomInt } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Pool } from 'pg';
import {
  auditMigrations,
  hashOfStatement,
  merkleRoot,
  nothingBefore,
  SealingKey,
  trusting,
  Verification,
  type Seal,
} from '@app/audit';
import { migrate, openPool } from '@app/database';
import {
  EventLog,
  EventPartitions,
  EventStore,
  eventStoreMigrations,
  partitionEvents,
  readEpochs,
} from '@app/event-store';
import { domainEvent, evolve, initialState } from '@app/mail-domain';
import { readModelMigrations } from '@app/read-model';
import { rebuild } from '@app/rebuild';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { median, report } from './figure';
import { fillLog } from './lives';

const key = new SealingKey(
  createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 7)]),
    format: 'der',
    type: 'pkcs8',
  }),
);
const metadata = { actor: 'bench', correlationId: 'bench' };

interface Log {
  readonly url: string;
  readonly pool: Pool;
  readonly store: EventStore;
  readonly log: EventLog;
  readonly events: number;
  readonly streams: readonly string[];
}

/** Milliseconds of one call, by many. */
async function each(times: number, call: (i: number) => Promise<unknown>): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < times; i++) await call(i);
  return (performance.now() - began) / times;
}

const any = (streams: readonly string[]): string => streams[randomInt(streams.length)]!;

/** What is measured: milliseconds of each, for an event where the whole log is read. */
const measures: Record<string, (log: Log) => Promise<number>> = {
  'append to a new stream': ({ store }) =>
    each(400, () => store.append(append(`mdom_bench${randomInt(1e12).toString(36)}`, 0))),
  'append to an old stream': async ({ store, streams }) => {
    const chosen = Array.from({ length: 400 }, () => any(streams));
    const versions = new Map<string, number>();
    for (const stream of chosen) versions.set(stream, (await store.readStream(stream)).at(-1)!.version);
    return each(400, (i) => {
      const stream = chosen[i]!;
      const version = versions.get(stream)!;
      versions.set(stream, version + 1);
      return store.append(append(stream, version));
    });
  },
  '32 appends at once': ({ store }) =>
    each(100, () =>
      Promise.all(
        Array.from({ length: 32 }, () => store.append(append(`mdom_bench${randomInt(1e12).toString(36)}`, 0))),
      ),
    ),
  'tail, a page of 1,000': ({ log, events }) =>
    each(100, () => log.read({ after: randomInt(Math.max(1, events - 1_000)), limit: 1_000 })),
  'tail, nothing new': async ({ log }) => {
    const head = await log.head();
    return each(400, () => log.read({ after: head, limit: 1_000 }));
  },
  'read of a stream': ({ store, streams }) => each(400, () => store.readStream(any(streams))),
  'read of what is new in a stream': ({ store, streams }) => each(400, () => store.readStream(any(streams), 1_000)),
  'state as of a time': ({ store, streams }) =>
    each(400, async () =>
      (await store.readStream(any(streams)))
        .filter(({ type, time }) => type !== 'Benched' && time < '2026-01-03')
        .map(domainEvent)
        .reduce(evolve, initialState),
    ),
};

const append = (stream: string, expectedVersion: number) => ({
  stream,
  expectedVersion,
  events: [{ type: 'Benched', schemaVersion: 1, data: { x: 'x'.repeat(230) }, time: new Date().toISOString() }],
  metadata,
});

/** What is measured before anything is appended. */
const wholes: Record<string, (log: Log) => Promise<number>> = {
  'verification, an event': async ({ pool, log, events }) => {
    const began = performance.now();
    const { faults, unsealed } = await new Verification(pool, log, { trusted: trusting(key.publicKey) }).run();
    if (faults.length > 0 || unsealed > 0) throw new Error('The log is not what was sealed');
    return (performance.now() - began) / events;
  },
  'rebuild of domains, an event': async ({ url, events }) => {
    const began = performance.now();
    await rebuild(url, 'domains');
    return (performance.now() - began) / events;
  },
};

/** Events in one seal. */
const sealed = 10_000;

/** Seals a log that was just written, without looking for the event before each, which takes longer than the rest. */
async function seal(pool: Pool): Promise<void> {
  const [epoch] = await readEpochs(pool);
  let before: Seal | undefined;
  for (let number = 1, after = 0; ; number++) {
    const { rows } = await pool.query<{ position: number; hash: Buffer }>(
      `SELECT position::float8 AS position, hash FROM events WHERE position > $1 ORDER BY events.position LIMIT $2`,
      [after, sealed],
    );
    if (rows.length === 0) return;
    const hashes = Buffer.concat(rows.map(({ hash }) => hash));
    const upTo = rows.at(-1)!.position;
    before = key.seal({
      log: epoch!.log,
      epoch: 1,
      number,
      previous: before ? hashOfStatement(before.statement) : nothingBefore,
      events: rows.length,
      after,
      upTo,
      root: merkleRoot(hashes).toString('hex'),
      time: new Date().toISOString(),
    });
    await pool.query(
      'INSERT INTO audit_seals (number, up_to, statement, signer, signature, leaves) VALUES ($1, $2, $3, $4, $5, $6)',
      [number, upTo, before.statement, before.signer, before.signature, hashes],
    );
    after = upTo;
  }
}

async function filled(url: string, about: number, size: number): Promise<Log> {
  await migrate(
    url,
    eventStoreMigrations.filter(({ name }) => !name.startsWith('PartitionSmallLogs')),
  );
  const pool = openPool(url, 16, 0);
  await partitionEvents(pool, { size });
  await pool.query(`SELECT setval('event_positions', $1)`, [about]);
  const partitions = new EventPartitions(pool);
  await partitions.open();
  await migrate(url, [...eventStoreMigrations, ...auditMigrations, ...readModelMigrations]);
  const began = performance.now();
  const { events } = await fillLog(url, about * 0.99);
  const wrote = performance.now();
  await partitions.upkeep();
  const indexed = performance.now();
  const log = new EventLog(pool);
  await seal(pool);
  const seconds = (from: number, to: number) => Math.round((to - from) / 1_000);
  console.error(
    `${events.toLocaleString('en')} events: written in ${seconds(began, wrote)} s, partitions indexed in ${seconds(wrote, indexed)} s, sealed in ${seconds(indexed, performance.now())} s`,
  );
  const { rows } = await pool.query<{ stream: string }>(
    'SELECT DISTINCT stream FROM (SELECT stream FROM events TABLESAMPLE SYSTEM (0.05) LIMIT 5000) AS some_streams',
  );
  const streams = rows.map(({ stream }) => stream);
  return { url, pool, log, events, store: new EventStore(pool), streams };
}

async function compare(
  few: Log,
  many: Log,
  what: Record<string, (log: Log) => Promise<number>>,
  rounds: number,
): Promise<void> {
  for (const [name, measure] of Object.entries(what)) {
    const ratios: number[] = [];
    const times: { few: number; many: number }[] = [];
    if (rounds > 1) {
      await measure(few);
      await measure(many);
    }
    for (let round = 0; round < rounds; round++) {
      const time =
        round % 2
          ? { few: await measure(few), many: await measure(many) }
          : { many: await measure(many), few: await measure(few) };
      times.push(time);
      ratios.push(time.many / time.few);
    }
    const [small, large] = [median(times.map((time) => time.few)), median(times.map((time) => time.many))];
    console.log(
      `${name.padEnd(34)}${small.toPrecision(3).padStart(10)} ms${large.toPrecision(3).padStart(10)} ms   ${report(`${name}, many partitions to one`, ratios, 'lower')}`,
    );
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      few: { type: 'string', default: '1000000' },
      events: { type: 'string', default: '20000000' },
      size: { type: 'string', default: '1000000' },
      rounds: { type: 'string', default: '3' },
    },
  });
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const buffers = Math.round(totalmem() / 4 / 1_048_576);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'), { shared_buffers: `${buffers}MB` });
  const logs: Log[] = [];
  try {
    const size = Number(values.size);
    for (const events of [Number(values.few), Number(values.events)])
      logs.push(await filled(await server.database(`bench_${events}`), events, size));
    const [few, many] = logs as [Log, Log];
    const partitions = await many.pool.query('SELECT FROM event_partitions WHERE is_open');
    const { rows } = await many.pool.query<{ version: string }>(`SELECT current_setting('server_version') AS version`);
    console.log(
      `PostgreSQL ${rows[0]!.version} with shared_buffers of ${buffers} MB, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; ` +
        `${many.events.toLocaleString('en')} events in ${partitions.rowCount} partitions against ${few.events.toLocaleString('en')}\n`,
    );
    await compare(few, many, wholes, 1);
    await compare(few, many, measures, Number(values.rounds));
  } finally {
    for (const { log, pool } of logs) {
      await log.close();
      await pool.end();
    }
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
