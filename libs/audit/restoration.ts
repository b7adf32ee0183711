import type { Epoch } from '@app/event-store';
import { hashOfStatement, nothingBefore, type Seal, type SealingKey } from './seal';

/**
 * The statement that a log was taken back to an earlier moment: seals that were made after it and are not in the log
 * any more are replaced, and nobody has forged them.
 */
export interface RestorationStatement {
  /** The log, as its seals name it. */
  readonly log: string;
  /** The number of the epoch that begins with it. */
  readonly epoch: number;
  /** The number of the newest seal that stands, 0 for none; a witness may have later ones of earlier epochs. */
  readonly seals: number;
  /** SHA-256 of the statement of that seal, in hex; zeros for none. */
  readonly previous: string;
  /** Events of earlier epochs above this position are void. */
  readonly after: number;
  /** ISO 8601, UTC. */
  readonly time: string;
}

/** Writes a statement as seven lines of text, each with its newline. */
export const restorationText = (says: RestorationStatement): string =>
  [
    'sendmux-restore/1',
    `log ${says.log}`,
    `epoch ${says.epoch}`,
    `previous ${says.previous}`,
    `seals ${says.seals}`,
    `after ${says.after}`,
    `time ${says.time}`,
    '',
  ].join('\n');

const form =
  /^sendmux-restore\/1\nlog (\w{1,64})\nepoch (\d{1,16})\nprevious ([0-9a-f]{64})\nseals (\d{1,10})\nafter (\d{1,16})\ntime (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\n$/;

/** Reads a statement; undefined when the text is none. */
export function readRestoration(text: string): RestorationStatement | undefined {
  const [, log, epoch, previous, seals, after, time] = form.exec(text) ?? [];
  if (time === undefined) return undefined;
  return {
    log: log!,
    epoch: Number(epoch),
    previous: previous!,
    seals: Number(seals),
    after: Number(after),
    time,
  };
}

/** Signs the statement that an epoch begins after the newest seal that stands. */
export const signRestoration = (
  key: SealingKey,
  epoch: Epoch,
  newest: { readonly number: number; readonly statement: string } | undefined,
  now: Date,
): Seal =>
  key.signText(
    restorationText({
      log: epoch.log,
      epoch: epoch.number,
      previous: newest ? hashOfStatement(newest.statement) : nothingBefore,
      seals: newest?.number ?? 0,
      after: epoch.after,
      time: now.toISOString(),
    }),
  );
