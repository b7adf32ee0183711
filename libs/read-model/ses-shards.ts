import { inTransaction, Together } from '@app/database';
import { SettingsInvalid, defaultShard, type SesShard } from '@app/runtime';
import type { Pool } from 'pg';
import { holding } from './quotas';

/** A shard of SES as all processes know it. */
export interface ShardUse {
  readonly name: string;
  /** Null where no process has told its settings yet. */
  readonly region: string | null;
  /** The most identities that it may have. Null as above; 0 where the settings have the shard no more. */
  readonly capacity: number | null;
  /** The identities that it has, or may have: a domain takes its place from the add until it is gone. */
  readonly identities: number;
  /** Whether an operator has closed it to new identities. */
  readonly isDraining: boolean;
  /** Whether it has refused this installation, or has not answered it, just now. */
  readonly isFailing: boolean;
  /** The number of calls that it has refused or not answered. */
  readonly errors: number;
  /** The reason of the last of them, as the alarm of SES has it; null where there was none. */
  readonly lastError: string | null;
  readonly lastErrorAt: Date | null;
}

/** What is told to all processes of the calls of a shard. */
export interface ShardReports {
  /** Adds errors. With `isFailing` the shard takes no new domains until it answers, or for half a minute. */
  failed(shard: string, errors: number, reason: string, isFailing: boolean): Promise<void>;
  answers(shard: string): Promise<void>;
}

/** Seconds for which a shard is left out after it has failed: one add then finds out whether it still does. */
const failingSeconds = 30;

const columns = `name, region, capacity, identities, is_draining AS "isDraining",
  coalesce(failing_until > now(), false) AS "isFailing", errors::float8 AS errors, last_error AS "lastError",
  last_error_at AS "lastErrorAt"`;

/**
 * The condition for a shard that takes new domains. Where there is one shard only there is nothing to choose: an add
 * tries it, and ends as SES answers.
 */
const open = `identities < capacity AND NOT is_draining AND (
    failing_until IS NULL OR failing_until <= now() OR (SELECT count(*) FROM ses_shards WHERE capacity > 0) = 1
  )`;

/** How many identities a shard may have besides those that it has. */
interface Room {
  readonly name: string;
  readonly room: number;
}

/** Keeps what all processes know of the shards of SES. Triggers count their identities, and hold their capacities. */
export class StoredShards implements ShardReports {
  private readonly rooms = new Together<'open', readonly Room[]>(
    (which) => which,
    () => this.openRooms(),
  );

  constructor(private readonly pool: Pool) {}

  /**
   * Stores the shards of the settings, for whichever process: those of the one that was started last count.
   *
   * @throws {SettingsInvalid} where a shard is missing in them that has identities; nothing has changed then.
   */
  async store(shards: readonly SesShard[]): Promise<void> {
    const names = shards.map(({ name }) => name);
    await inTransaction(this.pool, async (client) => {
      // Locked in the order in which appends lock them, so that no add comes in between.
      const { rows } = await client.query<{ name: string; identities: number }>(
        'SELECT name, identities FROM ses_shards ORDER BY name FOR UPDATE',
      );
      const missing = rows.filter(({ name, identities }) => identities > 0 && !names.includes(name));
      if (missing.length > 0) throw new SettingsInvalid(missing.map(missingShard).join('\n'));
      await client.query('UPDATE ses_shards SET capacity = 0 WHERE name <> ALL ($1)', [names]);
      await client.query(
        `INSERT INTO ses_shards (name, region, capacity)
          SELECT * FROM unnest($1::text[], $2::text[], $3::integer[]) AS given (name) ORDER BY name
          ON CONFLICT (name) DO UPDATE SET region = excluded.region, capacity = excluded.capacity`,
        [names, shards.map(({ region }) => region), shards.map(({ capacity }) => capacity)],
      );
    });
  }

  /** Gives all shards, by their names. Those that the settings have no more and that have no identity are left out. */
  async uses(): Promise<ShardUse[]> {
    const { rows } = await this.pool.query<ShardUse>(
      `SELECT ${columns} FROM ses_shards WHERE capacity > 0 OR identities > 0 ORDER BY name`,
    );
    return rows;
  }

  /**
   * Chooses a shard that takes new domains, by chance in proportion to the room that each has: of many adds at once not
   * all go to the same one. Undefined where none takes any.
   *
   * @param except a shard that is left out; none when absent.
   */
  async chooseOpen(except = ''): Promise<string | undefined> {
    const open = (await this.rooms.of('open')) ?? [];
    let [chosen, least]: [string | undefined, number] = [undefined, Infinity];
    for (const { name, room } of open) {
      const drawn = -Math.log(1 - Math.random()) / room;
      if (name !== except && drawn < least) [chosen, least] = [name, drawn];
    }
    return chosen;
  }

  private async openRooms(): Promise<Map<'open', readonly Room[]>> {
    const { rows } = await this.pool.query<Room>({
      name: 'shards-open',
      text: `SELECT name, capacity - identities AS room FROM ses_shards WHERE ${open}`,
    });
    return new Map([['open', rows]]);
  }

  /** Closes a shard to new identities, or opens it again. Gives false where there is no such shard. */
  async drain(name: string, isDraining: boolean): Promise<boolean> {
    const { rowCount } = await this.pool.query('UPDATE ses_shards SET is_draining = $2 WHERE name = $1', [
      name,
      isDraining,
    ]);
    return rowCount === 1;
  }

  async failed(shard: string, errors: number, reason: string, isFailing: boolean): Promise<void> {
    await this.pool.query({
      name: 'shard-failed',
      text: `UPDATE ses_shards SET errors = errors + $2, last_error = $3, last_error_at = now(),
          failing_until = CASE WHEN $4 THEN now() + interval '${failingSeconds} s' ELSE failing_until END
        WHERE name = $1`,
      values: [shard, errors, reason, isFailing],
    });
  }

  async answers(shard: string): Promise<void> {
    await this.pool.query('UPDATE ses_shards SET failing_until = NULL WHERE name = $1', [shard]);
  }
}

function missingShard({ name, identities }: { name: string; identities: number }): string {
  const count = identities === 1 ? '1 identity' : `${identities} identities`;
  const remedy =
    name === defaultShard
      ? `give this name to the shard of their account and Region, which all domains have that were added without shards`
      : `bring it back, and take it out once \`bin/sendmux ses move --from ${name}\` has moved them`;
  return `  SES_SHARDS has no shard ${name}, which has ${count}: ${remedy}`;
}

/**
 * Stores the shards of the settings at the start of a process, and has its calls reported.
 *
 * @param clients what makes the calls; absent where the process makes none.
 * @throws {SettingsInvalid} as `StoredShards.store`.
 */
export async function storeShards(
  pool: Pool,
  shards: readonly SesShard[],
  clients?: { reportTo(reports: ShardReports): void },
): Promise<StoredShards> {
  const stored = new StoredShards(pool);
  await stored.store(shards);
  clients?.reportTo(stored);
  return stored;
}

/** The SQL expression for the shards in which a row of `domains` takes a place. */
export const shardsOfRow = 'ARRAY[ses_shard, ses_other_shard]';

/** What runs statements: a connection, or a migration. */
interface Queries {
  query(text: string): Promise<unknown>;
}

/**
 * Counts anew the identities of each shard.
 *
 * @param client a transaction in which nobody else can write to `domains`.
 * @param table the table whose rows are counted.
 * @param shards the SQL expression for the shards in which a row takes a place.
 */
export async function recountShards(client: Queries, table: string, shards = shardsOfRow): Promise<void> {
  await client.query(
    `INSERT INTO ses_shards AS held (name, identities)
      SELECT name, coalesce(counted.identities, 0)
      FROM (
        SELECT shard AS name, count(*)::integer AS identities FROM ${table}, unnest(${shards}) AS shard
        WHERE ${holding} AND shard IS NOT NULL GROUP BY shard
      ) AS counted FULL JOIN (SELECT name, identities FROM ses_shards) AS known USING (name)
      WHERE coalesce(counted.identities, 0) IS DISTINCT FROM known.identities ORDER BY name
      ON CONFLICT (name) DO UPDATE SET identities = excluded.identities`,
  );
}
