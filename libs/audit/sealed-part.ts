import type { Connection } from '@app/database';
import { merkleRoot } from './merkle';
import { isSigned, readStatement, type Statement, type TrustedKeys } from './seal';
import { hashesBefore } from './stored-amendments';
import { sealsOver } from './stored-seals';

/** Thrown when events are not those that were sealed, or no seal covers them. */
export class NotAsSealed extends Error {
  override readonly name = 'NotAsSealed';
}

interface SealedEvent {
  readonly position: number;
  readonly hash: Buffer;
}

/** Octets in a hash. */
const size = 32;

/**
 * Checks that a part of the log has the events that its seals cover. The hashes come in the order of the log; memory
 * grows with one seal alone.
 */
export class SealedPart {
  private open: { readonly says: Statement; readonly leaves: Buffer } | undefined;
  private found: Buffer[] = [];
  /** The seals that were compared. */
  seals = 0;

  constructor(
    private readonly client: Pick<Connection, 'query'>,
    private readonly trusted: TrustedKeys,
    private readonly part: { readonly after: number; readonly upTo: number },
  ) {}

  /** @throws {NotAsSealed} */
  async take(events: readonly SealedEvent[]): Promise<void> {
    for (const { position, hash } of events) {
      while (!this.open || position > this.open.says.upTo) await this.next();
      this.found.push(hash);
    }
  }

  /** Compares the last seal. @throws {NotAsSealed} */
  async end(): Promise<void> {
    if (this.open) await this.close();
  }

  private async next(): Promise<void> {
    const after = this.open?.says.upTo ?? this.part.after;
    if (this.open) await this.close();
    const [seal] = await sealsOver(this.client, { after, upTo: this.part.upTo }, 1);
    const says = seal && readStatement(seal.statement);
    if (!says) throw new NotAsSealed(`no seal covers the events after position ${after}`);
    if (!isSigned(seal, this.trusted) || merkleRoot(seal.leaves).toString('hex') !== says.root)
      throw new NotAsSealed(`seal ${says.number} is not as it was signed, or not by a key that is trusted here`);
    this.open = { says, leaves: seal.leaves };
  }

  private async close(): Promise<void> {
    const { says, leaves } = this.open!;
    const { after, upTo } = this.part;
    const before = await hashesBefore(this.client as Connection, says.number, says);
    const found = Buffer.concat(this.found.map((hash) => before.get(hash.toString('hex'))?.before ?? hash));
    this.found = [];
    this.open = undefined;
    this.seals++;
    // A seal at an end of the part covers events outside of it as well.
    const [beginsHere, endsHere] = [says.after >= after, says.upTo <= upTo];
    const first = beginsHere ? 0 : endsHere ? leaves.length - found.length : placeOf(found, leaves);
    const sealed = leaves.subarray(Math.max(0, first), beginsHere && endsHere ? undefined : first + found.length);
    if (first < 0 || !sealed.equals(found)) throw new NotAsSealed(`seal ${says.number} covers other events than these`);
  }
}

/** Gives the octet of `leaves` at which some hashes begin; -1 where they do not follow each other there. */
function placeOf(hashes: Buffer, leaves: Buffer): number {
  let at = leaves.indexOf(hashes);
  while (at > 0 && at % size !== 0) at = leaves.indexOf(hashes, at + 1);
  return at;
}
