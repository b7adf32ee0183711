import { currentOf, NotInOrder, type Current } from '@app/runtime';
import type { Client } from 'pg';
import type { MigrationInterface } from 'typeorm';
import { openClient, type Connection, type DatabaseUrls } from './connections';
import { thisRelease, type Release } from './releases';
import { checkSessions } from './routes';

export type Migration = new () => MigrationInterface;

/** Thrown when the tables are not those of this release, and cannot be used. The message says what to do. */
export class SchemaUnusable extends NotInOrder {
  override readonly name = 'SchemaUnusable';
}

/** What the tables of a database are, seen by one release. */
export interface Schema {
  /** The migrations of this release that the database has not had, in their order. */
  readonly missing: readonly string[];
  /** The newest release that has changed the tables, where it is newer than this one. */
  readonly later?: Release | undefined;
}

const nameOf = (Migration: Migration): string => new Migration().name ?? Migration.name;

/** Gives the milliseconds since the epoch with which TypeORM wants names to end; it runs migrations in their order. */
const timeOf = (name: string): number => Number(name.slice(-13));

/** Compares versions by their numbers (Semantic Versioning 2.0.0, item 11); no release has a pre-release part. */
const byNumbers = new Intl.Collator('en', { numeric: true });

/** Looks at the tables of a database, and changes nothing. */
export async function schemaOf(
  client: Pick<Connection, 'query'>,
  migrations: readonly Migration[],
  release = thisRelease,
): Promise<Schema> {
  const names = migrations.map(nameOf).sort((a, b) => timeOf(a) - timeOf(b));
  const { rows: tables } = await client.query<{ migrations: boolean; releases: boolean }>(
    `SELECT to_regclass('migrations') IS NOT NULL AS migrations,
       to_regclass('schema_releases') IS NOT NULL AS releases`,
  );
  const is = tables[0]!;
  if (!is.migrations) return { missing: names };
  const { rows } = await client.query<{ name: string }>('SELECT name FROM migrations');
  const done = new Set(rows.map(({ name }) => name));
  const missing = names.filter((name) => !done.has(name));
  if (!is.releases) return { missing };
  const { rows: known } = await client.query<Release>('SELECT release AS version, oldest FROM schema_releases');
  const newest = known.sort((a, b) => byNumbers.compare(a.version, b.version)).at(-1);
  return { missing, later: newest && byNumbers.compare(newest.version, release.version) > 0 ? newest : undefined };
}

/** Says why the apps of a release cannot work on tables, and what to do; undefined where they can. */
export function faultOfSchema({ missing, later }: Schema, where: string, release = thisRelease): string | undefined {
  const { version } = release;
  if (later && byNumbers.compare(version, later.oldest) < 0)
    return `The tables of ${where} are those of release ${later.version}, on which apps of ${later.oldest} and later work. This is ${version}: run ${later.version}.`;
  if (missing.length === 0) return undefined;
  return `The tables of ${where} are older than release ${version}: ${missing.length} migrations are missing, the first of them ${missing[0]}. Run \`bin/sendmux migrate\` of this release, and start again.`;
}

/** Says that tables are those of a later release, on which this one works; undefined where they are of this one. */
export const adviceOnSchema = ({ later }: Schema, where: string, release = thisRelease): string | undefined =>
  later &&
  `The tables of ${where} are those of release ${later.version}. This is ${release.version}, which works on them: end the upgrade, or the way back, soon.`;

/**
 * Checks that the tables of a database are those of this release, or of a later one that this one works on.
 *
 * @param connectForMs milliseconds to wait for a database that is not reachable yet.
 * @returns what an operator should know, though the tables can be used; undefined where there is nothing.
 * @throws {SchemaUnusable} when they cannot be used.
 * @throws {RouteUnusable} when only a pooler in transaction mode is reached.
 */
export async function checkSchema(
  urls: string | DatabaseUrls,
  migrations: readonly Migration[],
  connectForMs?: number,
): Promise<string | undefined> {
  const schema = await withDirectConnection(urls, (client) => schemaOf(client, migrations), connectForMs);
  const where = settingOf(urls);
  const fault = faultOfSchema(schema, where);
  if (fault) throw new SchemaUnusable(fault);
  return adviceOnSchema(schema, where);
}

/** Gives the name of the setting that has a URL, for messages. */
export const settingOf = (urls: string | DatabaseUrls): string =>
  (typeof urls === 'string' ? undefined : urls.setting) ?? 'DATABASE_URL';

/**
 * Runs `work` with a connection to the server itself, where sessions last, and ends it afterwards.
 *
 * @throws {RouteUnusable} when only a pooler in transaction mode is reached.
 */
export async function withDirectConnection<T>(
  urls: string | DatabaseUrls,
  work: (client: Client) => Promise<T>,
  connectForMs = 15_000,
): Promise<T> {
  const routes = typeof urls === 'string' ? { url: urls } : urls;
  const client = await connectWithin(routes.directUrl ?? routes.url, connectForMs);
  try {
    await checkSessions(client, routes);
    return await work(client);
  } finally {
    await client.end();
  }
}

async function connectWithin(url: Current<string>, milliseconds: number): Promise<Client> {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    try {
      return await openClient({ connectionString: currentOf(url) });
    } catch (error) {
      if (Date.now() >= deadline)
        throw new Error(`No database at ${new URL(currentOf(url)).host}: ${(error as Error).message}`, {
          cause: error,
        });
      await new Promise((retry) => setTimeout(retry, 250));
    }
  }
}
