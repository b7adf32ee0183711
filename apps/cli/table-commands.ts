import {
  adviceOnSchema,
  faultOfSchema,
  migrate,
  schemaOf,
  SchemaUnusable,
  thisRelease,
  withDirectConnection,
} from '@app/database';
import { loadSettings } from '@app/runtime';
import type { Command } from 'commander';
import { mailServerTables, serviceTables } from './migrations';
import { print, say } from './output';

/** Gives the databases, each with its migrations. Sessions have to last, so that no pooler is between. */
function databases() {
  const settings = loadSettings(process.env, [
    'DATABASE_URL',
    'DATABASE_DIRECT_URL',
    'MAIL_SERVER_DATABASE_URL',
    'MAIL_SERVER_DATABASE_DIRECT_URL',
  ]);
  return [
    {
      setting: 'DATABASE_URL',
      url: settings.DATABASE_DIRECT_URL ?? settings.DATABASE_URL,
      migrations: serviceTables,
    },
    {
      setting: 'MAIL_SERVER_DATABASE_URL',
      url: settings.MAIL_SERVER_DATABASE_DIRECT_URL ?? settings.MAIL_SERVER_DATABASE_URL,
      migrations: mailServerTables,
    },
  ];
}

/** Runs the migrations that are missing, and tells of each when it has ended. */
export async function changeTables(command: Command): Promise<void> {
  const done: { database: string; name: string; seconds: number }[] = [];
  for (const { migrations, ...database } of databases()) {
    const { setting } = database;
    const advice = await migrate(database, migrations, {
      release: thisRelease,
      onDone: (name, milliseconds) => {
        const seconds = Number((milliseconds / 1_000).toFixed(3));
        done.push({ database: setting, name, seconds });
        say(`${setting}: ${name}, ${seconds.toFixed(3)} s`);
      },
      onWait: (what) => say(`${setting}: waiting for ${what}`),
    });
    if (advice) say(advice);
  }
  print(command, { migrated: true, release: thisRelease.version, migrations: done }, () => [
    'The tables are up to date.',
  ]);
}

/**
 * Tells which migrations are missing.
 *
 * @throws {Error} when there are some.
 * @throws {SchemaUnusable} when the tables are those of a release that is too new for this one.
 */
export async function checkTables(command: Command): Promise<void> {
  const missing: { database: string; name: string }[] = [];
  for (const { migrations, ...database } of databases()) {
    const { setting } = database;
    const schema = await withDirectConnection(database, (client) => schemaOf(client, migrations));
    const inTime = { ...schema, missing: [] };
    const fault = faultOfSchema(inTime, setting);
    if (fault) throw new SchemaUnusable(fault);
    const advice = adviceOnSchema(inTime, setting);
    if (advice) say(advice);
    missing.push(...schema.missing.map((name) => ({ database: setting, name })));
  }
  print(command, { missing }, () =>
    missing.length === 0
      ? ['The tables are up to date.']
      : missing.map(({ database, name }) => `${database}: ${name} is missing`),
  );
  if (missing.length > 0)
    throw new Error(`${missing.length} migrations are missing. Run \`sendmux migrate\` of this release.`);
}
