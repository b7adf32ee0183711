/**
 * Measures a page of the list of domains, of a team that has a million of them: without a filter, and with each filter
 * and several together. All queries run in turn, in one process on one connection; the result is the median and the
 * 99th percentile in milliseconds, and the ratio of the medians to that without a filter.
 *
 *     node dist/bench/lists.js [--domains 1000000] [--runs 200]
 */
import { parseArgs } from 'node:util';
import { migrate, openPool } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { DomainsReadModel, readModelMigrations, type DomainFilter } from '@app/read-model';
import globalSetup from '../test/support/global-setup';
import globalTeardown from '../test/support/global-teardown';
import { numbers } from '../test/support/numbers';
import { testDatabase } from '../test/support/test-database';

const seed = 18;
const team = 'team_bench00001';
const limit = 51;

/**
 * Gives the rows: of each ten thousand domains, 100 have failed, 1,000 are pending, 200 only send and 10 do both of the
 * first and the last. Names have eight hexadecimal digits; a tenth of the domains is of other teams.
 */
const rows = (domains: number) => `
  INSERT INTO domains (id, name, team, status, mode, dkim_tokens, dkim_zone, ses_region, ses_dkim_status, created_at, updated_at, version)
  SELECT 'mdom_cl' || lpad(n::text, 25, '0'), 'mail.' || left(md5(n::text), 8) || n % 7 || '.example.com',
    CASE WHEN n % 10 = 9 THEN 'team_other' || n % 100 ELSE '${team}' END,
    CASE WHEN n % 100 = 1 THEN 'failed' WHEN n % 10 = 2 THEN 'pending' ELSE 'verified' END,
    CASE WHEN n % 50 = 3 OR n % 1000 = 1 THEN 'send_only' ELSE 'send_receive' END,
    '["a","b","c"]', 'dkim.amazonses.com', 'eu-west-1', 'success', now(), now(), 4
  FROM generate_series(1, ${Math.round((domains * 10) / 9)}) AS n
  ON CONFLICT DO NOTHING`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { domains: { type: 'string', default: '1000000' }, runs: { type: 'string', default: '200' } },
  });
  const [domains, runs] = [Number(values.domains), Number(values.runs)];
  await globalSetup();
  const database = await testDatabase();
  const pool = openPool(database.url, 1, 600_000);
  try {
    await migrate(database.url, [...eventStoreMigrations, ...readModelMigrations]);
    await pool.query(rows(domains));
    await pool.query('VACUUM ANALYZE domains');
    const { rows: counted } = await pool.query<{ count: number }>(
      'SELECT count(*)::int AS count FROM domains WHERE team = $1',
      [team],
    );
    const random = numbers(seed);
    const digits = (length: number) => Array.from({ length }, () => Math.floor(random() * 16).toString(16)).join('');
    const before = () => `mdom_cl${String(Math.floor(random() * domains)).padStart(25, '0')}`;
    const filters: Record<string, () => DomainFilter> = {
      'no filter': () => ({}),
      'no filter, a page within': () => ({ before: before() }),
      'status=failed': () => ({ status: 'failed', before: before() }),
      'mode=send_only': () => ({ mode: 'send_only', before: before() }),
      'status=failed, mode=send_only': () => ({ status: 'failed', mode: 'send_only', before: before() }),
      'name, all have it': () => ({ namePart: 'example', before: before() }),
      'name, 3 characters': () => ({ namePart: digits(3) }),
      'name, 4 characters': () => ({ namePart: digits(4) }),
      'name, 6 characters': () => ({ namePart: digits(6) }),
      'name, nobody has it': () => ({ namePart: 'zzz' }),
      'name, 3 characters, status=failed': () => ({ namePart: digits(3), status: 'failed' }),
    };
    const readModel = new DomainsReadModel(pool);
    const times = new Map(Object.keys(filters).map((name) => [name, [] as number[]]));
    for (let run = 0; run < runs; run++)
      for (const [name, filter] of Object.entries(filters)) {
        const since = performance.now();
        await readModel.page(team, limit, filter());
        times.get(name)!.push(performance.now() - since);
      }
    const at = (name: string, quantile: number) =>
      times.get(name)!.sort((a, b) => a - b)[Math.min(runs - 1, Math.floor(runs * quantile))]!;
    const { rows: version } = await pool.query<{ server_version: string }>('SHOW server_version');
    console.log(
      `${counted[0]!.count.toLocaleString('en')} domains of one team, ${limit} a page, ${runs} runs, seed ${seed}, PostgreSQL ${version[0]!.server_version}, Node ${process.versions.node}`,
    );
    for (const name of times.keys())
      console.log(
        `  ${name.padEnd(36)} ${at(name, 0.5).toFixed(2).padStart(7)} ms  p99 ${at(name, 0.99).toFixed(2).padStart(7)} ms  ratio ${(at(name, 0.5) / at('no filter', 0.5)).toFixed(2)}`,
      );
  } finally {
    await pool.end();
    await database.drop();
    await globalTeardown();
  }
}

void main();
