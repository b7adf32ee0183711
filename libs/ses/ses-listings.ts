import type { SesDkimStatus } from '@app/mail-records';
import type { Pool } from 'pg';

/** A listing that one process has claimed. */
export interface ClaimedListing {
  readonly shard: string;
  readonly token: string;
}

export interface ListedIdentity {
  readonly name: string;
  readonly status: SesDkimStatus;
}

/** What is known of a shard. */
export interface Listing {
  readonly shard: string;
  /** Milliseconds since SES was asked for the first of the statuses, so that each of them is at most as old. */
  readonly ageMs: number;
  /** Milliseconds that the last whole listing took; null before there was one: identities may be missing. */
  readonly tookMs: number | null;
  /** The number of identities of the last whole listing; null before there was one. */
  readonly identities: number | null;
  /** Whether the last listing has failed. */
  readonly hasFailed: boolean;
}

/** Thrown when another process has taken over the listing. */
export class ListingLost extends Error {
  override readonly name = 'ListingLost';
}

/** The status that the table has of an identity, or NULL, as a part of a query. Both parameters are SQL. */
export const listedStatusOf = (shard: string, name: string): string =>
  `(SELECT listed.status FROM ses_statuses listed WHERE listed.shard = ${shard} AND listed.name = ${name})`;

/** Whose lease it is. A statement that has it holds the row, so that nobody takes over before it is committed. */
const held = `held AS MATERIALIZED (SELECT FROM ses_listings WHERE shard = $1 AND lease_token = $2 FOR UPDATE)`;

/** The most names that are compared with a listing at once. */
const namesAtOnce = 10_000;

/** Stores the status of each identity of SES (`ses_statuses`), and which process lists a shard (`ses_listings`). */
export class SesListings {
  constructor(private readonly pool: Pool) {}

  /** Adds shards that are not known yet. */
  async add(shards: readonly string[]): Promise<void> {
    await this.pool.query('INSERT INTO ses_listings (shard) SELECT unnest($1::text[]) ON CONFLICT (shard) DO NOTHING', [
      shards,
    ]);
  }

  /** Claims listings that are due, at most `limit`, the one that is due longest first, each for `leaseMs`. */
  async claim(shards: readonly string[], limit: number, leaseMs: number): Promise<ClaimedListing[]> {
    const { rows } = await this.pool.query<ClaimedListing>({
      name: 'ses-listings-claim',
      text: `
        WITH due AS MATERIALIZED (
          SELECT shard FROM ses_listings
          WHERE shard = ANY ($1) AND due_at <= now() AND (lease_until IS NULL OR lease_until <= now())
          ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        UPDATE ses_listings l SET lease_token = gen_random_uuid(), lease_until = now() + $3 * interval '1 ms',
          listing_since = now(), known_since = coalesce(known_since, now())
        FROM due WHERE l.shard = due.shard
        RETURNING l.shard, l.lease_token AS token`,
      values: [shards, limit, leaseMs],
    });
    return rows;
  }

  /** Renews the lease. Gives false when another process has the listing. */
  async renew({ shard, token }: ClaimedListing, leaseMs: number): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'ses-listings-renew',
      text: `UPDATE ses_listings SET lease_until = now() + $3 * interval '1 ms' WHERE shard = $1 AND lease_token = $2`,
      values: [shard, token, leaseMs],
    });
    return rowCount === 1;
  }

  /**
   * Writes identities whose status differs, and touches no other row.
   *
   * @throws {ListingLost}
   */
  async save({ shard, token }: ClaimedListing, identities: readonly ListedIdentity[]): Promise<void> {
    const { rows } = await this.pool.query<{ isHeld: boolean }>({
      name: 'ses-listings-save',
      text: `
        WITH ${held}, saved AS (
          INSERT INTO ses_statuses (shard, name, status)
          SELECT DISTINCT ON (listed.name) $1, listed.name, listed.status
          FROM held, unnest($3::text[], $4::text[]) AS listed (name, status)
          LEFT JOIN ses_statuses known ON known.shard = $1 AND known.name = listed.name
          WHERE known.status IS DISTINCT FROM listed.status
          ON CONFLICT (shard, name) DO UPDATE SET status = excluded.status
        )
        SELECT EXISTS (SELECT FROM held) AS "isHeld"`,
      values: [shard, token, identities.map(({ name }) => name), identities.map(({ status }) => status)],
    });
    if (!rows[0]!.isHeld) throw new ListingLost(`Another process lists the shard ${shard}`);
  }

  /**
   * Removes the identities that a whole listing has not seen, page by page.
   *
   * @throws {ListingLost}
   */
  async removeUnseen(listing: ClaimedListing, seen: { has(name: string): boolean }): Promise<void> {
    for (let after = '', isFull = true; isFull;) {
      const { rows } = await this.pool.query<{ name: string }>({
        name: 'ses-listings-names',
        text: 'SELECT name FROM ses_statuses WHERE shard = $1 AND name > $2 ORDER BY name LIMIT $3',
        values: [listing.shard, after, namesAtOnce],
      });
      const gone = rows.flatMap(({ name }) => (seen.has(name) ? [] : [name]));
      if (gone.length > 0) await this.remove(listing, gone);
      isFull = rows.length === namesAtOnce;
      after = rows.at(-1)?.name ?? after;
    }
  }

  private async remove({ shard, token }: ClaimedListing, names: readonly string[]): Promise<void> {
    const { rows } = await this.pool.query<{ isHeld: boolean }>({
      name: 'ses-listings-remove',
      text: `
        WITH ${held}, removed AS (
          DELETE FROM ses_statuses USING held WHERE shard = $1 AND name = ANY ($3)
        )
        SELECT EXISTS (SELECT FROM held) AS "isHeld"`,
      values: [shard, token, names],
    });
    if (!rows[0]!.isHeld) throw new ListingLost(`Another process lists the shard ${shard}`);
  }

  /** Ends a whole listing. The next one is due after `refreshMs`, or later, so that half of the time none runs. */
  async end({ shard, token }: ClaimedListing, identities: number, refreshMs: number): Promise<void> {
    await this.pool.query({
      name: 'ses-listings-end',
      text: `
        UPDATE ses_listings SET lease_token = NULL, lease_until = NULL, known_since = listing_since,
          took = now() - listing_since, identities = $3, has_failed = false,
          due_at = now() + greatest($4 * interval '1 ms', now() - listing_since)
        WHERE shard = $1 AND lease_token = $2`,
      values: [shard, token, identities, refreshMs],
    });
  }

  /** Leaves a listing to any process, after `delayMs`. What it has written stays. */
  async release({ shard, token }: ClaimedListing, hasFailed: boolean, delayMs: number): Promise<void> {
    await this.pool.query({
      name: 'ses-listings-release',
      text: `
        UPDATE ses_listings SET lease_token = NULL, lease_until = NULL, has_failed = has_failed OR $3,
          due_at = now() + $4 * interval '1 ms'
        WHERE shard = $1 AND lease_token = $2`,
      values: [shard, token, hasFailed, delayMs],
    });
  }

  /**
   * Forgets the statuses of shards that no process lists any more, because the settings have them no more. One that
   * comes back was never listed then. What any process lists, or tries to, is due again within that time.
   *
   * @param except shards of the settings of this process.
   * @param unlistedMs milliseconds for which a listing has been due.
   * @returns the number of statuses that are gone.
   */
  async forget(except: readonly string[], unlistedMs: number): Promise<number> {
    const isUnlisted = `due_at < now() - $2 * interval '1 ms' AND (lease_until IS NULL OR lease_until < now())`;
    const { rows } = await this.pool.query<{ shard: string }>(
      `SELECT shard FROM ses_listings l WHERE shard <> ALL ($1) AND ${isUnlisted}
        AND (known_since IS NOT NULL OR EXISTS (SELECT FROM ses_statuses s WHERE s.shard = l.shard))`,
      [except, unlistedMs],
    );
    let forgotten = 0;
    for (const { shard } of rows)
      for (let isFull = true; isFull;) {
        // It holds the row of the listing, so that no process begins to list the shard meanwhile.
        const { rows: gone } = await this.pool.query<{ count: number }>(
          `WITH held AS MATERIALIZED (
            UPDATE ses_listings SET known_since = NULL, took = NULL, identities = NULL, has_failed = false
            WHERE shard = $1 AND ${isUnlisted} RETURNING shard
          ), gone AS (
            DELETE FROM ses_statuses s USING held WHERE s.shard = held.shard
              AND s.name = ANY (ARRAY(SELECT name FROM ses_statuses WHERE shard = $1 LIMIT $3)) RETURNING 1
          )
          SELECT count(*)::integer AS count FROM gone`,
          [shard, unlistedMs, namesAtOnce],
        );
        forgotten += gone[0]!.count;
        isFull = gone[0]!.count === namesAtOnce;
      }
    return forgotten;
  }

  /** Reads what is known of the shards of which anything is. */
  async read(): Promise<Listing[]> {
    const { rows } = await this.pool.query<Listing>({
      name: 'ses-listings-read',
      text: `
        SELECT shard, extract(epoch FROM now() - known_since)::float8 * 1000 AS "ageMs",
          extract(epoch FROM took)::float8 * 1000 AS "tookMs", identities::float8, has_failed AS "hasFailed"
        FROM ses_listings WHERE known_since IS NOT NULL`,
    });
    return rows;
  }

  /** Reads the status that the table has of an identity; null when it has none. */
  async statusOf(shard: string, name: string): Promise<SesDkimStatus | null> {
    const { rows } = await this.pool.query<{ status: SesDkimStatus | null }>({
      name: 'ses-listings-status',
      text: `SELECT ${listedStatusOf('$1', '$2')} AS status`,
      values: [shard, name],
    });
    return rows[0]!.status;
  }
}
