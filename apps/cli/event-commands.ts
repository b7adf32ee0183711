import { readStatement, type Seal } from '@app/audit';
import { openPool } from '@app/database';
import {
  ChainBroken,
  checkChain,
  EventArchive,
  EventLog,
  type KeptEvent,
  type Selection,
  type Span,
} from '@app/event-store';
import { parseDomainName, schemaVersions } from '@app/mail-domain';
import { mailboxSchemaVersions } from '@app/mailbox';
import {
  fromLine,
  KafkaClient,
  kafkaSettingNames,
  kafkaSettings,
  LineRefused,
  Replays,
  toLine,
  topicSettings,
} from '@app/messaging';
import { loadSettings, newId, parseTime, timeForms } from '@app/runtime';
import { Logger } from '@nestjs/common';
import type { Command } from 'commander';
import type { Pool } from 'pg';
import { headerLine, readHeader, readLines, readSeal, sealLine, writeLines, type ExportHeader } from './event-file';
import { Interrupted, interruption } from './interruption';
import { examples, print } from './output';
import { Progress } from './progress';
import { republish } from './republish';
import { UsedWrongly } from './used-wrongly';

interface Selected {
  readonly from?: string;
  readonly to?: string;
  readonly domain?: string;
  readonly type?: string[];
}

/** `sendmux events …` */
export function addEventCommands(program: Command): void {
  const events = program
    .command('events')
    .description('the log of all events: to others once more, and to a file and back');

  selecting(
    events
      .command('republish')
      .description('publishes events of the past once more, to Kafka or to a file, marked as a replay; their ids stay')
      .option('--topic <topic>', 'another topic than that of KAFKA_TOPIC; it is created when absent')
      .option('--file <file>', 'to a file instead, one event a line; compressed when it ends with .gz')
      .option('--rate <number>', 'events a second at most')
      .option('--dry-run', 'only says how many there are')
      .option('--resume <replay>', 'goes on with a replay that was stopped, with its own events and topic'),
  )
    .addHelpText(
      'after',
      examples(
        'sendmux events republish --from 2026-03-01 --to 2026-04-01 --dry-run',
        'sendmux events republish --from -6h --to now --rate 500',
        'sendmux events republish --from 2026-03-01 --to now --domain mail.acme.com --topic audit.replay',
        'sendmux events republish --from yesterday --to today --type DomainAdded DomainDeleted --file replay.ndjson.gz',
        'sendmux events republish --resume rpl_cl0mvua1x1sh1wf83emou5i9ti4',
      ),
    )
    .action(async (options: Republished, command: Command) => {
      if (options.resume === undefined && (options.from === undefined || options.to === undefined))
        throw new UsedWrongly('A replay needs --from and --to; or --resume and the id of one that was stopped.');
      const rate = options.rate === undefined ? undefined : Number(options.rate);
      if (rate !== undefined && !(rate > 0)) throw new UsedWrongly(`--rate ${options.rate} is no number above 0.`);
      if (options.file !== undefined || options.dryRun) return toFile(options, command);
      const settings = loadSettings(process.env, kafkaSettingNames);
      const kafka = kafkaSettings(settings);
      if (!kafka)
        throw new UsedWrongly('There is no Kafka to publish to: set KAFKA_BROKERS, or name a file with --file FILE.');
      // What the client has to say of its retries would stand among the results.
      Logger.overrideLogger(false);
      const signal = interruption();
      await withArchive(async (pool, archive, head) => {
        const replays = new Replays(pool);
        const replay = options.resume
          ? await replays.find(options.resume)
          : await replays.begin(newId('rpl'), options.topic ?? settings.KAFKA_TOPIC, await selectionOf(pool, options), {
              after: 0,
              upTo: head,
            });
        if (!replay)
          throw new Error(
            `There is no replay ${options.resume} to go on with: it has ended, or never was. \`sendmux events republish --from TIME --to TIME\` begins one.`,
          );
        const client = new KafkaClient(kafka, 'sendmux-replay');
        const done = await republish({
          ...{ archive, replays, replay, client, signal },
          ...{ topic: { ...topicSettings(settings), topic: replay.topic }, ...(rate && { perSecond: rate }) },
        });
        print(command, done, () => [
          `${done.events} events are published to ${done.topic} once more, as ${done.replay}.`,
        ]);
      });
    });

  selecting(
    events
      .command('export')
      .description('the log as CloudEvents, one a line, with all that it takes to fill an empty store with it')
      .option(
        '--file <file>',
        'to a file, which is there when it is whole; compressed when it ends with .gz; else to standard output',
      ),
  )
    .addHelpText(
      'after',
      `${examples(
        'sendmux events export --file events.ndjson.gz',
        'sendmux events export --from 2026-03-01 --to 2026-04-01 --type DomainAdded | jq .data.name',
        'sendmux events export --domain mail.acme.com',
      )}

A whole export has the seals of \`sendmux audit\` as well. Import takes one of the whole log, or of whole domains (--domain).`,
    )
    .action(async (options: Selected & { file?: string }, command: Command) => {
      const signal = interruption();
      await withArchive(async (pool, archive, head) => {
        const selection = await selectionOf(pool, options);
        const span = { after: 0, upTo: head };
        const { events } = await archive.count(selection, span);
        const seals = Object.values(selection).every((part) => part === undefined) ? await sealsOf(pool, head) : [];
        const header: ExportHeader = { format: 'sendmux-export/1', events, seals: seals.length, head };
        const progress = new Progress({ label: 'Exporting', total: events, unit: 'events' });
        await stoppable(progress, 'Nothing is written. Begin again with the same command.', () =>
          writeLines(options.file, linesOf(archive, selection, span, { header, seals, signal, progress })),
        );
        if (options.file !== undefined)
          print(command, { file: options.file, ...header }, () => [
            `${events} events and ${seals.length} seals are in ${options.file}.`,
          ]);
      });
    });

  events
    .command('import')
    .description('fills an empty store with an export: the same positions, versions and hashes; all of it, or nothing')
    .argument('<file>', 'what `sendmux events export --file` has written')
    .addHelpText(
      'after',
      `${examples('sendmux events import events.ndjson.gz')}

Run \`sendmux migrate\` first, and no app until it is done. Each event is checked against its hash and the one before it.`,
    )
    .action(async (file: string, _options: object, command: Command) => {
      const signal = interruption();
      const done = await withArchive((_pool, archive) => importFile(file, archive, signal));
      print(command, done, () => [
        `${done.events} events and ${done.seals} seals are in the store, each as its hash says; the next position is ${done.head + 1}.`,
        'Next, the read models:  sendmux projections rebuild domains && sendmux projections rebuild mailboxes',
      ]);
    });
}

interface Republished extends Selected {
  readonly topic?: string;
  readonly file?: string;
  readonly rate?: string;
  readonly dryRun?: boolean;
  readonly resume?: string;
}

const selecting = (command: Command): Command =>
  command
    .option('--from <time>', `the first moment, by the time of the events: ${timeForms}`)
    .option('--to <time>', 'the moment after the last; the same forms')
    .option('--domain <domain>', 'of one domain or mailbox, by its id; or of all domains that had this name')
    .option('--type <type...>', 'of these types, such as DomainAdded');

/** @throws {UsedWrongly} naming what is no time, type or domain. */
async function selectionOf(pool: Pool, { from, to, domain, type: types }: Selected): Promise<Selection> {
  const now = new Date();
  const time = (option: string, text: string | undefined) => {
    if (text === undefined) return undefined;
    const parsed = parseTime(text, now);
    if (!parsed) throw new UsedWrongly(`--${option} ${text} is no time. Give ${timeForms}.`);
    return parsed;
  };
  const known = Object.keys({ ...schemaVersions, ...mailboxSchemaVersions });
  const unknown = types?.filter((type) => !known.includes(type)) ?? [];
  if (unknown.length > 0)
    throw new UsedWrongly(`There is no event type ${unknown.join(', ')}. There are ${known.join(', ')}.`);
  const selection = { from: time('from', from), to: time('to', to), types };
  if (selection.from && selection.to && selection.from >= selection.to)
    throw new UsedWrongly(`--from ${from} is not before --to ${to}.`);
  return { ...selection, streams: domain === undefined ? undefined : await streamsOf(pool, domain) };
}

async function streamsOf(pool: Pool, domain: string): Promise<string[]> {
  const { rows } = /^(mdom|mbx)_[a-z0-9]+$/.test(domain)
    ? await pool.query<{ stream: string }>('SELECT stream FROM events WHERE stream = $1 AND version = 1', [domain])
    : await pool.query<{ stream: string }>(
        `SELECT stream FROM events WHERE type = 'DomainAdded' AND data->>'name' = $1 ORDER BY position`,
        [parseDomainName(domain).name],
      );
  if (rows.length === 0) throw new Error(`No domain or mailbox was ever ${domain}.`);
  return rows.map(({ stream }) => stream);
}

/** As one connection sees it, whose statements may take their time. */
async function withArchive<T>(work: (pool: Pool, archive: EventArchive, head: number) => Promise<T>): Promise<T> {
  const pool = openPool(loadSettings(process.env, ['DATABASE_URL']).DATABASE_URL, 2, 0);
  const log = new EventLog(pool);
  try {
    return await work(pool, new EventArchive(pool), await log.head());
  } finally {
    await log.close();
    await pool.end();
  }
}

/** What is said when a signal stops the work: what is left, and how to go on. */
async function stoppable<T>(progress: Progress, left: string, work: () => Promise<T>): Promise<T> {
  try {
    const result = await work();
    progress.finish();
    return result;
  } catch (error) {
    progress.abandon();
    if (error instanceof Interrupted) throw new Interrupted(`Interrupted. ${left}`, { cause: error });
    throw error;
  }
}

interface Line {
  readonly header?: ExportHeader;
  readonly seals?: readonly Seal[];
  readonly replayId?: string;
  readonly perSecond?: number;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

async function* linesOf(
  archive: EventArchive,
  selection: Selection,
  span: Span,
  { header, seals = [], replayId, signal, progress }: Line,
): AsyncGenerator<string> {
  if (header) yield headerLine(newId('exp'), header, new Date());
  let done = 0;
  for await (const { events } of archive.read(selection, span)) {
    signal.throwIfAborted();
    if (events.length > 0) yield events.map((event) => toLine(event, replayId)).join('\n');
    progress.reached((done += events.length));
  }
  for (const seal of seals) yield sealLine(seal);
}

/** A replay to a file, or only how much it would be. */
async function toFile(options: Republished, command: Command): Promise<void> {
  const { file, dryRun } = options;
  if (options.resume !== undefined)
    throw new UsedWrongly('--resume goes on with a replay to Kafka: leave --file and --dry-run out.');
  if (options.topic !== undefined && file !== undefined) throw new UsedWrongly('--topic or --file, not both.');
  const signal = interruption();
  await withArchive(async (pool, archive, head) => {
    const selection = await selectionOf(pool, options);
    const span = { after: 0, upTo: head };
    const { events, streams } = await archive.count(selection, span);
    if (dryRun)
      return print(command, { events, streams }, () => [
        `${events} events of ${streams} domains and mailboxes would be published once more.`,
      ]);
    const replay = newId('rpl');
    const progress = new Progress({ label: 'Writing', total: events, unit: 'events' });
    await stoppable(progress, 'Nothing is written. Begin again with the same command.', () =>
      writeLines(file, linesOf(archive, selection, span, { replayId: replay, signal, progress })),
    );
    print(command, { replay, file, events }, () => [`${events} events are in ${file}, marked as ${replay}.`]);
  });
}

async function sealsOf(pool: Pool, head: number): Promise<Seal[]> {
  const { rows } = await pool.query<Seal>(
    'SELECT statement, signer, signature FROM audit_seals WHERE up_to <= $1 ORDER BY number',
    [head],
  );
  return rows;
}

/** Events that go to the store at once. */
const pageSize = 1_000;

/** @throws {Error} naming the first line that is not as it should be; nothing was written. */
async function importFile(file: string, archive: EventArchive, signal: AbortSignal): Promise<ExportHeader> {
  const lines = readLines(file);
  let number = 0;
  const next = async () => {
    const read = await lines.next();
    if (read.done) return undefined;
    number += 1;
    return read.value;
  };
  const bad = (why: string, cause?: unknown) =>
    new Error(`Line ${number} of ${file}: ${why}. Nothing is imported.`, { cause });
  const header = readHeader((await next()) ?? '');
  if (!header) throw bad('it is not the first line of an export');
  const progress = new Progress({ label: 'Importing', total: header.events, unit: 'events' });
  const take = checkChain();
  const wanted = (what: string) => bad(`the file should go on with ${what} here, and ends`);
  const pages = async function* () {
    let page: KeptEvent[] = [];
    for (let left = header.events; left > 0; left--) {
      const line = await next();
      if (line === undefined) throw wanted(`${left} more events`);
      try {
        const event = fromLine(line);
        take(event);
        if (event.position > header.head) throw new LineRefused(`it has a position above ${header.head}`);
        page.push(event);
      } catch (error) {
        if (error instanceof LineRefused || error instanceof ChainBroken) throw bad(error.message, error);
        throw error;
      }
      if (page.length < pageSize) continue;
      signal.throwIfAborted();
      yield page;
      progress.reached(header.events - left + 1);
      page = [];
    }
    yield page;
    progress.reached(header.events);
  };
  await stoppable(progress, 'Nothing is imported. Begin again with the same command.', () =>
    archive.fill(pages(), async (client) => {
      for (let left = header.seals; left > 0; left--) {
        const line = await next();
        if (line === undefined) throw wanted(`${left} more seals`);
        const seal = readSeal(line);
        if (!seal) throw bad('it is no seal');
        const { number: place, after, upTo } = readStatement(seal.statement)!;
        // The leaves are the hashes of what the seal covers.
        await client.query(
          `INSERT INTO audit_seals (number, up_to, statement, signer, signature, leaves)
           SELECT $1, $2, $3, $4, $5, coalesce(string_agg(hash, ''::bytea ORDER BY position), '')
           FROM events WHERE position > $6 AND position <= $2`,
          [place, upTo, seal.statement, seal.signer, seal.signature, after],
        );
      }
      if ((await next()) !== undefined) throw bad('the export ended before it');
      signal.throwIfAborted();
      return header.head;
    }),
  );
  return header;
}
