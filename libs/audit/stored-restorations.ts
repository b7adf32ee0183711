import type { Connection } from '@app/database';
import type { Epoch } from '@app/event-store';
import type { Pool } from 'pg';
import { readRestoration, signRestoration, type RestorationStatement } from './restoration';
import {
  hashOfStatement,
  isSigned,
  nothingBefore,
  readStatement,
  type Seal,
  type SealingKey,
  type TrustedKeys,
} from './seal';

/** Gives the position up to which the seals of a log cover it; 0 where there is none. */
export async function sealedUpTo(client: Pick<Connection, 'query'>): Promise<number> {
  const { rows } = await client.query<{ upTo: number }>(
    'SELECT coalesce(max(up_to), 0)::float8 AS "upTo" FROM audit_seals',
  );
  return rows[0]!.upTo;
}

/** Signs and stores, in the open transaction, that the log was restored and begins an epoch. */
export async function recordRestoration(client: Connection, key: SealingKey, epoch: Epoch, now: Date): Promise<void> {
  const { rows } = await client.query<{ number: number; statement: string }>(
    'SELECT number, statement FROM audit_seals ORDER BY number DESC LIMIT 1',
  );
  await importRestoration(client, signRestoration(key, epoch, rows[0], now));
}

/** Stores a restoration that was signed elsewhere. @throws {Error} when its statement cannot be read. */
export async function importRestoration(
  client: Pick<Connection, 'query'>,
  { statement, signer, signature }: Seal,
): Promise<void> {
  const says = readRestoration(statement);
  if (!says) throw new Error('The statement of the restoration cannot be read.');
  await client.query('INSERT INTO audit_restorations (epoch, statement, signer, signature) VALUES ($1, $2, $3, $4)', [
    says.epoch,
    statement,
    signer,
    signature,
  ]);
}

/** Reads what is stored of restorations, the oldest first. */
export async function storedRestorations(client: Pool | Connection): Promise<(Seal & { readonly epoch: number })[]> {
  const { rows } = await (client as Connection).query<Seal & { epoch: number }>(
    `SELECT epoch::float8 AS epoch, statement, signer, signature FROM audit_restorations
     ORDER BY audit_restorations.epoch`,
  );
  return rows;
}

/** What the restorations of a log come to. */
export interface CheckedRestorations {
  /** Those that are signed by a trusted key, and follow a seal that the log still has. */
  readonly valid: readonly RestorationStatement[];
  /** The epochs of which nothing valid says how they began, with what is wrong. */
  readonly faults: readonly { readonly after: number; readonly message: string }[];
}

/** Checks that a trusted key has signed each restore of the log. */
export async function checkRestorations(
  client: Connection,
  epochs: readonly Epoch[],
  trusted: TrustedKeys,
): Promise<CheckedRestorations> {
  const valid: RestorationStatement[] = [];
  const faults: { after: number; message: string }[] = [];
  const stored = new Map((await storedRestorations(client)).map((each) => [each.epoch, each]));
  for (const { number, after, log } of epochs.filter((epoch) => epoch.number > 1)) {
    const restoration = stored.get(number);
    const says = restoration && isSigned(restoration, trusted) ? readRestoration(restoration.statement) : undefined;
    if (says?.epoch !== number || says.after !== after || says.log !== log)
      faults.push({ after, message: `The log was restored (epoch ${number}), and no trusted key has signed that` });
    else if ((await hashOfSeal(client, says.seals)) !== says.previous)
      faults.push({ after, message: `Seal ${says.seals}, after which the log was restored, is another one` });
    else valid.push(says);
  }
  return { valid, faults };
}

async function hashOfSeal(client: Connection, number: number): Promise<string | undefined> {
  if (number === 0) return nothingBefore;
  const { rows } = await client.query<{ statement: string }>('SELECT statement FROM audit_seals WHERE number = $1', [
    number,
  ]);
  return rows[0] && hashOfStatement(rows[0].statement);
}

/** Gives the restoration by which a seal that a witness has was replaced; undefined where there is none. */
export function replacedBy(
  { statement }: Seal,
  restorations: readonly RestorationStatement[],
): RestorationStatement | undefined {
  const says = readStatement(statement);
  return (
    says && restorations.find(({ epoch, seals, log }) => log === says.log && epoch > says.epoch && seals < says.number)
  );
}
