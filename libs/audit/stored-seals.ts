import type { Connection } from '@app/database';
import type { Pool } from 'pg';
import { readStatement, type Seal } from './seal';
import { hashesBefore } from './stored-amendments';

/** Reads the seals whose last event is at or below position `upTo`, all when it is absent; the oldest first. */
export async function storedSeals(pool: Pool, upTo?: number): Promise<Seal[]> {
  const { rows } = await pool.query<Seal>(
    `SELECT statement, signer, signature FROM audit_seals
     WHERE $1::bigint IS NULL OR up_to <= $1 ORDER BY number`,
    [upTo ?? null],
  );
  return rows;
}

/** Reads the seals that cover events of a part of the log, the oldest first, with the hashes that they were made of. */
export async function sealsOver(
  client: Pick<Connection, 'query'>,
  { after, upTo }: { readonly after: number; readonly upTo: number },
  most?: number,
): Promise<(Seal & { readonly number: number; readonly leaves: Buffer })[]> {
  const { rows } = await client.query<Seal & { number: number; leaves: Buffer }>(
    `SELECT number, statement, signer, signature, leaves FROM audit_seals
     WHERE up_to > $1 AND up_to <= (SELECT coalesce(min(up_to), 9223372036854775807) FROM audit_seals WHERE up_to >= $2)
     ORDER BY number LIMIT $3`,
    [after, upTo, most ?? null],
  );
  return rows;
}

/** Reads the newest seal; undefined where there is none. */
export async function newestSeal(pool: Pool): Promise<Seal | undefined> {
  const { rows } = await pool.query<Seal>(
    'SELECT statement, signer, signature FROM audit_seals ORDER BY number DESC LIMIT 1',
  );
  return rows[0];
}

/** Reads up to `limit` seals with a number above `after`, the oldest first. */
export async function storedSealsAfter(
  pool: Pool,
  after: number,
  limit: number,
): Promise<(Seal & { number: number })[]> {
  const { rows } = await pool.query<Seal & { number: number }>(
    'SELECT number, statement, signer, signature FROM audit_seals WHERE number > $1 ORDER BY number LIMIT $2',
    [after, limit],
  );
  return rows;
}

/**
 * Stores a seal that was made elsewhere, such as by the store that an export comes from. The events that it covers must
 * be stored already, and the amendments: the hashes that it was made of are its leaves.
 *
 * @throws {Error} when its statement cannot be read.
 */
export async function importSeal(client: Connection, { statement, signer, signature }: Seal): Promise<void> {
  const read = readStatement(statement);
  if (!read) throw new Error('The statement of the seal cannot be read.');
  const before = await hashesBefore(client, read.number, read);
  const { rows } = await client.query<{ hash: Buffer }>(
    'SELECT hash FROM events WHERE position > $1 AND position <= $2 ORDER BY position',
    [read.after, read.upTo],
  );
  const leaves = rows.map(({ hash }) => before.get(hash.toString('hex'))?.before ?? hash);
  await client.query(
    'INSERT INTO audit_seals (number, up_to, statement, signer, signature, leaves) VALUES ($1, $2, $3, $4, $5, $6)',
    [read.number, read.upTo, statement, signer, signature, Buffer.concat(leaves)],
  );
}
