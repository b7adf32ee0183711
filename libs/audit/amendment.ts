import { hash } from 'node:crypto';
import { merkleRoot } from './merkle';
import { hashOfStatement, type Seal, type SealingKey } from './seal';

/**
 * Why events were changed. `personal-data-encrypted`: their personal data were recorded in clear by an earlier release,
 * and are encrypted now; the hashes of what follows them in their streams changed with theirs.
 */
export type AmendmentReason = 'personal-data-encrypted';

/** The statement that an amendment makes about the log. */
export interface AmendmentStatement {
  /** The log, as its seals name it; `unsealed` for one that has none. */
  readonly log: string;
  /** The number of the amendment, from 1 and without gaps. */
  readonly number: number;
  /** SHA-256 of the statement of the amendment before it, in hex; zeros for the first. */
  readonly previous: string;
  /** The number of the newest seal at that time, 0 for none: the seals up to it cover the hashes from before. */
  readonly seals: number;
  /** How many events have another hash. */
  readonly events: number;
  /** Merkle root over the changes in the order of their positions, in hex (RFC 9162 section 2.1.1). */
  readonly root: string;
  readonly reason: AmendmentReason;
  /** ISO 8601, UTC. */
  readonly time: string;
}

/** An event that has another hash since an amendment. */
export interface Change {
  readonly position: number;
  readonly before: Buffer;
  readonly after: Buffer;
}

/** Writes a statement as nine lines of text, each with its newline. */
export const amendmentText = (says: AmendmentStatement): string =>
  [
    'sendmux-amendment/1',
    `log ${says.log}`,
    `number ${says.number}`,
    `previous ${says.previous}`,
    `seals ${says.seals}`,
    `events ${says.events}`,
    `root ${says.root}`,
    `reason ${says.reason}`,
    `time ${says.time}`,
    '',
  ].join('\n');

const form =
  /^sendmux-amendment\/1\nlog (\w{1,64})\nnumber (\d{1,10})\nprevious ([0-9a-f]{64})\nseals (\d{1,10})\nevents (\d{1,10})\nroot ([0-9a-f]{64})\nreason (personal-data-encrypted)\ntime (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\n$/;

/** Reads a statement; undefined when the text is none. */
export function readAmendment(text: string): AmendmentStatement | undefined {
  const [, log, number, previous, seals, events, root, reason, time] = form.exec(text) ?? [];
  if (time === undefined) return undefined;
  return {
    log: log!,
    number: Number(number),
    previous: previous!,
    seals: Number(seals),
    events: Number(events),
    root: root!,
    reason: reason as AmendmentReason,
    time,
  };
}

/** Gives the leaf of a change in the tree of its amendment: SHA-256 of a zero, the position and both hashes. */
export function leafOf({ position, before, after }: Change): Buffer {
  const octets = Buffer.alloc(9);
  octets.writeBigInt64BE(BigInt(position), 1);
  return hash('sha256', Buffer.concat([octets, before, after]), 'buffer');
}

/** Gives the root of changes, which are in the order of their positions. */
export const rootOf = (changes: readonly Change[]): string =>
  merkleRoot(Buffer.concat(changes.map(leafOf))).toString('hex');

/** Signs the amendment that follows `last`. */
export const signAmendment = (
  key: SealingKey,
  says: Omit<AmendmentStatement, 'number' | 'previous' | 'root' | 'events'>,
  changes: readonly Change[],
  last: { readonly number: number; readonly statement: string } | undefined,
): Seal =>
  key.signText(
    amendmentText({
      ...says,
      number: (last?.number ?? 0) + 1,
      previous: last ? hashOfStatement(last.statement) : '0'.repeat(64),
      events: changes.length,
      root: rootOf(changes),
    }),
  );
