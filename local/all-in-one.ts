/**
 * Runs all apps in one process, for `make start`. Before, it does what an operator does before the first start: it
 * makes the tables, and where there is none yet, a team with a key. With the argument `sandbox`, the sandbox is among
 * them.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Accounts } from '@app/accounts';
import { databaseUrls, mailServerUrls, openPool } from '@app/database';
import { SigningKey } from '@app/domain-connect';
import { runApps, type AppToLoad } from '@app/process';
import { loadSettings } from '@app/runtime';
import { appsOf } from '../apps/all-in-one/apps';
import { migrateEverything } from '../apps/cli/migrations';
import { writePrivateFile } from './data-directory';

const demo = { team: 'Demo', owner: 'demo-owner@example.com' };

const sandbox: AppToLoad = {
  name: 'sandbox',
  load: async () => (await import('../apps/sandbox/app.js')).sandbox,
};

async function prepare(): Promise<void> {
  const settings = loadSettings(process.env);
  await migrateEverything(databaseUrls(settings), mailServerUrls(settings));
  if (settings.DOMAIN_CONNECT_KEY_FILE) SigningKey.open(settings.DOMAIN_CONNECT_KEY_FILE);
  const keyFile = join(settings.SENDMUX_DATA_DIR, 'api-key');
  // Who sees that the gateway is ready finds the key.
  if (!existsSync(keyFile))
    writePrivateFile(keyFile, `${await demoKey(settings.DATABASE_DIRECT_URL ?? settings.DATABASE_URL)}\n`);
}

/** Makes a key of the team of this installation, and the team where there is none. */
async function demoKey(url: string): Promise<string> {
  const pool = openPool(url, 1);
  try {
    const accounts = new Accounts(pool);
    const known = (await accounts.listTeams()).find(({ name }) => name === demo.team);
    const { id } = known ?? (await accounts.createTeam(demo.team, [demo.owner]));
    return (await accounts.createKey(id, { role: 'root:full' }, 'make start')).key;
  } finally {
    await pool.end();
  }
}

async function main(): Promise<void> {
  try {
    await prepare();
  } catch (error) {
    process.stderr.write(`The tables and the first key cannot be made.\n${(error as Error).message}\n`);
    process.exit(1);
  }
  const apps = appsOf([], !!process.env.KAFKA_BROKERS);
  await runApps('all-in-one', process.argv[2] === 'sandbox' ? [[sandbox], apps] : [apps]);
}

void main();
