import { importAmendment, importRestoration, importSeal } from '@app/audit';
import {
  ChainBroken,
  checkChain,
  fromLine,
  importIdentity,
  LineRefused,
  type EventArchive,
  type KeptEvent,
} from '@app/event-store';
import type { Command } from 'commander';
import {
  isArchiveHeader,
  readAmendmentLine,
  readHeader,
  readLines,
  readRestoreLine,
  readSeal,
  type ExportHeader,
  type SignedRestore,
} from './event-file';
import { interruption } from './interruption';
import { examples, print } from './output';
import { Progress, stoppable } from './progress';
import { withArchive } from './with-pool';

/** Adds `sendmux events import`. */
export function addImport(events: Command): void {
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
        'Next, the keys of mailboxes, from the old database:  pg_dump --data-only -t mailbox_keys',
        'Then the read models:  sendmux projections rebuild domains && sendmux projections rebuild mailboxes',
      ]);
    });
}

/** Number of events that are given to the store at once. */
const pageSize = 1_000;

/**
 * Writes the events and seals of a file to the store, or nothing when the file is faulty.
 *
 * @throws {Error} naming the first faulty line.
 */
export async function importFile(file: string, archive: EventArchive, signal: AbortSignal): Promise<ExportHeader> {
  const lines = new ExportLines(file);
  const first = (await lines.next()) ?? '';
  const header = readHeader(first);
  if (isArchiveHeader(first))
    throw lines.bad(
      'it is that of an archive, a part of a log. Import what `sendmux events export` writes of all of it',
    );
  if (!header) throw lines.bad('it is not the first line of an export');
  const progress = new Progress({ label: 'Importing', total: header.events, unit: 'events' });
  await stoppable(progress, 'Nothing is imported. Begin again with the same command.', () =>
    archive.fill(eventPages(lines, header, signal, progress), header.head, async (client) => {
      const restores: SignedRestore[] = [];
      for (let left = header.restores ?? 0; left > 0; left--) {
        const read = readRestoreLine(await lines.required(`${left} more restores`));
        if (!read) throw lines.bad('it is no restore of the log');
        restores.push(read);
      }
      if (header.log !== undefined)
        await importIdentity(
          client,
          header.log,
          restores.map(({ restore }) => restore),
        );
      for (const { restoration } of restores) if (restoration) await importRestoration(client, restoration);
      for (let left = header.amendments ?? 0; left > 0; left--) {
        const kept = readAmendmentLine(await lines.required(`${left} more amendments`));
        if (!kept) throw lines.bad('it is no amendment');
        await importAmendment(client, kept.amendment, kept.changes);
      }
      for (let left = header.seals; left > 0; left--) {
        const seal = readSeal(await lines.required(`${left} more seals`));
        if (!seal) throw lines.bad('it is no seal');
        await importSeal(client, seal);
      }
      if ((await lines.next()) !== undefined) throw lines.bad('the export ended before it');
      signal.throwIfAborted();
    }),
  );
  return header;
}

/**
 * Reads the events of the file in pages for the store. Each event is checked against its hash and the event before it.
 */
async function* eventPages(
  lines: ExportLines,
  header: ExportHeader,
  signal: AbortSignal,
  progress: Progress,
): AsyncGenerator<KeptEvent[]> {
  const take = checkChain();
  let page: KeptEvent[] = [];
  for (let left = header.events; left > 0; left--) {
    const line = await lines.required(`${left} more events`);
    try {
      const event = fromLine(line);
      take(event);
      if (event.position > header.head) throw new LineRefused(`it has a position above ${header.head}`);
      page.push(event);
    } catch (error) {
      if (error instanceof LineRefused || error instanceof ChainBroken) throw lines.bad(error.message, error);
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
}

/** Reads the lines of an export, and names the line in each error. */
class ExportLines {
  private readonly lines: AsyncGenerator<string, void>;
  private number = 0;

  constructor(private readonly file: string) {
    this.lines = readLines(file);
  }

  /** Reads the next line; undefined at the end of the file. */
  async next(): Promise<string | undefined> {
    const read = await this.lines.next();
    if (read.done) return undefined;
    this.number += 1;
    return read.value;
  }

  /** @throws {Error} at the end of the file. */
  async required(what: string): Promise<string> {
    const line = await this.next();
    if (line === undefined) throw this.bad(`the file should go on with ${what} here, and ends`);
    return line;
  }

  /** Gives the error for the line that was read last. */
  bad(why: string, cause?: unknown): Error {
    return new Error(`Line ${this.number} of ${this.file}: ${why}. Nothing is imported.`, { cause });
  }
}
