import type { Connection } from '@app/database';
import type { Pool } from 'pg';
import { readStatement, type Seal } from './seal';

/** Reads the seals whose last event is at or below position `upTo`, all when it is absent; the oldest first. */
export async function storedSeals(pool: Pool, upTo?: number): Promise<Seal[]> {
  const { rows } = await pool.query<Seal>(
    `SELECT statement, signer, signature FROM audit_seals
     WHERE $1::bigint IS NULL OR up_to <= $1 ORDER BY number`,
    [upTo ?? null],
  );
  return rows;
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
 * be stored already: their hashes are its leaves.
 *
 * @throws {Error} when its statement cannot be read.
 */
export async function importSeal(client: Connection, { statement, signer, signature }: Seal): Promise<void> {
  const read = readStatement(statement);
  if (!read) throw new Error('The statement of the seal cannot be read.');
  await client.query(
    `INSERT INTO audit_seals (number, up_to, statement, signer, signature, leaves)
     SELECT $1, $2, $3, $4, $5, coalesce(string_agg(hash, ''::bytea ORDER BY position), '')
     FROM events WHERE position > $6 AND position <= $2`,
    [read.number, read.upTo, statement, signer, signature, read.after],
  );
}
