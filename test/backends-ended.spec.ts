import { spawn } from 'node:child_process';
import { randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPassingFault, openPool } from '@app/database';
import { portOf } from '@app/runtime';
import type { Pool } from 'pg';
import { BackendStorm } from './support/backend-storm';
import { whoHas } from './support/both-or-neither';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { allApps, allAppsOnKafka, startSystem, type Answer, type AppName, type System } from './support/processes';
import { sample, variantsOfRun } from './support/sample';

const stormMs = Number(process.env.STORM_MS ?? sample(50_000, 90_000));
const owners = ['ada@acme.example', 'grace@acme.example'];
const failing = ['fails-one.example.com', 'fails-two.example.com', 'fails-three.example.com'];
const program = resolve(__dirname, '../bin/sendmux');

/** One whole system with its customers. */
class Deployment {
  /** Answers to valid requests that are neither a success nor retryable. */
  readonly unexpected: string[] = [];
  /** The acknowledged state of each name: the id of the domain, or undefined when it was deleted. */
  readonly acknowledged = new Map<string, string | undefined>();
  readonly deleted: string[] = [];
  answers = 0;
  private stormy = true;

  private constructor(
    readonly transport: 'log' | 'kafka',
    readonly system: System,
    readonly apps: readonly AppName[],
    readonly pool: Pool,
    private readonly customer: Awaited<ReturnType<System['team']>>,
  ) {}

  static async open(transport: 'log' | 'kafka', kafka?: SharedKafka): Promise<Deployment> {
    const apps: AppName[] = [...(kafka ? allAppsOnKafka : allApps), 'sealer'];
    const system = await startSystem({
      apps,
      ...(kafka && { brokers: kafka.brokers }),
      env: {
        AUDIT_SEAL_INTERVAL: '500ms',
        PROVISIONING_DEADLINE: '20s',
        // A deletion has settled when provisioning has looked once more, six of these after it.
        SES_TIMEOUT: '3s',
        VERIFICATION_INTERVAL: '5s',
        RATE_LIMIT_PER_MINUTE: '100000',
      },
    });
    return new Deployment(transport, system, apps, openPool(system.databaseUrl, 4), await system.team({ owners }));
  }

  /** Adds, verifies and deletes domains, and breaks and repairs records, until the storm is over. */
  async live(storm: Promise<void>): Promise<void> {
    void storm.finally(() => (this.stormy = false));
    await Promise.all([
      ...['a', 'b', 'c'].map((customer) => this.addAndDelete(customer)),
      ...failing.map((name) => this.failAndRecover(name)),
    ]);
  }

  /** Waits until everything is done: the task lists are empty, no consumer is behind, and the whole log is sealed. */
  async settle(): Promise<void> {
    let left: unknown;
    const isSettled = async () => (left = await this.unsettled()) === undefined;
    await this.system.until(`${this.transport}: all has settled`, isSettled, 240_000).catch((error: Error) => {
      throw new Error(`${this.transport} has not settled: ${JSON.stringify(left)}\n${error.message}`);
    });
  }

  /** Gives what is left to do; undefined when nothing is. */
  private async unsettled(): Promise<unknown> {
    for (const app of ['provisioning', 'verification-scheduler', 'notifier'] as const) {
      const behind = await this.metric(app, 'sendmux_events_behind');
      if (behind !== 0) return { app, behind };
    }
    const tasks = await this.rows('SELECT * FROM tasks');
    if (tasks.length > 0) return { tasks };
    const [seals] = await this.rows<{ head: number; sealed: number }>(
      `SELECT (SELECT max(position)::float8 FROM events) AS head, (SELECT max(up_to)::float8 FROM audit_seals) AS sealed`,
    );
    return seals?.head === seals?.sealed ? undefined : seals;
  }

  /**
   * Reads rows of the database; repeats the query when its connection is ended, which the last termination of the storm
   * may do a moment after the storm is over.
   */
  async rows<Row extends object>(sql: string, values: unknown[] = []): Promise<Row[]> {
    for (;;)
      try {
        return (await this.pool.query<Row>(sql, values)).rows;
      } catch (error) {
        if (!isPassingFault(error)) throw error;
        await sleep(50);
      }
  }

  async close(): Promise<void> {
    await this.pool.end();
    await this.system.end();
  }

  private async addAndDelete(customer: string): Promise<void> {
    for (let n = 0; this.stormy; n++) {
      const name = `${customer}${n}.example.com`;
      const { id, answer } = await this.add(name);
      await this.system.sandbox.place(answer);
      await this.verify(id);
      if (n % 2 === 0) await this.delete(name, id);
    }
  }

  private async failAndRecover(name: string): Promise<void> {
    const { id, answer } = await this.add(name);
    for (let episode = 1; this.stormy; episode++) {
      await this.system.sandbox.place(answer);
      await this.verify(id);
      await this.system.sandbox.remove(answer);
      await this.system.until(
        `${this.transport}: the owners are told of failure ${episode} of ${name}`,
        async () =>
          (await this.rows('SELECT FROM settled_episodes WHERE episode = $1', [`${id}/${episode}`])).length > 0,
        150_000,
      );
    }
  }

  private async add(name: string): Promise<{ id: string; answer: unknown }> {
    for (let key = randomUUID(); ;) {
      const answer = await this.ask(() => this.customer.api.add(name, { 'idempotency-key': key }));
      if (answer?.status === 201) {
        const { id } = (answer.body as { data: { id: string } }).data;
        this.acknowledged.set(name, id);
        return { id, answer: answer.body };
      }
      // The domain was not provisioned in time and is rolled back, so the next request needs another key.
      if (answer?.status === 504) key = randomUUID();
      this.expectRetryable('add', answer);
      await sleep(200);
    }
  }

  private async verify(id: string): Promise<void> {
    for (;;) {
      const answer = await this.ask(() => this.customer.api.verify(id));
      if ((answer?.body as { data?: { status: string } } | undefined)?.data?.status === 'verified') return;
      if (answer?.status !== 200) this.expectRetryable('verify', answer);
      await sleep(500);
    }
  }

  private async delete(name: string, id: string): Promise<void> {
    for (let asked = 0; ; asked++) {
      const answer = await this.ask(() => this.customer.api.delete(id));
      // An earlier request, whose answer was lost, has deleted the domain.
      if (answer?.status === 200 || (answer?.status === 404 && asked > 0)) break;
      this.expectRetryable('delete', answer);
      await sleep(200);
    }
    this.acknowledged.set(name, undefined);
    this.deleted.push(id);
  }

  private async ask(request: () => Promise<Answer>): Promise<Answer | undefined> {
    this.answers++;
    return request().catch((error: Error) => {
      this.unexpected.push(`no answer: ${error.message}`);
      return undefined;
    });
  }

  private expectRetryable(what: string, answer: Answer | undefined): void {
    const error = (answer?.body as { error?: { code: string; retryable: boolean; message: string } } | undefined)
      ?.error;
    if (!error?.retryable || error.code === 'internal_error')
      this.unexpected.push(`${what}: ${answer?.status} ${JSON.stringify(answer?.body)}`);
  }

  private async metric(app: AppName, name: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${portOf(app, this.system.port)}/metrics`);
    return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(await response.text())?.[1]);
  }
}

/** Milliseconds until a process on a slow machine has seen that its connection was ended, and its mail is dated. */
const slackMs = 3_000;

interface Episode {
  readonly name: string;
  readonly failedAt: number;
  /** The start of the next episode of the domain, or infinity. */
  readonly nextAt: number;
}

/** Reads the failures from the log. */
async function episodesOf(deployment: Deployment): Promise<Episode[]> {
  const failures = await deployment.rows<{ name: string; at: Date }>(
    `SELECT d.name, e.time AS at FROM events e JOIN domains d ON d.id = e.stream
     WHERE e.type = 'VerificationFailed' ORDER BY e.position`,
  );
  return failures.map(({ name, at }, i) => ({
    name,
    failedAt: at.getTime(),
    nextAt:
      failures
        .slice(i + 1)
        .find((later) => later.name === name)
        ?.at.getTime() ?? Infinity,
  }));
}

/** Runs a command as an operator does. */
async function sendmux(deployment: Deployment, ...args: string[]): Promise<{ status: number; said: string }> {
  const child = spawn(program, args, { env: { ...deployment.system.settings }, stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, err, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number]>,
  ]);
  return { status, said: `${out}${err}` };
}

/** The transports of this run; of both, where Java and Maven are installed. */
const transports = variantsOfRun(['log', kafkaIsInstalled() ? 'kafka' : 'log'] as const);

/** Tests the log or a real Kafka; both in one storm in a whole run. */
describe('a storm that ends every connection to PostgreSQL again and again', () => {
  const deployments: Deployment[] = [];
  let storm: BackendStorm;
  /** The processes that had ended when the storm was over. */
  const ended: string[] = [];

  beforeAll(async () => {
    for (const transport of new Set(transports))
      deployments.push(await Deployment.open(transport, transport === 'kafka' ? await sharedKafka() : undefined));
    const urls = deployments.flatMap(({ system }) => [system.databaseUrl, system.mailServerDatabaseUrl]);
    storm = new BackendStorm(process.env.TEST_DATABASE_URL!, urls, Number(process.env.SEED ?? randomInt(1e6)));
    console.log(`seed ${storm.seed}`);
    const raging = storm.run(stormMs);
    const living = Promise.all(deployments.map((deployment) => deployment.live(raging)));
    await Promise.race([living, raging]);
    await raging;
    for (const { transport, apps, system } of deployments)
      for (const app of apps)
        if (!system.runs(app)) ended.push(`${transport}: ${app}: ${system.log(app).trimEnd().split('\n').at(-1)}`);
    // A test that waits for a process that has ended would wait until its time-out.
    if (ended.length > 0) return;
    await living;
    await Promise.all(deployments.map((deployment) => deployment.settle()));
  }, 900_000);

  afterAll(async () => {
    await Promise.all(deployments.map((deployment) => deployment.close()));
  });

  (kafkaIsInstalled() ? it : it.skip)('runs on the transports that the run has chosen', () =>
    expect(deployments.map(({ transport }) => transport)).toEqual([...transports]),
  );

  it('N5: ends no process', () => {
    expect(ended).toEqual([]);
    expect(storm.ends.length).toBeGreaterThan(stormMs / 5_000);
  });

  it('gives customers only answers on which they can act', () => {
    expect(
      deployments.flatMap(({ transport, unexpected }) => unexpected.map((each) => `${transport}: ${each}`)),
    ).toEqual([]);
  });

  it('loses no add or delete that was acknowledged, and leaves nothing half done', async () => {
    for (const deployment of deployments) {
      const { system, acknowledged, deleted } = deployment;
      expect(deleted.length).toBeGreaterThan(0);
      for (const [name, id = null] of acknowledged)
        expect([name, await whoHas(system, name)]).toEqual([name, { mailServer: id, ses: id }]);
      const rows = await deployment.rows<{ id: string; name: string; status: string }>(
        'SELECT id, name, status FROM domains',
      );
      const gone = ['deleted', 'rolled_back'];
      const live = rows.filter(({ status }) => !gone.includes(status));
      expect(live.every(({ status }) => ['pending', 'verified', 'failed'].includes(status))).toBe(true);
      const expected = [...acknowledged].filter(([, id]) => id !== undefined);
      expect(new Map(live.map(({ name, id }) => [name, id]))).toEqual(new Map(expected));
      for (const id of deleted) expect(rows.find((row) => row.id === id)?.status).toBe('deleted');
      expect(await deployment.rows('SELECT consumer_group, message, error FROM parked_messages')).toEqual([]);
    }
  });

  it('mails each episode to each owner once, and at most once more for a termination at that moment', async () => {
    let repeated = 0;
    for (const deployment of deployments) {
      const mails = (await deployment.system.sandbox.mails()).filter(({ subject }) =>
        /no longer verified/.test(subject),
      );
      const episodes = await episodesOf(deployment);
      expect(new Set(episodes.map(({ name }) => name))).toEqual(new Set(failing));
      for (const { name, failedAt, nextAt } of episodes)
        for (const owner of owners) {
          const dates = mails
            .filter(({ to, text }) => to.includes(owner) && text.includes(name))
            .map(({ date }) => Date.parse(date))
            .filter((at) => at >= failedAt && at < nextAt)
            .sort((a, b) => a - b);
          expect([name, owner, dates.length > 0]).toEqual([name, owner, true]);
          for (const [i, at] of dates.slice(1).entries()) {
            const before = dates[i]!;
            if (storm.hasHit(before - slackMs, at)) continue;
            const ends = storm.ends.filter((end) => Math.abs(end - before) < 10_000);
            throw new Error(`Mailed again without a termination: ${JSON.stringify({ name, owner, before, at, ends })}`);
          }
          repeated += dates.length - 1;
        }
      console.log(
        `${deployment.transport}: ${deployment.answers} requests, ${deployment.acknowledged.size} adds, ${deployment.deleted.length} deletes, ${episodes.length} episodes`,
      );
    }
    console.log(`${storm.ends.length} ends of ${storm.broken} connections; ${repeated} mails were sent once more`);
    expect(repeated).toBeLessThanOrEqual(storm.ends.length);
  });

  it('leaves a correct log and correct read models', async () => {
    for (const deployment of deployments)
      for (const args of [
        ['audit', 'verify'],
        ['projections', 'rebuild', 'domains', '--check'],
        ['projections', 'rebuild', 'mailboxes', '--check'],
      ])
        expect(await sendmux(deployment, ...args)).toMatchObject({ status: 0 });
  });
});
