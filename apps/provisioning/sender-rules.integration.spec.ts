import type { DomainCommandHandler } from '@app/commands';
import { openPool } from '@app/database';
import { senderRulesMigrations, senderRulesTasks, StoredSenderRules } from '@app/sender-rules';
import { TaskList, tasksMigrations } from '@app/tasks';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { SenderRulesWorker } from './sender-rules.worker';

let database: TestDatabase;
let pool: Pool;

beforeAll(async () => {
  database = await databaseWith([...tasksMigrations, ...senderRulesMigrations]);
  pool = openPool(database.url, 4);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

it.each([
  ['a domain that names some', { status: 'verified' }, true],
  ['a domain that is being deleted', { status: 'deleting' }, true],
  ['a domain that is gone', { status: 'deleted' }, false],
  ['a domain that never was', { status: 'absent' }, false],
])('erases the rules of %s that nothing names', async (domain, state, names) => {
  const [tasks, stored] = [new TaskList(pool), new StoredSenderRules(pool)];
  const rule = (pattern: string) => ({ type: 'deny', pattern, note: null }) as const;
  const digest = await stored.put(domain, [rule('named.example')]);
  await stored.put(domain, [rule('ada@replaced.example')]);
  await pool.query(`UPDATE sender_rules SET stored_at = now() - interval '90 minutes' WHERE domain = $1`, [domain]);
  const loaded = { version: 9, state: { ...state, ...(names && { senderFilters: { mode: 'denylist', digest } }) } };
  const domains = { load: () => Promise.resolve(loaded) } as unknown as DomainCommandHandler;
  const worker = new SenderRulesWorker(tasks, domains, stored);
  await tasks.put(senderRulesTasks, domain, 'Erase', {});
  const tasksOfIt = () => pool.query('SELECT FROM tasks WHERE list = $1 AND key = $2', [senderRulesTasks, domain]);
  worker.onApplicationBootstrap();
  while ((await tasksOfIt()).rows.length > 0) await new Promise(setImmediate);
  await worker.beforeApplicationShutdown();
  const { rows } = await pool.query('SELECT digest FROM sender_rules WHERE domain = $1', [domain]);
  expect(rows).toEqual(names ? [{ digest }] : []);
});
