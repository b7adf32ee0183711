import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate, thisRelease } from '@app/database';
import { portOf } from '@app/runtime';
import { Client } from 'pg';
import { mailServerTables, serviceTables } from '../apps/cli/migrations';
import type { KafkaCluster } from '../local/embedded-kafka';
import { ApiContract, type OpenApi } from './support/api-contract';
import { DatabaseProxy } from './support/database-proxy';
import { kafkaIsInstalled, testKafka } from './support/kafka';
import { numbers } from './support/numbers';
import { mayMount, PostgresServer } from './support/postgres-server';
import {
  allApps,
  allAppsOnKafka,
  startSystem,
  type Answer,
  type ApiClient,
  type AppName,
  type System,
} from './support/processes';
import { sample } from './support/sample';

const program = resolve(__dirname, '../bin/sendmux');

/** The faults, each with how much it takes of a usual run. Statements are ended after thirty seconds, whoever waits. */
const costs = { disk: 1, readOnly: 1, connections: 1, held: 2, synchronous: 1, asynchronous: 1 };
const inRun = sample(2, 7);
const hasDisk = mayMount();
/** What this run makes: by a seed as much as a usual run has time for, and all of it in a whole run. */
const chosen = (() => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000);
  const random = numbers(seed);
  const order = Object.entries(costs).map(([name, cost]) => ({ name, cost, by: random() }));
  order.sort((a, b) => a.by - b.by);
  let taken = 0;
  const some = order
    .filter(({ name }) => name !== 'disk' || hasDisk)
    .filter(({ cost }) => taken + cost <= inRun && (taken += cost) > 0)
    .map(({ name }) => name);
  console.log(`SEED=${seed}: ${some.join(', ')}`);
  return new Set(some);
})();
const when = (fault: keyof typeof costs) => (chosen.has(fault) ? it : it.skip);

/** Milliseconds that each fault lasts. */
const faultMs = sample(3_000, 45_000);
/** Milliseconds that a lock is held: longer than a statement may take. */
const lockMs = 33_000;
/**
 * Milliseconds within which every request has its answer: an add may take `PROVISIONING_DEADLINE` and five seconds, and
 * another statement may wait behind the one that takes as long as it may.
 */
const answerWithinMs = 80_000;
/** Milliseconds after the mend within which everything works again without a restart. */
const recoverWithinMs = sample(30_000, 60_000);
/** Milliseconds for which a process may say that it does not live: on a busy machine supervisors ask three times. */
const patienceMs = 5_000;
/** Customers at once. */
const customersAtOnce = 6;

const codesOfRefusals = ['service_unavailable', 'provisioning_timeout', 'conflict', 'idempotency_conflict'];

/** Customers who add, read, verify and delete domains all the time, and keep what they were told. */
class Customers {
  /** Answers that no customer should get. */
  readonly unexpected: string[] = [];
  /** The id of each name by the last answer; undefined where it was deleted. */
  readonly acknowledged = new Map<string, string | undefined>();
  /** Domains whose add was answered with 201, and that are not there any more. */
  readonly lost = new Map<string, string>();
  /** Names that cannot be added, since the mail server or SES has them for a domain that is not in the log. */
  readonly blocked = new Set<string>();
  answers = 0;
  refusals = 0;
  slowestMs = 0;
  private goOn = false;
  private number = 0;
  private work: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly system: System,
    private readonly api: ApiClient,
    private readonly contract: ApiContract,
  ) {}

  static async of(system: System): Promise<Customers> {
    const { api } = await system.team();
    const document = await fetch(`http://127.0.0.1:${system.port}/api/v1/openapi.json`);
    return new Customers(system, api, new ApiContract((await document.json()) as OpenApi));
  }

  start(): void {
    this.goOn = true;
    this.answers = this.refusals = this.slowestMs = 0;
    this.work = Promise.all(Array.from({ length: customersAtOnce }, () => this.live()));
  }

  /** Lets each come to the end of what it does, which needs a database. */
  async stop(): Promise<void> {
    this.goOn = false;
    await this.work;
  }

  /** Adds a domain, again and again until that is acknowledged; undefined where the name is blocked. */
  async add(name = this.name()): Promise<{ name: string; id: string; answer: unknown } | undefined> {
    for (let key = randomUUID(); ;) {
      const answer = await this.ask('POST', '/domains', { domain: name }, { 'idempotency-key': key });
      if (answer?.status === 201) {
        const { id } = (answer.body as { data: { id: string } }).data;
        this.acknowledged.set(name, id);
        return { name, id, answer: answer.body };
      }
      if (answer?.status === 502) {
        this.blocked.add(name);
        return undefined;
      }
      // It was rolled back, so that the next request needs another key.
      if (answer?.status === 504) key = randomUUID();
      await sleep(200);
    }
  }

  get = (id: string) => this.ask('GET', `/domains/${id}`);

  private async live(): Promise<void> {
    while (this.goOn) {
      const added = await this.add();
      if (!added) continue;
      const { name, id, answer } = added;
      await this.system.sandbox.place(answer);
      const isThere =
        (await this.until(name, id, () => this.get(id))) &&
        (await this.until(name, id, () => this.ask('POST', `/domains/${id}/verify`)));
      if (isThere && this.number % 2 === 0) await this.delete(name, id);
    }
  }

  private name(): string {
    return `d${this.number++}.example.com`;
  }

  private async delete(name: string, id: string): Promise<void> {
    for (let asked = 0; ; asked++) {
      const answer = await this.ask('DELETE', `/domains/${id}`);
      // An earlier request, whose answer was lost, has deleted it.
      if (answer?.status === 200 || (answer?.status === 404 && asked > 0)) break;
      if (answer?.status === 404) return void this.lost.set(name, id);
      await sleep(200);
    }
    this.acknowledged.set(name, undefined);
  }

  /** Asks until the answer is a success; false where the domain is not there any more. */
  private async until(name: string, id: string, ask: () => Promise<Answer | undefined>): Promise<boolean> {
    for (;;) {
      const answer = await ask();
      if (answer?.status === 200) return true;
      if (answer?.status === 404) {
        this.lost.set(name, id);
        return false;
      }
      await sleep(200);
    }
  }

  private async ask(method: string, path: string, body?: unknown, headers = {}): Promise<Answer | undefined> {
    const began = performance.now();
    try {
      const answer = await this.api.call(method, path, body, headers);
      this.look(method, path, answer);
      return answer;
    } catch (error) {
      this.unexpected.push(`${method} ${path}: ${(error as Error).message}`);
      return undefined;
    } finally {
      this.answers++;
      this.slowestMs = Math.max(this.slowestMs, performance.now() - began);
    }
  }

  /** Every answer is a documented one, and a refusal says that it may be repeated, and when. */
  private look(method: string, path: string, answer: Answer): void {
    const { status, headers } = answer;
    const body: unknown = answer.body;
    this.contract.check(method, `/api/v1${path}`, { status, headers, text: JSON.stringify(body) });
    if (status < 400 || status === 404 || status === 502) return;
    this.refusals++;
    const { code, retryable } = (body as { error: { code: string; retryable: boolean } }).error;
    const saysWhen = status === 409 || headers.get('retry-after') !== null;
    if (!codesOfRefusals.includes(code) || !retryable || !saysWhen)
      this.unexpected.push(`${method} ${path}: ${status} ${JSON.stringify(body)}`);
  }
}

/** Looks at every process all the time. */
class Watch {
  /** Processes that have ended, and those that a supervisor would have ended since they said that they do not live. */
  readonly faults = new Set<string>();
  private readonly deadSince = new Map<AppName, number>();
  private over = false;
  private readonly looking: Promise<void>;

  constructor(
    private readonly system: System,
    private readonly apps: readonly AppName[],
  ) {
    this.looking = this.look();
  }

  async stop(): Promise<void> {
    this.over = true;
    await this.looking;
  }

  private async look(): Promise<void> {
    for (; !this.over; await sleep(500))
      await Promise.all(
        this.apps.map(async (app) => {
          if (!this.system.runs(app)) return this.faults.add(`${app} has ended: ${this.system.log(app).slice(-500)}`);
          const live = await health(this.system, app, 'live').catch((error: Error) => error.message);
          if (live === 200) return this.deadSince.delete(app);
          const since = this.deadSince.get(app) ?? performance.now();
          this.deadSince.set(app, since);
          return performance.now() - since > patienceMs && this.faults.add(`${app} does not live: ${live}`);
        }),
      );
  }
}

async function health(system: System, app: AppName, kind: 'live' | 'ready'): Promise<200 | string> {
  const answer = await fetch(`http://127.0.0.1:${portOf(app, system.port)}/health/${kind}`);
  return answer.status === 200 ? 200 : `${answer.status} ${await answer.text()}`;
}

/** Runs a command as an operator does. */
async function sendmux(system: System, ...args: string[]): Promise<{ status: number; said: string }> {
  const child = spawn(program, args, { env: { ...system.settings }, stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, err, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number]>,
  ]);
  return { status, said: `${out}${err}` };
}

interface Row {
  readonly id: string;
  readonly name: string;
  readonly status: string;
}

/**
 * The real apps live through each fault of a real PostgreSQL, one after another, while customers go on. A full disk
 * needs a disk of its own, which root may mount. A usual run makes two of them, by a seed. `WHOLE=1` makes all, and
 * each longer than a consumer may stand still, has the machine of the last primary vanish without a word, and runs
 * on Kafka where that is installed.
 */
describe('while PostgreSQL fails', () => {
  const onKafka = process.env.WHOLE !== undefined && kafkaIsInstalled();
  const apps: readonly AppName[] = [...(onKafka ? allAppsOnKafka : allApps), 'sealer', 'webhooks'];
  const servers: PostgresServer[] = [];
  const closed: (() => unknown)[] = [];
  let kafka: KafkaCluster | undefined;
  /** What the apps take for the server. */
  let proxy: DatabaseProxy;
  /** The server that takes writes now. */
  let primary: PostgresServer;
  let system: System;
  let customers: Customers;
  let watch: Watch;

  beforeAll(async () => {
    if (!hasDisk) console.log('Skipped: a full disk, since only root may mount one for it.');
    if (onKafka) kafka = await testKafka();
    primary = await PostgresServer.make({ max_connections: '90' }, chosen.has('disk') ? 300 : undefined);
    servers.push(primary);
    const [service, mailServer] = [await primary.database('service'), await primary.database('mail_server')];
    await migrate(service, serviceTables, { release: thisRelease });
    await migrate(mailServer, mailServerTables, { release: thisRelease });
    proxy = await DatabaseProxy.open(service);
    const given = (url: string) => ({ url: proxy.to(url), drop: () => Promise.resolve() });
    system = await startSystem({
      apps: [],
      database: given(service),
      mailServer: given(mailServer),
      ...(kafka && { brokers: kafka.brokers }),
      env: {
        AUDIT_SEAL_INTERVAL: '500ms',
        PROVISIONING_DEADLINE: '45s',
        VERIFICATION_INTERVAL: '24h',
        RATE_LIMIT_PER_MINUTE: '10000000',
        SES_CALLS_PER_SECOND: '1000',
      },
    });
    expect(await sendmux(system, 'migrate')).toMatchObject({ status: 0 });
    await Promise.all(apps.map((app) => system.start(app)));
    customers = await Customers.of(system);
    watch = new Watch(system, apps);
  }, 300_000);

  afterAll(async () => {
    await watch?.stop();
    await system?.end();
    proxy?.away();
    for (const close of closed) await close();
    for (const server of servers) await server.remove();
    await kafka?.destroy();
  });

  // After a test that has failed too, so that the next one begins with customers who have what they want.
  afterEach(() => Promise.race([customers.stop(), sleep(60_000, undefined, { ref: false })]));

  /** The rows of a database of the primary, read beside the apps. */
  const rows = <Row extends object>(sql: string, database = 'service') =>
    primary.query<Row & Record<string, unknown>>(sql, [], databaseOf(primary, database));
  const databaseOf = (server: PostgresServer, name: string) => {
    const url = new URL(server.url);
    url.pathname = `/${name}`;
    return url.href;
  };

  /** Waits until everything works again without a restart, and says how long that took. */
  async function recovery(what: string): Promise<void> {
    const mended = performance.now();
    const added = await customers.add();
    const addedMs = performance.now() - mended;
    const unready = async () => {
      for (const app of apps) {
        const ready = await health(system, app, 'ready').catch((error: Error) => error.message);
        if (ready !== 200) return `${app}: ${ready}`;
      }
      return undefined;
    };
    let left: string | undefined;
    while ((left = await unready()) !== undefined && performance.now() - mended < recoverWithinMs) await sleep(100);
    const readyMs = performance.now() - mended;
    await customers.stop();
    const stoppedMs = performance.now() - mended;
    await settle();
    const settledMs = performance.now() - mended;
    console.log(
      `${what}: ${customers.answers} answers, ${customers.refusals} of them refusals, the slowest after ${seconds(customers.slowestMs)}; ` +
        `after the mend an add after ${seconds(addedMs)}, all ready after ${seconds(readyMs)}, every customer has what he wanted after ${seconds(stoppedMs)}, settled after ${seconds(settledMs)}`,
    );
    expect(left).toBeUndefined();
    expect(Math.max(addedMs, readyMs)).toBeLessThan(recoverWithinMs);
    expect(added).toBeDefined();
  }

  /**
   * Waits until nothing is due, no consumer is behind, and the whole log is sealed. What provisioning looks for once
   * more, a minute after a deletion, is not waited for.
   */
  async function settle(): Promise<void> {
    let left: unknown;
    const unsettled = async () => {
      const tasks = await rows(`SELECT list, key, kind, attempts, last_error, due FROM tasks
          WHERE kind NOT IN ('DomainDeleted', 'ProvisioningRolledBack')`);
      if (tasks.length > 0) return tasks;
      for (const app of ['provisioning', 'verification-scheduler', 'notifier', 'webhooks'] as const) {
        const metrics = await (await fetch(`http://127.0.0.1:${portOf(app, system.port)}/metrics`)).text();
        const behind = /^sendmux_events_behind(?:\{[^}]*\})? (\S+)$/m.exec(metrics)?.[1];
        if (behind !== '0') return { app, behind };
      }
      const [seals] = await rows<{ head: number; sealed: number }>(
        `SELECT (SELECT max(position)::float8 FROM events) AS head, (SELECT max(up_to)::float8 FROM audit_seals) AS sealed`,
      );
      return seals!.sealed >= seals!.head ? undefined : seals;
    };
    await system
      .until('all has settled', async () => (left = await unsettled()) === undefined, 120_000)
      .catch((error: Error) => {
        throw new Error(`It has not settled: ${JSON.stringify(left)}\n${error.message}`);
      });
  }

  /** Gives what is where, once everything has settled. */
  async function found() {
    const all = await rows<Row>('SELECT id, name, status FROM domains');
    const live = all.filter(({ status }) => status !== 'deleted' && status !== 'rolled_back');
    const placed = await rows<{ domain_id: string }>(
      `SELECT domain_id FROM mail_domains WHERE domain_id <> 'shared'`,
      'mail_server',
    );
    const identities = await system.sandbox.identities();
    return {
      all,
      live: new Map(live.map(({ name, id }) => [name, id])),
      halfDone: live.filter(({ status }) => !['pending', 'verified', 'failed'].includes(status)),
      placed: new Set(placed.map(({ domain_id }) => domain_id)),
      identities: new Set(
        identities.flatMap(({ tags }) =>
          tags.filter(({ Key }) => Key === 'sendmux:domain-id').map(({ Value }) => Value),
        ),
      ),
      parked: await rows('SELECT consumer_group, message, error FROM parked_messages'),
    };
  }

  /** What customers were told is so, everywhere, and there is nothing else. */
  async function expectNothingLost(): Promise<void> {
    const told = new Map([...customers.acknowledged].filter(([, id]) => id !== undefined));
    const ids = new Set(told.values());
    const { live, halfDone, placed, identities, parked } = await found();
    expect({ lost: [...customers.lost], blocked: [...customers.blocked] }).toEqual({ lost: [], blocked: [] });
    expect(live).toEqual(told);
    expect({ halfDone, parked }).toEqual({ halfDone: [], parked: [] });
    expect({ placed, identities }).toEqual({ placed: ids, identities: ids });
  }

  function expectGoodAnswers(): void {
    expect(customers.unexpected.splice(0)).toEqual([]);
    expect(customers.slowestMs).toBeLessThan(answerWithinMs);
    expect([...watch.faults]).toEqual([]);
  }

  /** Waits until some customers have been refused, so that the fault is one. */
  const refused = () => system.until('customers are refused', () => customers.refusals >= 3);
  const logged = (what: RegExp) => apps.some((app) => what.test(system.log(app)));

  when('disk')('a disk that is full: nothing is lost, and all goes on when there is room', async () => {
    customers.start();
    await sleep(2_000);
    primary.fillDisk();
    await refused();
    await sleep(faultMs);
    expect(logged(/No space left on device/)).toBe(true);
    // A WAL segment that cannot be made ends the server.
    await primary.query('SELECT pg_switch_wal()').catch(() => undefined);
    await primary.query('CREATE TABLE filled AS SELECT generate_series(1, 1000000)').catch(() => undefined);
    await Promise.race([primary.ended(), sleep(20_000)]);
    const hasEnded = !primary.isRunning;
    if (!hasEnded) await primary.stop();
    console.log(hasEnded ? 'PostgreSQL has ended by itself.' : 'PostgreSQL was ended.');
    await sleep(1_000);
    primary.freeDisk();
    await primary.start();
    await recovery('a full disk');
    expectGoodAnswers();
    await expectNothingLost();
  });

  when('readOnly')(
    'a server that takes no writes: reads are answered, and writes are refused until it does',
    async () => {
      const { id } = (await customers.add())!;
      customers.start();
      await sleep(1_000);
      await primary.query('ALTER SYSTEM SET default_transaction_read_only = on');
      await primary.query('SELECT pg_reload_conf()');
      await refused();
      expect((await customers.get(id))?.status).toBe(200);
      await sleep(faultMs);
      expect((await customers.get(id))?.status).toBe(200);
      expect(logged(/in a read-only transaction/)).toBe(true);
      await primary.query('ALTER SYSTEM RESET default_transaction_read_only');
      await primary.query('SELECT pg_reload_conf()');
      await recovery('read-only');
      expectGoodAnswers();
      await expectNothingLost();
    },
  );

  when('connections')('a server whose connections are all taken, but for those of superusers', async () => {
    customers.start();
    await sleep(1_000);
    const others = takeConnections(primary);
    await refused();
    await sleep(faultMs);
    await others.giveBack();
    expect(logged(/remaining connection slots are reserved|too many clients/)).toBe(true);
    await recovery('out of connections');
    expectGoodAnswers();
    await expectNothingLost();
  });

  when('held')('a session that holds the tables for longer than a statement may take', async () => {
    customers.start();
    await sleep(1_000);
    // What the apps have begun meanwhile may wait for it in turn, so that one of both is given up.
    let holder: Client | undefined;
    while (!holder) holder = await holdTables(databaseOf(primary, 'service')).catch(() => undefined);
    await sleep(lockMs);
    await holder.end();
    expect(logged(/statement timeout/)).toBe(true);
    await recovery('tables held');
    expectGoodAnswers();
    await expectNothingLost();
  });

  /** Gives the primary a standby that follows it by streaming replication, and the way between the two. */
  async function withStandby(settings: Record<string, string>) {
    await primary.stop();
    const link = await DatabaseProxy.open(primary.url);
    closed.push(() => link.away());
    const standby = await PostgresServer.standbyOf(primary, link.url);
    servers.push(standby);
    await primary.start(settings);
    await primary.shows(`SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1`, [
      settings.synchronous_standby_names ? 'sync' : 'async',
    ]);
    return { standby, link };
  }

  when('synchronous')(
    'a primary that dies, with a synchronous standby: nothing that was acknowledged is lost',
    async () => {
      const { standby } = await withStandby({ synchronous_standby_names: '*' });
      const { id } = (await customers.add())!;
      customers.start();
      await sleep(faultMs);
      await primary.kill();
      // The name leads to the standby before that is promoted, as a name in the DNS may.
      proxy.leadTo(standby.url);
      await refused();
      // What a standby says of the log is not to be believed.
      expect((await customers.get(id))?.status).toBe(503);
      await sleep(2_000);
      await standby.query('SELECT pg_promote()');
      primary = standby;
      await recovery('a fail-over with a synchronous standby');
      expectGoodAnswers();
      await expectNothingLost();
      await expectSoundLog();
    },
  );

  when('asynchronous')(
    'a primary that dies, with an asynchronous standby: what it had not sent is lost, and nothing else',
    async () => {
      const { standby, link } = await withStandby({});
      customers.start();
      await sleep(faultMs);
      const before = new Map(customers.acknowledged);
      await primary.shows(`SELECT FROM pg_stat_replication WHERE flush_lsn >= '${await lsn()}'::pg_lsn`);
      link.fallSilent();
      const brokenAt = new Date();
      // Each customer may have an add under way whose first event was sent.
      const silentAt = new Set(customers.acknowledged.keys());
      const unsent = () => [...customers.acknowledged].filter(([name, id]) => id !== undefined && !silentAt.has(name));
      await system.until(
        'adds are acknowledged that the standby has not',
        () => unsent().length >= customersAtOnce + 3,
      );
      const events = await rows<{ count: number }>('SELECT count(*)::int FROM events');
      const sent = new Map(customers.acknowledged);
      const old = primary;
      if (process.env.WHOLE) old.freeze();
      else await old.kill();
      proxy.leadTo(standby.url);
      await standby.query('SELECT pg_promote()');
      primary = standby;
      const left = await rows<{ count: number }>('SELECT count(*)::int FROM events');
      await recovery('a fail-over with an asynchronous standby');
      if (process.env.WHOLE) await old.kill();
      expectGoodAnswers();

      const { all, live, halfDone, placed, identities, parked } = await found();
      const there = new Map(all.map((row) => [row.id, row]));
      const told = [...sent].filter(([name]) => !before.has(name));
      const lostAdds = [...sent].filter(([, id]) => id !== undefined && !there.has(id));
      const lostDeletes = [...sent].filter(([name, id]) => id === undefined && live.has(name));
      const ids = new Set(live.values());
      const orphans = [...identities].filter((id) => !ids.has(id));
      const gone = [...ids].filter((id) => !identities.has(id));
      console.log(
        `lost of what was acknowledged since the last look at the standby: ${lostAdds.length} of ${told.length} adds, ${lostDeletes.length} deletes ` +
          `(${events[0]!.count - left[0]!.count} events); SES has ${orphans.length} identities of domains that are not in the log, ` +
          `and lacks ${gone.length}; ` +
          `the mail server has ${[...placed].filter((id) => !ids.has(id)).length} of them; ${customers.blocked.size} names are blocked`,
      );
      expect(lostAdds.length).toBeGreaterThan(0);
      for (const [name, id] of before) if (id !== undefined) expect([name, there.has(id)]).toEqual([name, true]);
      expect({ halfDone, parked }).toEqual({ halfDone: [], parked: [] });
      for (const id of ids) expect([id, placed.has(id)]).toEqual([id, true]);
      await expectSoundLog();
      // The name is free in the log, and SES has it for a domain that is not there: nobody gets it, until an operator
      // says that the log was taken back.
      const [name, id] = lostAdds.find(([each, lost]) => !live.has(each) && identities.has(lost!))!;
      expect(await customers.add(name)).toBeUndefined();
      expectGoodAnswers();
      await watch.stop();
      await Promise.all(apps.filter((app) => app !== 'sandbox').map((app) => system.stop(app)));
      const restore = ['restore', '--reason', 'fail-over', '--lost-since', brokenAt.toISOString(), '--yes'];
      expect(await sendmux(system, ...restore)).toMatchObject({ status: 0 });
      await Promise.all(apps.filter((app) => app !== 'sandbox').map((app) => system.start(app)));
      expect((await sendmux(system, 'reconcile', 'ses', '--limit', '1000')).said).toContain(`${id} was lost`);
      expect(await customers.add(name)).toBeDefined();
      await expectSoundLog();
    },
  );

  const lsn = async () => (await rows<{ lsn: string }>('SELECT pg_current_wal_lsn()::text AS lsn'))[0]!.lsn;

  async function expectSoundLog(): Promise<void> {
    for (const args of [
      ['audit', 'verify'],
      ['projections', 'rebuild', 'domains', '--check'],
    ])
      expect(await sendmux(system, ...args)).toMatchObject({ status: 0 });
  }
});

const seconds = (milliseconds: number) => `${(milliseconds / 1_000).toFixed(1)} s`;

/** Holds the tables that requests and consumers need until the session is ended. */
async function holdTables(url: string): Promise<Client> {
  const holder = new Client({ connectionString: url });
  await holder.connect();
  try {
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE domains, events, tasks, checkpoints IN ACCESS EXCLUSIVE MODE');
    await holder.query('ALTER TABLE domains ADD COLUMN held text');
    return holder;
  } catch (error) {
    await holder.end();
    throw error;
  }
}

/** Takes every connection that a user who is no superuser can have, also those that the apps have now. */
function takeConnections(server: PostgresServer): { giveBack: () => Promise<void> } {
  const taken: Client[] = [];
  let isOver = false;
  const take = async () => {
    for (;;) {
      if (isOver) return;
      const client = new Client({ connectionString: server.serviceUrl('postgres') });
      client.on('error', () => undefined);
      try {
        await client.connect();
        taken.push(client);
      } catch {
        await client.end();
        return;
      }
    }
  };
  const work = (async () => {
    while (!isOver) {
      await take();
      // What is reserved for superusers may be taken too, by connections whose user is not known yet.
      await server
        .query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'service' AND datname <> 'postgres'`,
        )
        .catch(() => undefined);
      await take();
      await sleep(200);
    }
  })();
  return {
    giveBack: async () => {
      isOver = true;
      await work;
      await Promise.all(taken.map((client) => client.end()));
    },
  };
}
