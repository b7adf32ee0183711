import { inTransaction, type Connection } from '@app/database';
import type { Pool } from 'pg';
import { patternsOf, type Needles } from './needles';

/** Rows of a table that have one of the addresses. */
export interface Found {
  readonly table: string;
  readonly rows: number;
}

/** What becomes of a row that has an address that is erased: it is deleted, or some of its columns are cleared. */
export type Remedy = 'delete' | Readonly<Record<string, 'null' | 'empty'>>;

/** Addresses in one regular expression. */
const mostAtOnce = 50;

/** The name under which the statistics of the planner are reported, which have values of columns. */
export const statistics = 'pg_stats';

/**
 * Searches every row of every table of a database for addresses, and applies the remedies of their tables. Then it has
 * the planner's statistics made anew where they have an address, since they hold values of the rows that were there.
 *
 * @param remedies by table.
 */
export async function wipe(
  pool: Pool,
  needles: readonly Needles[],
  remedies: Readonly<Record<string, Remedy>>,
): Promise<void> {
  for (let at = 0; at < needles.length; at += mostAtOnce)
    await inTransaction(pool, async (client) => {
      const condition = await conditionOf(client, needles.slice(at, at + mostAtOnce));
      for (const { schema, table, name } of await tables(client)) {
        const remedy = schema === 'public' ? remedies[table] : undefined;
        if (remedy) await client.query(`${remedyOf(name, remedy)} WHERE ${condition}`);
      }
    });
  for (const table of await tablesWithStatistics(pool, needles)) await pool.query(`ANALYZE ${table}`);
}

/**
 * Searches every row of every table of a database for addresses, and the planner's statistics.
 *
 * @param searched is told of each table that was searched.
 */
export async function search(
  pool: Pool,
  needles: readonly Needles[],
  searched?: (table: string) => void,
): Promise<Found[]> {
  const found = new Map<string, number>();
  const add = (table: string, rows: number) => rows > 0 && found.set(table, (found.get(table) ?? 0) + rows);
  for (let at = 0; at < needles.length; at += mostAtOnce)
    await inTransaction(pool, async (client) => {
      const condition = await conditionOf(client, needles.slice(at, at + mostAtOnce));
      for (const { name } of await tables(client)) {
        const { rows } = await client.query<{ rows: number }>(
          `SELECT count(*)::float8 AS rows FROM ${name} AS searched WHERE ${condition}`,
        );
        add(name, rows[0]!.rows);
        searched?.(name);
      }
    });
  add(statistics, (await tablesWithStatistics(pool, needles)).length);
  return [...found].map(([table, rows]) => ({ table, rows }));
}

/**
 * Deletes the rows of tables that belong to a team, or to domains of it.
 *
 * @param tables the column that says to which, by table; a table that is not there has no rows.
 * @param owners ids of teams or domains; of a text that goes on after a slash, the part before it counts.
 */
export async function removeRowsOf(
  pool: Pool,
  tables: Readonly<Record<string, string>>,
  owners: readonly string[],
): Promise<void> {
  for (const [table, column] of Object.entries(tables)) {
    const { rows } = await pool.query<{ name: string | null }>('SELECT to_regclass($1)::text AS name', [table]);
    const name = rows[0]!.name;
    if (name !== null) await pool.query(`DELETE FROM ${name} WHERE split_part(${column}, '/', 1) = ANY ($1)`, [owners]);
  }
}

const remedyOf = (name: string, remedy: Remedy): string =>
  remedy === 'delete'
    ? `DELETE FROM ${name} AS searched`
    : `UPDATE ${name} AS searched SET ${Object.entries(remedy)
        .map(([column, to]) => `${column} = ${to === 'null' ? 'NULL' : `''`}`)
        .join(', ')}`;

/** Gives the condition that the row `searched` has one of the addresses, in the open transaction. */
async function conditionOf(client: Connection, needles: readonly Needles[]): Promise<string> {
  // As escapes, octets that are letters are these letters in the text of the row.
  await client.query(`SET LOCAL bytea_output = 'escape'`);
  const { anyCase, exact } = patternsOf(needles);
  return `(searched::text ~* ${client.escapeLiteral(anyCase)} OR searched::text ~ ${client.escapeLiteral(exact)})`;
}

/** Gives every table of ours, and each partition instead of the table that it is of. */
async function tables(client: Connection): Promise<{ schema: string; table: string; name: string }[]> {
  const { rows } = await client.query<{ schema: string; table: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS table,
       CASE n.nspname WHEN 'public' THEN quote_ident(c.relname) ELSE format('%I.%I', n.nspname, c.relname) END AS name
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'
     ORDER BY 1, 2`,
  );
  return rows;
}

async function tablesWithStatistics(pool: Pool, needles: readonly Needles[]): Promise<string[]> {
  const names = new Set<string>();
  for (let at = 0; at < needles.length; at += mostAtOnce)
    await inTransaction(pool, async (client) => {
      const condition = await conditionOf(client, needles.slice(at, at + mostAtOnce));
      const { rows } = await client.query<{ name: string }>(
        // The statistics of an expression of an index are under the index.
        `SELECT DISTINCT format('%I.%I', searched.schemaname, coalesce(i.tablename, searched.tablename)) AS name
         FROM pg_stats AS searched LEFT JOIN pg_indexes i
           ON i.schemaname = searched.schemaname AND i.indexname = searched.tablename
         WHERE searched.schemaname NOT IN ('pg_catalog', 'information_schema') AND ${condition}`,
      );
      for (const { name } of rows) names.add(name);
    });
  return [...names];
}
