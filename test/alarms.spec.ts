import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openPool } from '@app/database';
import { portOf } from '@app/runtime';
import type { Pool } from 'pg';
import type { KafkaCluster } from '../local/embedded-kafka';
import { metricsOfRules, record } from './support/alarm-recording';
import { startEndpoint, type TestEndpoint } from './support/endpoint';
import { kafkaIsInstalled, testKafka } from './support/kafka';
import { migratedDatabase } from './support/migrated-database';
import { numbers } from './support/numbers';
import { allAppsOnKafka, startSystem, type ApiClient, type AppName, type System } from './support/processes';
import {
  prometheusIsInstalled,
  startPrometheus,
  type PendingOrFiringAlarm,
  type Prometheus,
} from './support/prometheus';
import { replayedAndLive } from './support/replayed-read-model';
import { sample } from './support/sample';
import { withAdmin, type TestDatabase } from './support/test-database';

/** Seconds between two scrapes here; fifteen in the field, for which `ops/prometheus/tests` stand. */
const scrapeSeconds = 3;
/** Milliseconds within which the alarm about a fault has to fire, and within which it has to end after the mend. */
const [firesWithinMs, clearsWithinMs] = [120_000, 300_000];
/** Milliseconds for which a fault lasts, and for which all is well before it, when its series are recorded. */
const [recordedMs, calmMs] = [105_000, 45_000];
const isRecording = process.env.RECORD === '1';

/** What a machine that is short of CPU has by itself, whatever fault is made. */
const isOfThisMachine = ({ name, labels }: PendingOrFiringAlarm): boolean =>
  name === 'SendmuxSesTurnsMissed' || labels.slo === 'events';

const apps = [...allAppsOnKafka.filter((app) => app !== 'sandbox'), 'sealer', 'webhooks'] as const;

/** A small file system of its own, on which a database can be, so that its disk can be full. */
interface SmallDisk {
  readonly tablespace: string;
  fill(): void;
  empty(): void;
  remove(): Promise<void>;
}

/** Mounts a small file system for the server of this Jest run; undefined where that is not permitted. */
async function smallDisk(): Promise<SmallDisk | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const home = mkdtempSync(join(tmpdir(), 'sendmux-disk-'));
  chmodSync(home, 0o755);
  const mounted = join(home, 'disk');
  mkdirSync(mounted);
  const mount = (...args: string[]) => spawnSync('mount', ['-t', 'tmpfs', ...args, 'tmpfs', mounted]).status === 0;
  if (!mount('-o', 'size=96m')) {
    rmSync(home, { recursive: true });
    return undefined;
  }
  const location = join(mounted, 'tablespace');
  const filler = join(mounted, 'filler');
  const tablespace = `small_${process.pid}`;
  await withAdmin(async (admin) => {
    const { rows } = await admin.query<{ data_directory: string }>('SHOW data_directory');
    const { uid, gid } = statSync(rows[0]!.data_directory);
    mkdirSync(location, { mode: 0o700 });
    spawnSync('chown', [`${uid}:${gid}`, location]);
    await admin.query(`CREATE TABLESPACE ${tablespace} LOCATION '${location}'`);
  });
  return {
    tablespace,
    // Ends with ENOSPC, when there is no room left.
    fill: () => void spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=64k']),
    empty: () => rmSync(filler, { force: true }),
    remove: async () => {
      await withAdmin((admin) => admin.query(`DROP TABLESPACE ${tablespace}`));
      spawnSync('umount', [mounted]);
      rmSync(home, { recursive: true, force: true });
    },
  };
}

interface Fault {
  readonly alarm: string;
  /** Its alarm fires and ends within a minute, since it looks at no window that has to fill and to pass. */
  readonly isQuick?: true;
  readonly make: () => unknown;
  readonly mend: () => unknown;
}

/**
 * Makes faults in a running system that a real Prometheus scrapes, and expects the one alarm that each is about. The
 * waits of the rules are those of the field, so that a usual run makes one of the quick faults, and `WHOLE=1` all.
 * What Prometheus has recorded of all of them is judged in each run (alarm-rules.spec.ts). Skipped where Prometheus,
 * Java or Maven is missing: see tools/install-counterparts.
 */
(prometheusIsInstalled() && kafkaIsInstalled() ? describe : describe.skip)('a fault that is made for real', () => {
  let kafka: KafkaCluster;
  let disk: SmallDisk | undefined;
  let database: TestDatabase;
  let system: System;
  let api: ApiClient;
  let pool: Pool;
  let endpoint: TestEndpoint;
  let prometheus: Prometheus;
  let directory: string;
  let clock: string;
  let work: Promise<unknown> | undefined;
  let isOver = false;
  /** The alarms that have fired since the last fault was made. */
  const fired = new Set<string>();

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sendmux-alarms-'));
    clock = join(directory, 'ahead');
    writeFileSync(clock, '0');
    [kafka, disk, database] = await Promise.all([testKafka(), smallDisk(), migratedDatabase('service')]);
    const { tablespace } = disk ?? {};
    const name = new URL(database.url).pathname.slice(1);
    if (tablespace) await withAdmin((admin) => admin.query(`ALTER DATABASE ${name} SET TABLESPACE ${tablespace}`));
    system = await startSystem({
      brokers: kafka.brokers,
      database,
      pooled: false,
      apps: [],
      env: {
        VERIFICATION_INTERVAL: '30s',
        RATE_LIMIT_PER_MINUTE: '1000000',
        SES_CALLS_PER_SECOND: '10',
        CLOCK_AHEAD_FILE: clock,
      },
    });
    const preload = { NODE_OPTIONS: `--require ${join(__dirname, 'support/shifted-clock.cjs')}` };
    await system.start('sandbox');
    await Promise.all(apps.map((app) => system.start(app, app === 'verification-scheduler' ? preload : {})));
    pool = openPool(system.databaseUrl, 2);
    ({ api } = await system.team());
    endpoint = await startEndpoint();
    await api.call('POST', '/webhooks', { url: endpoint.url });
    await Promise.all(Array.from({ length: sample(3, 12) }, (_, i) => addVerified(`d${i}.acme.com`)));
    const targets = apps.map((app): [string, number] => [`sendmux-${app}`, portOf(app, system.port)]);
    prometheus = await startPrometheus(Object.fromEntries(targets), scrapeSeconds);
    work = Promise.all([addAndDelete('a'), addAndDelete('b')]);
    await delay(isRecording ? calmMs : sample(9_000, 15_000));
    expect((await prometheus.alarms()).filter((alarm) => !isOfThisMachine(alarm))).toEqual([]);
  });
  afterAll(async () => {
    isOver = true;
    await work;
    await prometheus?.stop();
    await system?.end();
    if (database) {
      const { replayed, live, events } = await replayedAndLive(database.url);
      await pool?.end();
      await database.drop();
      await disk?.remove();
      if (work) expect(events).toBeGreaterThan(0);
      expect(live).toEqual(replayed);
    }
    await endpoint?.close();
    await kafka?.destroy();
    rmSync(directory, { recursive: true, force: true });
  });

  async function addVerified(name: string): Promise<void> {
    const { body } = (await api.add(name)) as { body: { data: { id: string } } };
    await system.sandbox.place(body);
    await system.until(`${name} is verified`, async () => {
      const { body: verified } = (await api.verify(body.data.id)) as { body: { data?: { status: string } } };
      return verified.data?.status === 'verified';
    });
  }

  /** Does what customers do, whatever becomes of it: adds a domain, and deletes it. */
  async function addAndDelete(who: string): Promise<void> {
    for (let i = 0; !isOver; i++) {
      const added = await api.add(`${who}${i}.example.com`).catch(() => undefined);
      const id = (added?.body as { data?: { id?: string } } | undefined)?.data?.id;
      if (id !== undefined) await api.delete(id).catch(() => undefined);
      await delay(1_500);
    }
  }

  const unguarded = (sql: string) => pool.query(`BEGIN; SET LOCAL session_replication_role = replica; ${sql}; COMMIT`);
  /** Changes the newest event as somebody with all rights to the table could, or takes that back. */
  const tamper = async () => {
    await unguarded(`CREATE TABLE kept AS SELECT position, metadata FROM events ORDER BY position DESC LIMIT 1;
      UPDATE events SET metadata = '{"actor":"nobody"}' WHERE position = (SELECT position FROM kept)`);
  };
  const untamper = () =>
    unguarded(`UPDATE events e SET metadata = k.metadata FROM kept k WHERE e.position = k.position; DROP TABLE kept`);

  const faults: Readonly<Record<string, Fault>> = {
    'SES that is silent': {
      alarm: 'SendmuxSesAway',
      make: () => system.sandbox.fault('ses', { mode: 'hang' }),
      mend: () => system.sandbox.allWell(),
    },
    'a resolver that lies': {
      alarm: 'SendmuxResolversDisagree',
      make: () => system.sandbox.fault('doh-a', { mode: 'lie' }),
      mend: () => system.sandbox.allWell(),
    },
    'Kafka that is away': {
      alarm: 'SendmuxKafkaAway',
      make: () => kafka.kill(0),
      mend: () => kafka.startNode(0),
    },
    'a notifier that is dead': {
      alarm: 'SendmuxAppDown',
      make: () => system.kill('notifier'),
      mend: () => system.start('notifier'),
    },
    'a disk of PostgreSQL that is full': {
      alarm: 'SendmuxDatabaseRefuses',
      make: () => disk!.fill(),
      mend: () => disk!.empty(),
    },
    'a clock that is ahead': {
      alarm: 'SendmuxClockOff',
      isQuick: true,
      make: () => writeFileSync(clock, '90000'),
      mend: () => writeFileSync(clock, '0'),
    },
    'a log that is broken': { alarm: 'SendmuxLogBroken', isQuick: true, make: tamper, mend: untamper },
  };

  /** Waits until the alarms that fire are those that are expected, and notes all that fire meanwhile. */
  async function untilFiring(expected: readonly string[], withinMs: number): Promise<number> {
    const since = Date.now();
    for (;;) {
      const all = (await prometheus.alarms()).filter((alarm) => !isOfThisMachine(alarm));
      const firing = all.filter(({ state }) => state === 'firing').map(({ name }) => name);
      for (const name of firing) fired.add(name);
      const passedMs = Date.now() - since;
      if (expected.every((name) => firing.includes(name)) && (expected.length > 0 || firing.length === 0))
        return passedMs;
      if (passedMs > withinMs)
        throw new Error(`Not within ${withinMs} ms: ${expected.join() || 'none'} instead of ${JSON.stringify(all)}`);
      await delay(500);
    }
  }

  const chosen = (() => {
    const seed = Number(process.env.SEED ?? Date.now() % 1_000);
    const random = numbers(seed);
    const all = Object.entries(faults).filter(([, { isQuick }]) => process.env.WHOLE || isQuick);
    const order = new Map(all.map(([name]) => [name, random()]));
    const some = [...all].sort(([a], [b]) => order.get(a)! - order.get(b)!).slice(0, sample(1, all.length));
    console.log(`SEED=${seed}: ${some.map(([name]) => name).join(', ')}`);
    return some;
  })();

  it.each(chosen)(
    '%s has its alarm within two minutes and no other, which ends when it is mended',
    async (name, fault) => {
      if (fault.alarm === 'SendmuxDatabaseRefuses' && !disk) {
        console.log('Nothing may be mounted here, so no disk can be full.');
        return;
      }
      fired.clear();
      const madeAt = Date.now();
      let firesMs: number;
      await fault.make();
      try {
        firesMs = await untilFiring([fault.alarm], firesWithinMs);
        while (isRecording && Date.now() - madeAt < recordedMs)
          await untilFiring([fault.alarm], 0).then(() => delay(500));
      } finally {
        await fault.mend();
      }
      const clearsMs = await untilFiring([], clearsWithinMs);
      console.log(
        `${name}: ${Math.round(firesMs / 1_000)} s until the alarm, ${Math.round(clearsMs / 1_000)} s to its end`,
      );
      expect([...fired]).toEqual([fault.alarm]);
      if (!isRecording) return;
      await delay(calmMs);
      const seconds = (ms: number) => Math.floor(ms / 1_000);
      const file = resolve(__dirname, `../ops/prometheus/tests/${name.toLowerCase().replaceAll(' ', '-')}.yml`);
      await record(
        prometheus,
        {
          name,
          alarm: fault.alarm,
          from: seconds(madeAt - calmMs),
          madeAt: seconds(madeAt),
          to: seconds(Date.now()),
          renamed: [
            ...apps.map((app) => [new RegExp(`127\\.0\\.0\\.1:${portOf(app, system.port)}\\b`), `${app}:1`] as const),
            [new RegExp(system.settings.KAFKA_TOPIC!), 'sendmux.domain-events'],
            [new RegExp(system.settings.KAFKA_GROUP_PREFIX!), ''],
          ],
        },
        file,
      );
    },
  );

  it('every metric that the rules name is served by an app', async () => {
    const answers = await Promise.all(
      apps.map(async (app: AppName) => (await fetch(`http://127.0.0.1:${portOf(app, system.port)}/metrics`)).text()),
    );
    const served = new Set(
      answers.flatMap((text) => [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, metric]) => metric)),
    );
    const named = metricsOfRules().filter((name) => name !== 'up');
    expect(named.length).toBeGreaterThan(40);
    const missing = named.filter((name) => !served.has(name) && !served.has(name.replace(/_(bucket|count|sum)$/, '')));
    expect([...new Set(missing)]).toEqual([]);
  });
});
