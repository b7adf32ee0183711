import { copyRights } from '@app/database';
import type { Client } from 'pg';

export const shadowOf = (table: string): string => `${table}_rebuild`;
/** Gives the name of the previously live table, from the swap until it is dropped. */
export const replacedOf = (table: string): string => `${table}_replaced`;

/**
 * How far a rebuild has come. It is stored as the comment of the shadow table, so that it is written and dropped
 * together with the rows.
 */
export interface Progress {
  /** The rows of the filled streams include all events at or below this position. */
  readonly position: number;
  /** The last stream that is filled; null before the first. */
  readonly after: string | null;
  /** All streams are filled. */
  readonly filled: boolean;
  /** Events read so far. */
  readonly events: number;
}

const mark = 'sendmux rebuild ';

/**
 * Reads the progress; undefined when there is no shadow.
 *
 * @throws {Error} when a table of that name exists that is not a rebuild's.
 */
export async function progressOf(client: Client, table: string): Promise<Progress | undefined> {
  const { rows } = await client.query<{ comment: string | null }>(
    `SELECT obj_description(oid, 'pg_class') AS comment FROM pg_class WHERE oid = to_regclass($1)`,
    [shadowOf(table)],
  );
  if (!rows[0]) return undefined;
  const { comment } = rows[0];
  if (!comment?.startsWith(mark))
    throw new Error(`There is a table ${shadowOf(table)} that no rebuild has made. Rename it, or drop it.`);
  return JSON.parse(comment.slice(mark.length)) as Progress;
}

export async function writeProgress(client: Client, table: string, progress: Progress): Promise<void> {
  const comment = client.escapeLiteral(`${mark}${JSON.stringify(progress)}`);
  await client.query(`COMMENT ON TABLE ${shadowOf(table)} IS ${comment}`);
}

/**
 * Creates an empty shadow without indexes and triggers, which are added when it is filled. The caller opens the
 * transaction.
 */
export async function createShadow(client: Client, table: string): Promise<void> {
  const shadow = shadowOf(table);
  await client.query(
    `CREATE TABLE ${shadow} (LIKE ${table} INCLUDING ALL EXCLUDING INDEXES) WITH (autovacuum_enabled = false)`,
  );
  await copyRights(client, table, shadow);
  const { rows } = await client.query<{ options: string[] | null }>(
    'SELECT reloptions AS options FROM pg_class WHERE oid = $1::regclass',
    [table],
  );
  const kept = (rows[0]!.options ?? []).filter((option) => !option.startsWith('autovacuum_enabled='));
  if (kept.length > 0) await client.query(`ALTER TABLE ${shadow} SET (${kept.join(', ')})`);
}

interface Index {
  readonly name: string;
  /** The definition of the index, as `CREATE INDEX` writes it. */
  readonly definition: string;
  /** `PRIMARY KEY` or `UNIQUE` when the index belongs to a constraint of its name; null otherwise. */
  readonly constraint: string | null;
}

/** Reads the indexes of a table, with the primary key first. */
async function indexesOf(client: Client, table: string): Promise<Index[]> {
  const { rows } = await client.query<Index>(
    `SELECT i.relname AS name, pg_get_indexdef(i.oid) AS definition,
       CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'u' THEN 'UNIQUE' END AS constraint
     FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
     LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.conrelid = x.indrelid
     WHERE x.indrelid = $1::regclass ORDER BY x.indisprimary DESC, i.relname`,
    [table],
  );
  return rows;
}

const shadowIndex = (name: string): string => `${name}_rebuild`;

/** Builds the indexes that the live table has and the shadow lacks: the primary key only, or all. */
export async function buildIndexes(client: Client, table: string, which: 'key' | 'all'): Promise<void> {
  const there = new Set((await indexesOf(client, shadowOf(table))).map(({ name }) => name));
  for (const { name, definition, constraint } of await indexesOf(client, table)) {
    if (there.has(shadowIndex(name)) || (which === 'key' && constraint !== 'PRIMARY KEY')) continue;
    const [kind, , method] = /^(CREATE (?:UNIQUE )?INDEX) (.+? ON .+?) (USING .+)$/s.exec(definition)!.slice(1);
    const create = `${kind} ${shadowIndex(name)} ON ${shadowOf(table)} ${method}`;
    if (!constraint) await client.query(create);
    else
      await client.query(
        `${create}; ALTER TABLE ${shadowOf(table)} ADD CONSTRAINT ${shadowIndex(name)} ${constraint} USING INDEX ${shadowIndex(name)}`,
      );
  }
}

/**
 * Makes the shadow the live table: renames its indexes and constraints, and creates the triggers again. The caller
 * opens the transaction, and has locked the table against everybody else.
 *
 * @throws {Error} when the columns of the live table have changed since the shadow was made.
 */
export async function swap(client: Client, table: string): Promise<void> {
  const [shadow, replaced] = [shadowOf(table), replacedOf(table)];
  if ((await columnsOf(client, table)) !== (await columnsOf(client, shadow)))
    throw new Error(`The table ${table} has got other columns meanwhile. Run the rebuild again with --restart.`);
  const indexes = await indexesOf(client, table);
  const { rows } = await client.query<{ triggers: string[]; comment: string | null; autovacuum: string | null }>(
    // The definition uses the table's present name, which is the new table's name after the swap.
    `SELECT ARRAY(SELECT pg_get_triggerdef(t.oid) || CASE t.tgenabled
         WHEN 'D' THEN format('; ALTER TABLE ${table} DISABLE TRIGGER %I', t.tgname)
         WHEN 'A' THEN format('; ALTER TABLE ${table} ENABLE ALWAYS TRIGGER %I', t.tgname)
         WHEN 'R' THEN format('; ALTER TABLE ${table} ENABLE REPLICA TRIGGER %I', t.tgname) ELSE '' END
       FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal ORDER BY t.tgname) AS triggers,
       obj_description(c.oid, 'pg_class') AS comment,
       (SELECT option FROM unnest(c.reloptions) AS option WHERE option LIKE 'autovacuum\\_enabled=%') AS autovacuum
     FROM pg_class c WHERE c.oid = $1::regclass`,
    [table],
  );
  const { triggers, comment, autovacuum } = rows[0]!;
  const steps = [
    `ALTER TABLE ${table} RENAME TO ${replaced}`,
    `ALTER TABLE ${shadow} RENAME TO ${table}`,
    ...indexes.flatMap(({ name }) => [
      `ALTER INDEX ${name} RENAME TO ${name}_replaced`,
      `ALTER INDEX ${shadowIndex(name)} RENAME TO ${name}`,
    ]),
    ...triggers,
    `COMMENT ON TABLE ${table} IS ${comment === null ? 'NULL' : client.escapeLiteral(comment)}`,
    `ALTER TABLE ${table} ${autovacuum ? `SET (${autovacuum})` : 'RESET (autovacuum_enabled)'}`,
  ];
  await client.query(steps.join(';\n'));
}

/** Describes the columns of a table as one text: names, types, defaults and whether they may be NULL. */
export async function columnsOf(client: Client, table: string): Promise<string> {
  const { rows } = await client.query<{ columns: string }>(
    `SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum) AS columns
     FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped`,
    [table],
  );
  return rows[0]!.columns;
}
