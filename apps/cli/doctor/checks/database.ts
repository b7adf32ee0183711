import {
  adviceOnSchema,
  checkPooled,
  checkSessions,
  faultOfSchema,
  openClient,
  RouteUnusable,
  schemaOf,
  type DatabaseUrls,
  type Migration,
} from '@app/database';
import type { Settings } from '@app/runtime';
import type { Pool } from 'pg';
import { mailServerTables, serviceTables } from '../../migrations';
import { check, failed, ok, warning, type Check, type Finding } from '../check';
import { databaseFault, withDatabase } from '../with-database';

interface Database {
  /** How lines name it. */
  readonly name: string;
  readonly setting: 'DATABASE_URL' | 'MAIL_SERVER_DATABASE_URL';
  readonly directSetting: 'DATABASE_DIRECT_URL' | 'MAIL_SERVER_DATABASE_DIRECT_URL';
  readonly migrations: readonly Migration[];
}

const service: Database = {
  name: 'database',
  setting: 'DATABASE_URL',
  directSetting: 'DATABASE_DIRECT_URL',
  migrations: serviceTables,
};
const mailServer: Database = {
  name: 'mail server',
  setting: 'MAIL_SERVER_DATABASE_URL',
  directSetting: 'MAIL_SERVER_DATABASE_DIRECT_URL',
  migrations: mailServerTables,
};

/** The least major version of PostgreSQL that all statements here need, and the least that its makers still mend. */
const [needed, supported] = [13, 15];
/** Connections that one process of each app takes at most, together with those for sessions. */
const connectionsOfAll = 100;

interface Server {
  readonly version: number;
  readonly shown: string;
  readonly encoding: string;
  readonly isStandby: boolean;
  readonly isReadOnly: boolean;
  readonly isolation: string;
  readonly fsync: string;
  readonly fullPageWrites: string;
  readonly synchronousCommit: string;
  readonly connections: number;
  readonly used: number;
}

const serverOf = async (pool: Pool): Promise<Server> =>
  (
    await pool.query<Server>(`
      SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS shown,
        current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS "isStandby",
        current_setting('default_transaction_read_only')::bool AS "isReadOnly",
        current_setting('default_transaction_isolation') AS isolation, current_setting('fsync') AS fsync,
        current_setting('full_page_writes') AS "fullPageWrites",
        current_setting('synchronous_commit') AS "synchronousCommit",
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS connections,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS used`)
  ).rows[0]!;

/** Gives what is wrong with a server. */
function faultsOf(server: Server, isPooled: boolean): Finding[] {
  const { version, isolation, connections, used } = server;
  const major = Math.floor(version / 10_000);
  const cases: [boolean, Finding][] = [
    [major < needed, failed(`PostgreSQL ${server.shown} is too old: install ${supported} or later.`)],
    [
      major >= needed && major < supported,
      warning(
        `PostgreSQL ${server.shown} gets no more mends from its makers: plan an upgrade to ${supported} or later.`,
      ),
    ],
    [server.isStandby, failed('It is a standby, which takes no writes: name the primary.')],
    [
      server.isReadOnly && !server.isStandby,
      failed('default_transaction_read_only is on for its user, so nothing can be written: turn it off.'),
    ],
    [server.encoding !== 'UTF8', failed(`Its encoding is ${server.encoding}: create it with ENCODING 'UTF8'.`)],
    [server.fsync === 'off', failed('fsync is off: a crash of its machine loses or breaks events. Turn it on.')],
    [
      server.fullPageWrites === 'off',
      failed('full_page_writes is off: a crash of its machine can break pages. Turn it on.'),
    ],
    [
      server.synchronousCommit === 'off',
      failed('synchronous_commit is off: a crash loses events that were acknowledged. Set it to on.'),
    ],
    [
      isolation !== 'read committed',
      warning(`default_transaction_isolation is ${isolation} for its user, which fails appends: set read committed.`),
    ],
    [
      !isPooled && connections < connectionsOfAll,
      warning(
        `It takes ${connections} connections, and one process of each app may want ${connectionsOfAll}: raise max_connections, or put a pooler before it.`,
      ),
    ],
    [
      used > connections * 0.8,
      warning(`${used} of its ${connections} connections are taken: raise max_connections, or end what holds them.`),
    ],
  ];
  return cases.flatMap(([is, finding]) => (is ? [finding] : []));
}

/** Makes the checks of one database: its server and settings, the ways to it, and its tables. */
function checksOf({ name, setting, directSetting, migrations }: Database): Check[] {
  const needs = [setting, directSetting] as const;
  const directUrl = (settings: Pick<Settings, (typeof needs)[number]>) => settings[directSetting] ?? settings[setting];
  const onServer =
    (work: (pool: Pool, isPooled: boolean) => Promise<readonly Finding[]>) =>
    async ({ settings }: { readonly settings: Pick<Settings, (typeof needs)[number]> }) => {
      const isPooled = settings[directSetting] !== undefined;
      try {
        return await withDatabase(directUrl(settings), (pool) => work(pool, isPooled));
      } catch (error) {
        return [databaseFault(error, isPooled ? directSetting : setting)];
      }
    };
  return [
    check({
      name,
      needs,
      withinMs: 10_000,
      remedy: `Look at the server of ${setting}.`,
      run: onServer(async (pool, isPooled) => {
        const server = await serverOf(pool);
        const faults = faultsOf(server, isPooled);
        return faults.length > 0 ? faults : [ok(`PostgreSQL ${server.shown}; what is written stays.`)];
      }),
    }),
    check({
      name: `${name} ways`,
      needs,
      withinMs: 10_000,
      remedy: `Look at the ways to ${setting} and ${directSetting}.`,
      run: async ({ settings }) => {
        const direct = settings[directSetting];
        const urls: DatabaseUrls = { url: settings[setting], directUrl: direct, setting };
        try {
          const client = await openClient({ connectionString: directUrl(settings), connectionTimeoutMillis: 4_000 });
          try {
            await checkSessions(client, urls);
          } finally {
            await client.end();
          }
          if (direct === undefined) return [ok('It is reached directly.')];
          const advice = await checkPooled({ ...urls, directUrl: direct });
          return [
            advice === undefined ? ok('The pooler and the server lead to the same database.') : warning(`${advice}.`),
          ];
        } catch (error) {
          return [error instanceof RouteUnusable ? failed(error.message) : databaseFault(error, setting)];
        }
      },
    }),
    check({
      name: `${name} tables`,
      needs,
      withinMs: 10_000,
      remedy: `Look at the server of ${setting}.`,
      run: onServer(async (pool) => {
        const schema = await schemaOf(pool, migrations);
        const fault = faultOfSchema(schema, setting);
        const advice = adviceOnSchema(schema, setting);
        if (fault) return [failed(fault)];
        return [advice ? warning(advice) : ok('They are those of this release.')];
      }),
    }),
  ];
}

export const databaseChecks: readonly Check[] = [...checksOf(service), ...checksOf(mailServer)];
