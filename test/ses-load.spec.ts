import { setTimeout as delay } from 'node:timers/promises';
import { portOf } from '@app/runtime';
import { query } from './support/both-or-neither';
import { startSystem, type Answer, type ApiClient, type System } from './support/processes';
import { sample } from './support/sample';

const regions = { default: 'eu-west-1', 'us-1': 'us-east-1', 'us-2': 'us-west-2' } as const;
type Shard = keyof typeof regions;
const shards = Object.keys(regions) as Shard[];
/** The shard that goes away for a while. */
const lost: Shard = 'us-2';

/** Calls that the sandbox allows a Region in a second, and customers that wait at the same time. */
const [perSecond, customers] = [sample(2, 1), sample(8, 6)];
/** Milliseconds: how long domains come and go, after which a shard goes away, and for how long. */
const [lastsMs, awayAfterMs, awayMs] = [sample(12_000, 300_000), sample(4_000, 90_000), sample(3_000, 60_000)];

/** Three shards of SES, whose rates the sandbox enforces, under two processes of each app that calls them. */
describe('several shards of SES under load', () => {
  let system: System;
  let api: ApiClient;
  let ports: number[];
  let end: number;
  let count = 0;
  let isLost = false;

  beforeAll(async () => {
    system = await startSystem({
      env: {
        SES_SHARDS: JSON.stringify(
          shards.map((name) => ({ name, region: regions[name], capacity: 100, callsPerSecond: perSecond })),
        ),
        RATE_LIMIT_PER_MINUTE: '100000',
        VERIFICATION_INTERVAL: '20s',
        SES_TIMEOUT: '2s',
      },
    });
    for (const region of Object.values(regions))
      await system.sandbox.limitRegion(region, { capacity: 100, calls_per_second: perSecond });
    const apps = ['gateway', 'provisioning', 'verification-scheduler'] as const;
    ports = [
      ...apps.map((app) => portOf(app, system.port)),
      ...(await Promise.all(apps.map((app) => system.another(app)))),
    ];
    ({ api } = await system.team());
  }, 180_000);
  afterAll(() => system.end());

  const shardOf = async (name: string) => {
    const sql = `SELECT data->>'sesShard' AS shard FROM events WHERE type = 'DomainAdded' AND data->>'name' = $1`;
    return (await query<{ shard: Shard }>(system.databaseUrl, sql, [name]))[0]?.shard;
  };

  /** How many answers there were that were no success, by what was asked and the status. */
  const refusals: Record<string, number> = {};
  const asked = async (what: string, ask: () => Promise<Answer>): Promise<Answer> => {
    const answer = await ask();
    if (answer.status < 300) return answer;
    const key = `${what} ${answer.status}${answer.headers.get('retry-after') === null ? '' : ' with Retry-After'}`;
    refusals[key] = (refusals[key] ?? 0) + 1;
    return answer;
  };

  /** Repeats a request while the answer is that it could not be decided just now, or goes on by itself. */
  async function untilDecided(what: string, ask: () => Promise<Answer>): Promise<Answer> {
    for (const giveUpAt = Date.now() + 120_000; ;) {
      const answer = await asked(what, ask);
      const isUndecided = answer.status === 503 && answer.headers.get('retry-after') !== null;
      if (!isUndecided || Date.now() > giveUpAt) return answer;
    }
  }

  /** Adds, verifies and deletes domains one after the other. Gives what went wrong. */
  async function customer(): Promise<string[]> {
    const wrong: string[] = [];
    const expected = (isRight: boolean, what: string, { status, body }: Answer) => {
      if (!isRight) wrong.push(`${what}: ${status} ${JSON.stringify(body)}`);
    };
    while (Date.now() < end) {
      const name = `l${++count}.acme.com`;
      const added = await asked('add', () => api.add(name));
      if (added.status !== 201) {
        const shard = await shardOf(name);
        expected(shard === lost && isLost, `add of ${name} in ${shard}`, added);
        continue;
      }
      const { id } = (added.body as { data: { id: string } }).data;
      await system.sandbox.place(added.body);
      const verified = await untilDecided('verify', () => api.verify(id));
      const { status } = (verified.body as { data?: { status: string } }).data ?? {};
      expected(status === 'verified', `verify of ${name}`, verified);
      const deleted = await untilDecided('delete', () => api.delete(id));
      expected(deleted.status === 200, `delete of ${name}`, deleted);
    }
    return wrong;
  }

  /** The waits of calls of a priority in all processes so far: their sum in seconds, and their number. */
  async function waitsOf(priority: string): Promise<{ readonly sum: number; readonly count: number }> {
    const texts = await Promise.all(
      ports.map(async (port) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()),
    );
    const total = (what: string) => {
      const line = new RegExp(`^sendmux_ses_wait_seconds_${what}\\{[^}]*priority="${priority}"[^}]*\\} (\\S+)`, 'gm');
      return [...texts.join('\n').matchAll(line)].reduce((all, [, value]) => all + Number(value), 0);
    };
    return { sum: total('sum'), count: total('count') };
  }

  it(
    'none is called above its rate, customers go before the rest, and one that goes away fails no domain of another',
    async () => {
      const idle = await waitsOf('background');
      end = Date.now() + lastsMs;
      const done = Promise.all(Array.from({ length: customers }, customer));
      await delay(awayAfterMs);
      isLost = true;
      await system.sandbox.limitRegion(regions[lost], { calls_per_second: perSecond, is_away: true });
      await delay(awayMs);
      await system.sandbox.limitRegion(regions[lost], { calls_per_second: perSecond });
      expect((await done).flat()).toEqual([]);
      // Before the customers came, and after they have gone, what is in the background waits for nobody.
      const [ofCustomers, background] = [await waitsOf('change'), await waitsOf('background')];
      await system.until('nothing is left', async () => (await system.sandbox.identities()).length === 0, 120_000);

      const calls = await system.sandbox.sesCalls();
      const counts = { change: ofCustomers.count, background: background.count - idle.count };
      const waits = {
        change: ofCustomers.sum / counts.change,
        background: (background.sum - idle.sum) / counts.background,
      };
      const throttled = calls.filter((call) => call.throttled).length;
      console.info(
        `${count} domains, ${calls.length} calls, ${throttled} of them throttled, waits: ${JSON.stringify(counts)}, on average in seconds: ${JSON.stringify(waits)}, refusals: ${JSON.stringify(refusals)}`,
      );
      // On a busy machine one call may take so much longer to the sandbox than the next that both come together.
      expect(throttled).toBeLessThanOrEqual(calls.length / 20);
      for (const region of Object.values(regions)) {
        const times = calls.filter((call) => call.region === region).map(({ at }) => Date.parse(at));
        const most = Math.max(...times.map((at, i) => times.slice(i).filter((other) => other < at + 1_000).length));
        // Processes that each counted for themselves would come to six times the rate.
        expect([region, most <= perSecond + 1]).toEqual([region, true]);
      }
      expect(waits.change).toBeLessThan(waits.background);
      const types = await query<{ type: string; count: string }>(
        system.databaseUrl,
        `SELECT type, count(*) FROM events WHERE type IN ('DomainAdded', 'DomainDeleted', 'ProvisioningRolledBack') GROUP BY type`,
        [],
      );
      const of = Object.fromEntries(types.map(({ type, count }) => [type, Number(count)]));
      expect((of.DomainDeleted ?? 0) + (of.ProvisioningRolledBack ?? 0)).toBe(of.DomainAdded);
    },
    lastsMs + 240_000,
  );
});
