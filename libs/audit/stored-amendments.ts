import type { Connection } from '@app/database';
import type { Pool } from 'pg';
import { readAmendment, rootOf, signAmendment, type AmendmentReason, type Change } from './amendment';
import {
  hashOfStatement,
  nothingBefore,
  readStatement,
  isSigned,
  type Seal,
  type SealingKey,
  type TrustedKeys,
} from './seal';
import { sealingLock } from './sealing-lock';

/** An amendment as it is stored. */
export interface StoredAmendment extends Seal {
  readonly number: number;
}

/**
 * Signs and stores what the open transaction has changed in events, so that the seals still prove all that it has not
 * changed. No seal is made meanwhile.
 *
 * @param changes in the order of their positions, at least one.
 */
export async function recordAmendment(
  client: Connection,
  key: SealingKey,
  reason: AmendmentReason,
  changes: readonly Change[],
  clock = Date.now,
): Promise<void> {
  const { rows: last } = await client.query<StoredAmendment>(
    'SELECT number, statement, signer, signature FROM audit_amendments ORDER BY number DESC LIMIT 1',
  );
  const { rows: seals } = await client.query<{ statement: string }>(
    'SELECT statement FROM audit_seals ORDER BY number DESC LIMIT 1',
  );
  const seal = seals[0] && readStatement(seals[0].statement);
  const says = {
    log: seal?.log ?? 'unsealed',
    seals: seal?.number ?? 0,
    reason,
    time: new Date(clock()).toISOString(),
  };
  await importAmendment(client, signAmendment(key, says, changes, last[0]), changes);
}

/** Holds back seals until the end of the open transaction. */
export const holdSeals = async (client: Connection): Promise<void> => {
  await client.query('SELECT pg_advisory_xact_lock($1)', [sealingLock]);
};

/** Stores an amendment that was made elsewhere. @throws {Error} when its statement cannot be read. */
export async function importAmendment(
  client: Connection,
  { statement, signer, signature }: Seal,
  changes: readonly Change[],
): Promise<void> {
  const says = readAmendment(statement);
  if (!says) throw new Error('The statement of the amendment cannot be read.');
  await client.query('INSERT INTO audit_amendments (number, statement, signer, signature) VALUES ($1, $2, $3, $4)', [
    says.number,
    statement,
    signer,
    signature,
  ]);
  await client.query(
    `INSERT INTO audit_amended_events (position, number, before, after)
     SELECT position, $1, before, after FROM unnest($2::bigint[], $3::bytea[], $4::bytea[]) AS c (position, before, after)`,
    [
      says.number,
      changes.map(({ position }) => position),
      changes.map(({ before }) => before),
      changes.map(({ after }) => after),
    ],
  );
}

/** Reads the amendments, the oldest first. */
export async function storedAmendments(pool: Pool | Connection): Promise<StoredAmendment[]> {
  const { rows } = await (pool as Connection).query<StoredAmendment>(
    'SELECT number, statement, signer, signature FROM audit_amendments ORDER BY number',
  );
  return rows;
}

/** Reads the amendments that have changed events in a part of the log, the oldest first. */
export async function amendmentsOver(
  client: Connection,
  { after, upTo }: { readonly after: number; readonly upTo: number },
): Promise<StoredAmendment[]> {
  const { rows } = await client.query<StoredAmendment>(
    `SELECT number, statement, signer, signature FROM audit_amendments WHERE number IN (
       SELECT number FROM audit_amended_events WHERE position > $1 AND position <= $2
     ) ORDER BY number`,
    [after, upTo],
  );
  return rows;
}

/** Gives the number of the newest amendment; 0 where there is none. */
export async function newestAmendment(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ number: number }>(
    'SELECT coalesce(max(number), 0) AS number FROM audit_amendments',
  );
  return rows[0]!.number;
}

/** Reads what an amendment has changed, in the order of the positions. */
export async function changesOf(pool: Pool | Connection, number: number): Promise<Change[]> {
  const { rows } = await (pool as Connection).query<Change>(
    `SELECT position::float8 AS position, before, after FROM audit_amended_events
     WHERE number = $1 ORDER BY audit_amended_events.position`,
    [number],
  );
  return rows;
}

/**
 * Reads the hashes that events had before amendments, as a seal covers them.
 *
 * @param seal the number of the seal.
 * @param valid the numbers of the amendments that count; all when absent.
 * @returns the hash that was sealed, by the hash in hex that the event has now.
 */
export async function hashesBefore(
  pool: Pool | Connection,
  seal: number,
  { after, upTo }: { readonly after: number; readonly upTo: number },
  valid?: readonly number[],
): Promise<ReadonlyMap<string, { before: Buffer; changes: readonly (Change & { readonly number: number })[] }>> {
  const { rows } = await (pool as Connection).query<Change & { number: number; statement: string }>(
    `SELECT e.position::float8 AS position, e.number, e.before, e.after, a.statement
     FROM audit_amended_events e JOIN audit_amendments a USING (number)
     WHERE e.position > $1 AND e.position <= $2 AND ($3::int[] IS NULL OR e.number = ANY ($3))
     ORDER BY e.position, e.number DESC`,
    [after, upTo, valid ?? null],
  );
  const found = new Map<string, { before: Buffer; changes: (Change & { number: number })[] }>();
  let [position, now] = [0, ''];
  for (const { statement, ...change } of rows) {
    if ((readAmendment(statement)?.seals ?? 0) < seal) continue;
    if (change.position !== position) [position, now] = [change.position, change.after.toString('hex')];
    const known = found.get(now);
    if (known && !known.before.equals(change.after)) continue;
    found.set(now, { before: change.before, changes: [...(known?.changes ?? []), change] });
  }
  return found;
}

/** What the amendments of a log come to. */
export interface CheckedAmendments {
  /** The numbers of those that are signed by a trusted key, follow the one before, and have the changes they name. */
  readonly valid: readonly number[];
  /** How many events the valid ones have changed. */
  readonly events: number;
  /** The number of each other one, with what is wrong. */
  readonly faults: readonly { readonly number: number; readonly position: number; readonly message: string }[];
}

/** Checks the amendments of a log. Memory grows with the changes of one of them alone. */
export async function checkAmendments(pool: Pool | Connection, trusted: TrustedKeys): Promise<CheckedAmendments> {
  const valid: number[] = [];
  const faults: { number: number; position: number; message: string }[] = [];
  let events = 0;
  let previous = nothingBefore;
  let expected = 1;
  for (const amendment of await storedAmendments(pool)) {
    const { number, statement } = amendment;
    const says = readAmendment(statement);
    const changes = await changesOf(pool, number);
    const fault = (message: string) =>
      faults.push({ number, position: changes[0]?.position ?? 0, message: `Amendment ${number} ${message}` });
    if (!says || says.number !== number || !isSigned(amendment, trusted))
      fault('is not as it was signed, or not by a key that is trusted here');
    else if (number !== expected || says.previous !== previous) fault('does not follow the one before it');
    else if (changes.length !== says.events || rootOf(changes) !== says.root)
      fault('names other changes than those that are kept beside it');
    else {
      valid.push(number);
      events += changes.length;
    }
    [previous, expected] = [hashOfStatement(statement), number + 1];
  }
  return { valid, events, faults };
}
