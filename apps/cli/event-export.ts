import { changesOf, newestAmendment, storedAmendments, storedRestorations, storedSeals } from '@app/audit';
import { keptRestores, LogEpochs, type Epochs, type EventArchive, type Selection, type Span } from '@app/event-store';
import { toLine } from '@app/messaging';
import { newId } from '@app/runtime';
import type { Command } from 'commander';
import type { Pool } from 'pg';
import { amendmentLine, headerLine, restoreLine, sealLine, writeLines, type ExportHeader } from './event-file';
import { selecting, selectionOf, type Selected } from './event-selection';
import { interruption } from './interruption';
import { examples, print } from './output';
import { Progress, stoppable } from './progress';
import { withArchive } from './with-pool';

/** Adds `sendmux events export`. */
export function addExport(events: Command): void {
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
      const { file } = options;
      await withArchive(async (pool, archive, head) => {
        const selection = await selectionOf(pool, archive, options);
        const header = await exportFile(file, pool, archive, { selection, head, signal });
        if (file !== undefined)
          print(command, { file, ...header }, () => [
            `${header.events} events and ${header.seals} seals are in ${file}.`,
          ]);
      });
    });
}

/**
 * Writes the selected events up to the position `head` to a file, or to standard output when `file` is absent. A whole
 * export also has what the log says of itself: its identity and restores, amendments and seals.
 *
 * @returns the first line, which counts what follows.
 * @throws {Error} where `sendmux erase migrate-log` has changed events meanwhile; the file is not written.
 */
export async function exportFile(
  file: string | undefined,
  pool: Pool,
  archive: EventArchive,
  { selection, head, signal }: { readonly selection: Selection; readonly head: number; readonly signal: AbortSignal },
): Promise<ExportHeader> {
  const newest = await newestAmendment(pool);
  const span = { after: 0, upTo: head };
  const { events } = await archive.count(selection, span);
  const isWhole = Object.values(selection).every((part) => part === undefined);
  const epochs = await LogEpochs.of(pool).epochs();
  const restores = isWhole ? await keptRestores(pool) : [];
  const seals = isWhole ? await storedSeals(pool, head) : [];
  const amendments = seals.length > 0 ? await storedAmendments(pool) : [];
  const header: ExportHeader = {
    format: 'sendmux-export/1',
    events,
    seals: seals.length,
    ...(amendments.length > 0 && { amendments: amendments.length }),
    ...(isWhole && epochs.newest && { log: epochs.newest.log }),
    ...(restores.length > 0 && { restores: restores.length }),
    head,
  };
  const about = async function* () {
    const signed = new Map((await storedRestorations(pool)).map((each) => [each.epoch, each]));
    for (const restore of restores) yield restoreLine(header.log!, restore, signed.get(restore.epoch));
    for (const amendment of amendments)
      yield amendmentLine({ amendment, changes: await changesOf(pool, amendment.number) });
    for (const seal of seals) yield sealLine(seal);
  };
  const progress = new Progress({ label: 'Exporting', total: events, unit: 'events' });
  const lines = linesOf(archive, selection, span, { epochs, header, about, signal, progress });
  await stoppable(progress, 'Nothing is written. Begin again with the same command.', () =>
    writeLines(file, unamended(pool, newest, lines)),
  );
  return header;
}

/**
 * Gives the lines of an export that was begun when the newest amendment had the number `newest`.
 *
 * @throws {Error} at the end, where the log was amended since: events that were read before and after do not follow
 * each other, and no import takes them.
 */
export async function* unamended(pool: Pool, newest: number, lines: AsyncIterable<string>): AsyncGenerator<string> {
  yield* lines;
  if ((await newestAmendment(pool)) !== newest)
    throw new Error('`sendmux erase migrate-log` has changed events meanwhile. Begin again once it is done.');
}

/** What `linesOf` writes besides the events. */
interface LineOptions {
  /** The epochs of the log, which the ids of events name. */
  readonly epochs: Epochs;
  readonly header?: ExportHeader;
  /** The lines about the log that come after the events. */
  readonly about?: () => AsyncIterable<string>;
  readonly replayId?: string;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/**
 * Gives the lines of an export or a replay: a header if there is one, the events page by page, and then what is about
 * them.
 */
export async function* linesOf(
  archive: EventArchive,
  selection: Selection,
  span: Span,
  { epochs, header, about, replayId, signal, progress }: LineOptions,
): AsyncGenerator<string> {
  if (header) yield headerLine(newId('exp'), header, new Date());
  let done = 0;
  for await (const { events } of archive.read(selection, span)) {
    signal.throwIfAborted();
    if (events.length > 0) yield events.map((event) => toLine(epochs.placed(event), replayId)).join('\n');
    progress.reached((done += events.length));
  }
  yield* about?.() ?? [];
}
