import { createHash } from 'node:crypto';
import { releases, type Connection, type Migration } from '@app/database';
import { DatabaseError, type QueryResult } from 'pg';
import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A migration that drops what the releases that work on its tables have stopped to use. */
export interface Contract {
  /** The first release that does not use what is dropped. */
  readonly unusedSince: string;
}

/** Tables that have as many rows as an installation has parts, and not as it has customers. All others are big. */
const small = new Set(
  (
    'migrations schema_releases checkpoints slots replays common_quotas ses_shards ses_turns ses_waits ses_listings ' +
    'event_partitions event_archives'
  ).split(' '),
);

/** Locks that hold up writers; the strongest holds up readers too. */
const holdingUp = ['ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'];

/** What a schema consists of, each part by a name that says whose it is, with what must not change of it. */
type Parts = Map<string, string>;

/** What a migration has done. */
export interface Observed {
  /** Every statement, as PostgreSQL got it. */
  readonly statements: readonly string[];
  /** The rules that it breaks. */
  readonly violations: readonly string[];
}

/**
 * Runs a migration on a database that has rows, and has PostgreSQL say what it does: which locks it holds, how many
 * rows it reads and writes meanwhile, which files it writes anew, and what is no longer there afterwards.
 *
 * @param end the statement that ends the transaction of the migration.
 */
export async function observe(client: Connection, Migration: Migration, end = 'COMMIT'): Promise<Observed> {
  const migration = new Migration() as MigrationInterface & Partial<Contract>;
  const statements: string[] = [];
  const violations = new Set<string>();
  const before = await partsOf(client);
  const tables = await tablesOf(client);
  const isOne = migration.transaction !== false;
  const query = async (sql: unknown, values?: unknown[]) => {
    const text = typeof sql === 'string' ? sql : (sql as { text: string }).text;
    statements.push(text);
    if (/\bLOCK\s+(TABLE\b)?/i.test(text) && /^\s*LOCK\b/im.test(text)) violations.add('locks a table by LOCK');
    if (isOne) return measured(client, () => client.query(text, values), tables, violations);
    return inOwnTransaction(client, text, values, tables, violations);
  };
  if (isOne) await client.query('BEGIN');
  await migration.up({
    query: async (sql: string, values?: unknown[]) => (await query(sql, values)).rows as unknown[],
    connect: () => Promise.resolve({ query }),
  } as unknown as QueryRunner);
  const after = await partsOf(client);
  for (const fault of faultsOf(before, after, await tablesOf(client), tables, migration)) violations.add(fault);
  if (isOne) await client.query(end);
  return { statements, violations: [...violations] };
}

/** Gives the checksum of what a migration does. One of a release never changes: databases have had it. */
export const checksum = ({ statements }: Observed): string =>
  createHash('sha256').update(statements.join('\n;\n')).digest('hex');

type Work = () => Promise<QueryResult<Record<string, unknown>>>;
type Tables = ReadonlyMap<string, { readonly name: string; readonly file: string }>;

/** Runs a statement of a migration that is no transaction; one that cannot be in any holds nobody up. */
async function inOwnTransaction(
  client: Connection,
  text: string,
  values: unknown[] | undefined,
  tables: Tables,
  violations: Set<string>,
) {
  await client.query('BEGIN');
  try {
    const result = await measured(client, () => client.query(text, values), tables, violations);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK');
    // 25001: active_sql_transaction, as of CREATE INDEX CONCURRENTLY.
    if (!(error instanceof DatabaseError) || error.code !== '25001') throw error;
    return client.query(text, values);
  }
}

interface Rows {
  readonly table: string;
  readonly read: string;
  readonly written: string;
}

async function measured(client: Connection, work: Work, tables: Tables, violations: Set<string>) {
  const before = await rowsOf(client);
  const result = await work();
  const after = await rowsOf(client);
  const { rows: locks } = await client.query<{ table: string; mode: string }>(
    `SELECT relation::text AS table, mode FROM pg_locks WHERE pid = pg_backend_pid() AND mode = ANY($1)`,
    [holdingUp],
  );
  const held = locks.filter(({ table }) => isBig(tables.get(table)?.name));
  for (const [oid, { read, written }] of after) {
    const name = tables.get(oid)?.name;
    if (!isBig(name)) continue;
    if (written > (before.get(oid)?.written ?? 0n)) violations.add(`writes rows of ${name}, which may be many`);
    if (read > (before.get(oid)?.read ?? 0n) && held.length > 0)
      violations.add(`reads the rows of ${name} while it holds up others at ${tables.get(held[0]!.table)!.name}`);
  }
  return result;
}

const isBig = (name: string | undefined): name is string => name !== undefined && !small.has(name);

async function rowsOf(client: Connection): Promise<Map<string, { readonly read: bigint; readonly written: bigint }>> {
  const { rows } = await client.query<Rows>(
    `SELECT relid::text AS table, (coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::text AS read,
       (n_tup_ins + n_tup_upd + n_tup_del)::text AS written FROM pg_stat_xact_user_tables`,
  );
  return new Map(rows.map(({ table, read, written }) => [table, { read: BigInt(read), written: BigInt(written) }]));
}

/** Gives all tables by their oids, with the files that they are in. */
async function tablesOf(client: Connection): Promise<Tables> {
  const { rows } = await client.query<{ oid: string; name: string; file: string }>(
    `SELECT oid::text, relname AS name, relfilenode::text AS file FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')`,
  );
  return new Map(rows.map(({ oid, ...table }) => [oid, table]));
}

async function partsOf(client: Connection): Promise<Parts> {
  const { rows } = await client.query<{ part: string; is: string }>(`
    WITH ours AS (SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    SELECT CASE relkind WHEN 'v' THEN 'the view ' WHEN 'i' THEN 'the index ' WHEN 'I' THEN 'the index '
        WHEN 'S' THEN 'the sequence ' ELSE 'the table ' END || relname AS part, '' AS is FROM ours
    UNION ALL SELECT 'the column ' || relname || '.' || attname,
        format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
          || CASE WHEN atthasdef OR attidentity <> '' THEN '' ELSE ' without a default' END
      FROM pg_attribute JOIN ours ON ours.oid = attrelid
      WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v')
    UNION ALL SELECT 'the constraint ' || relname || '.' || conname, pg_get_constraintdef(c.oid)
      FROM pg_constraint c JOIN ours ON ours.oid = conrelid WHERE contype <> 'n'
    UNION ALL SELECT 'the trigger ' || relname || '.' || tgname, ''
      FROM pg_trigger JOIN ours ON ours.oid = tgrelid WHERE NOT tgisinternal
    UNION ALL SELECT 'the function ' || oid::regprocedure, '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace`);
  return new Map(rows.map(({ part, is }) => [part, is]));
}

function* faultsOf(
  before: Parts,
  after: Parts,
  tables: Tables,
  tablesBefore: Tables,
  migration: MigrationInterface & Partial<Contract>,
): Iterable<string> {
  for (const [oid, { name, file }] of tablesBefore) {
    const now = tables.get(oid);
    if (now && now.name !== name) yield `renames the table ${name}`;
    if (now && now.file !== file && isBig(name)) yield `writes the whole table ${name} anew`;
  }
  const mayDrop = isUnused(migration.unusedSince);
  for (const [part, is] of before) {
    const now = after.get(part);
    if (now === undefined) {
      if (!mayDrop) yield `drops or renames ${part}, which the release before may use`;
    } else if (now.replace(/ NOT NULL| without a default/g, '') !== is.replace(/ NOT NULL| without a default/g, ''))
      yield `changes ${part} to ${now}`;
    else if (now.includes(' NOT NULL') && !is.includes(' NOT NULL')) yield `has ${part} be NOT NULL`;
  }
  for (const [part, is] of after) {
    const table = /^the (?:column|constraint) (\w+)\./.exec(part)?.[1];
    if (before.has(part) || table === undefined || !before.has(`the table ${table}`)) continue;
    if (is.endsWith(' NOT NULL without a default'))
      yield `adds ${part}, which the release before does not write, as NOT NULL without a default`;
    if (part.startsWith('the constraint') && isBig(table) && !is.endsWith('NOT VALID'))
      yield `adds ${part} without NOT VALID`;
  }
}

/** Tells whether no release that works on the tables of this one uses what is unused since a release. */
function isUnused(since: string | undefined): boolean {
  const places = releases.map(({ version }) => version);
  const [unused, oldest] = [places.indexOf(since ?? ''), places.indexOf(releases.at(-1)!.oldest)];
  return unused >= 0 && unused <= oldest;
}

/** Puts a row into each table that has none, so that reading and writing all rows of a table can be seen. */
export async function fill(client: Connection): Promise<void> {
  const given: Record<string, Record<string, string>> = {
    api_keys: { role: `'root:full'` },
    setup_links: { revoked_at: 'now()' },
    mailbox_keys: { erased_at: 'now()' },
    parked_messages: { raw: `'{}'` },
  };
  const valueOf = (type: string) =>
    /\[\]$/.test(type)
      ? `'{}'`
      : ({ json: `'{}'`, jsonb: `'{}'`, boolean: 'true', uuid: 'gen_random_uuid()', bytea: `''`, text: `'x'` }[type] ??
        (/^timestamp/.test(type) ? 'now()' : '1'));
  const { rows } = await client.query<{
    table: string;
    columns: { name: string; type: string; one: string | null }[];
  }>(`
    SELECT relname AS table, coalesce(json_agg(json_build_object('name', attname,
        'type', format_type(atttypid, atttypmod), 'one', (
          SELECT substring(pg_get_constraintdef(k.oid) FROM '''([^'']*)''') FROM pg_constraint k
          WHERE k.conrelid = c.oid AND k.contype = 'c' AND attnum = ANY (k.conkey) LIMIT 1)))
      FILTER (WHERE attnotnull AND NOT atthasdef AND attidentity = ''), '[]') AS columns
    FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    GROUP BY relname, c.oid`);
  await client.query('SET session_replication_role = replica');
  for (const { table, columns } of rows) {
    if ((await client.query(`SELECT FROM ${table} LIMIT 1`)).rowCount !== 0) continue;
    const values = new Map(columns.map(({ name, type, one }) => [name, one === null ? valueOf(type) : `'${one}'`]));
    for (const [name, value] of Object.entries(given[table] ?? {})) values.set(name, value);
    await client.query(
      values.size === 0
        ? `INSERT INTO ${table} DEFAULT VALUES`
        : `INSERT INTO ${table} (${[...values.keys()].join(', ')}) VALUES (${[...values.values()].join(', ')})`,
    );
  }
  await client.query('SET session_replication_role = origin');
}
