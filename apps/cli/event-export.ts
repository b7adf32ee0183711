import { changesOf, newestAmendment, storedAmendments, storedSeals, type Seal } from '@app/audit';
import type { EventArchive, Selection, Span } from '@app/event-store';
import { toLine } from '@app/messaging';
import { newId } from '@app/runtime';
import type { Command } from 'commander';
import type { Pool } from 'pg';
import { amendmentLine, headerLine, sealLine, writeLines, type ExportHeader, type KeptAmendment } from './event-file';
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
      await withArchive(async (pool, archive, head) => {
        const selection = await selectionOf(pool, archive, options);
        const newest = await newestAmendment(pool);
        const span = { after: 0, upTo: head };
        const { events } = await archive.count(selection, span);
        const seals = Object.values(selection).every((part) => part === undefined) ? await storedSeals(pool, head) : [];
        const amendments = seals.length > 0 ? await storedAmendments(pool) : [];
        const counts = { seals: seals.length, ...(amendments.length > 0 && { amendments: amendments.length }) };
        const header: ExportHeader = { format: 'sendmux-export/1', events, ...counts, head };
        const amended = async function* () {
          for (const amendment of amendments) yield { amendment, changes: await changesOf(pool, amendment.number) };
        };
        const progress = new Progress({ label: 'Exporting', total: events, unit: 'events' });
        await stoppable(progress, 'Nothing is written. Begin again with the same command.', () =>
          writeLines(
            options.file,
            unamended(pool, newest, linesOf(archive, selection, span, { header, seals, amended, signal, progress })),
          ),
        );
        if (options.file !== undefined)
          print(command, { file: options.file, ...header }, () => [
            `${events} events and ${seals.length} seals are in ${options.file}.`,
          ]);
      });
    });
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

/** The lines that `linesOf` writes besides the events. */
interface LineOptions {
  readonly header?: ExportHeader;
  readonly seals?: readonly Seal[];
  readonly amended?: () => AsyncIterable<KeptAmendment>;
  readonly replayId?: string;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/**
 * Gives the lines of an export or a replay: a header if there is one, the events page by page, then the amendments and
 * the seals.
 */
export async function* linesOf(
  archive: EventArchive,
  selection: Selection,
  span: Span,
  { header, seals = [], amended, replayId, signal, progress }: LineOptions,
): AsyncGenerator<string> {
  if (header) yield headerLine(newId('exp'), header, new Date());
  let done = 0;
  for await (const { events } of archive.read(selection, span)) {
    signal.throwIfAborted();
    if (events.length > 0) yield events.map((event) => toLine(event, replayId)).join('\n');
    progress.reached((done += events.length));
  }
  for await (const each of amended?.() ?? []) yield amendmentLine(each);
  for (const seal of seals) yield sealLine(seal);
}
