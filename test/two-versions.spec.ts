import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openPool, releases } from '@app/database';
import { Logger } from '@nestjs/common';
import type { Pool } from 'pg';
import { checkDelivery, type Known } from './support/delivery-checker';
import { Fleet } from './support/fleet';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { Lives, type Door } from './support/lives';
import { startSystem, type AppName, type System } from './support/processes';
import { buildRelease, isInHistory, type ReleaseBuild } from './support/release-build';
import { sample, seedOfRun } from './support/sample';
import { arrivalsOf } from './support/topic';

/** All apps but the sandbox, as two hands exchange them, one after the other. */
const hands: readonly (readonly AppName[])[] = [
  ['event-relay', 'gateway', 'verification-scheduler', 'webhooks'],
  ['provisioning', 'notifier', 'sealer', 'sender-policy'],
];
/** A usual run exchanges the gateway and one of the hands, by the seed, and leaves the rest of the older release. */
const exchanged: readonly (readonly AppName[])[] = process.env.WHOLE
  ? hands
  : [[...new Set<AppName>(['gateway', ...hands[seedOfRun % 2]!])]];
/** Adds in a second, as far as the machine has room for them. */
const rate = sample(10, 20);
/** Milliseconds for which the apps of both releases run beside each other, before and after each exchange. */
const besideMs = sample(1_500, 20_000);

/** What processes log that got no CPU for seconds. */
const starved = /timeout exceeded when trying to connect|due to connection timeout|no answer within \d+ ms/;

const before = releases.at(-2)!;
const isPossible = kafkaIsInstalled() && isInHistory(before);
if (!isInHistory(before)) console.log(`Not run: the history of this clone does not have ${before.commit}.`);

/** Upgrading from the release before, and the way back, on one database and one Kafka while customers go on. */
(isPossible ? describe : describe.skip)(`beside ${before.version}`, () => {
  let build: ReleaseBuild;
  let kafka: SharedKafka;
  let system: System;
  let pool: Pool;
  let [older, newer]: (Fleet | undefined)[] = [];
  let lives: Lives;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    build = buildRelease(before);
    kafka = await sharedKafka();
    system = await startSystem({
      brokers: kafka.brokers,
      apps: ['sandbox'],
      isNew: true,
      pooled: false,
      env: { SES_CALLS_PER_SECOND: '1000', RATE_LIMIT_PER_MINUTE: '1000000', PROVISIONING_DEADLINE: '5m' },
    });
    pool = openPool(system.databaseUrl, 2);
    expect(sendmux(build.dist, 'migrate')).toMatchObject({ status: 0 });
    older = await Fleet.on(system, 'older', build.dist);
    newer = await Fleet.on(system, 'newer');
    await older.start('event-relay');
    const others = hands.flat().filter((app) => app !== 'event-relay');
    await Promise.all(others.map((app) => older!.start(app)));
    const { key } = await system.team();
    lives = new Lives(key);
    lives.doors.push({ url: older.url('gateway'), isEnding: false });
  }, 1_200_000);

  afterAll(async () => {
    await lives?.end();
    await Promise.all([older?.end(), newer?.end()]);
    await pool?.end();
    await system?.end();
    build?.remove();
  });

  const sendmux = (dist: string, ...args: string[]) => {
    const env = system.settings;
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(dist, 'apps/cli/main.js'), ...args], {
      env,
      encoding: 'utf8',
    });
    return { status, stdout, stderr };
  };
  const thisBuild = resolve(__dirname, '../dist');

  /** Starts each app of one release beside that of the other, which it stops then. */
  async function exchange(from: Fleet, to: Fleet): Promise<void> {
    await Promise.all(
      exchanged.map(async (apps) => {
        for (const app of apps) {
          await to.start(app);
          if (app !== 'gateway') await from.stop(app);
          else await exchangeDoors(from, to);
        }
      }),
    );
  }

  async function exchangeDoors(from: Fleet, to: Fleet): Promise<void> {
    const door: Door = { url: to.url('gateway'), isEnding: false };
    lives.doors.push(door);
    // Customers meet both.
    await delay(besideMs);
    const ending = lives.doors.find(({ url }) => url === from.url('gateway'))!;
    ending.isEnding = true;
    await from.stop('gateway');
    lives.doors.splice(lives.doors.indexOf(ending), 1);
  }

  it('no request fails that would not have failed without an upgrade and the way back', async () => {
    console.log(`SEED=${seedOfRun}: ${exchanged.flat().join(', ')}`);
    lives.begin(rate);
    await delay(besideMs);
    expect(sendmux(thisBuild, 'migrate')).toMatchObject({ status: 0 });
    expect(sendmux(thisBuild, 'migrate', '--check')).toMatchObject({ status: 0 });
    await delay(besideMs);
    await exchange(older!, newer!);
    await delay(besideMs);
    // The Job of the release before runs again on the way back, and has nothing to do.
    expect(sendmux(build.dist, 'migrate')).toMatchObject({ status: 0 });
    await exchange(newer!, older!);
    await delay(besideMs);
    await lives.end();
    const counts = [...lives.counts].sort().map(([what, times]) => `  ${String(times).padStart(6)}  ${what}`);
    console.log(`${before.version}, then ${releases.at(-1)!.version}, then ${before.version}:\n${counts.join('\n')}`);
    // A few say it as well as all.
    expect(lives.faults.slice(0, 5)).toEqual([]);
    // A machine on which a connection to PostgreSQL takes ten seconds has gateways that refuse, whatever runs there.
    const isStarved = [older!, newer!].some((fleet) => hands.flat().some((app) => starved.test(fleet.log(app))));
    if (!isStarved) expect([...lives.counts.keys()].filter((what) => what.endsWith('that stays'))).toEqual([]);
    expect(lives.added.size).toBeGreaterThan(20);
  }, 1_800_000);

  it('every domain is what was answered for it, by both releases', async () => {
    await newer!.start('gateway');
    lives.doors.push({ url: newer!.url('gateway'), isEnding: false });
    for (const [id, answered] of lives.added)
      for (const _release of lives.doors) {
        const { status, body } = await lives.get(id);
        if (lives.deleted.has(id)) expect({ id, status }).toEqual({ id, status: 404 });
        else {
          const { domain, dns_records } = body.data!;
          expect({ status, domain, dns_records }).toEqual({
            status: 200,
            domain: answered!.domain,
            dns_records: answered!.dns_records,
          });
        }
      }
  }, 300_000);

  it('Kafka has each event of the log once and in order, every consumer is at its end, and nothing is parked', async () => {
    const events = async () =>
      (await pool.query<Known>(`SELECT stream || '/' || version AS id, stream, version FROM events`)).rows;
    const arrivals = () => arrivalsOf(kafka.brokers, system.settings.KAFKA_TOPIC!);
    // The cycle goes on and records: what is in the topic is between what the log had before and what it has after.
    const { before, arrived } = await system.until(
      'all is published',
      async () => {
        const before = await events();
        const arrived = await arrivals();
        return checkDelivery(before, arrived, before, []).lost === 0 ? { before, arrived } : undefined;
      },
      120_000,
    );
    expect(checkDelivery(before, arrived, before, [])).toMatchObject({ duplicated: 0, reordered: 0, scattered: 0 });
    expect(checkDelivery(await events(), arrived, before, [])).toMatchObject({ invented: 0 });
    interface Line {
      readonly check: string;
      readonly level: string;
      readonly message: string;
    }
    const lag = () => {
      const { lines } = JSON.parse(sendmux(thisBuild, 'doctor', '--json').stdout) as { lines: Line[] };
      return lines.filter(({ check }) => check === 'lag');
    };
    await system.until('nothing waits', () => lag().every(({ level }) => level === 'ok'), 120_000);
    expect((await pool.query('SELECT FROM parked_messages')).rowCount).toBe(0);
    expect(sendmux(thisBuild, 'audit', 'verify')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('Nothing is wrong.') as string,
    });
  }, 300_000);
});
