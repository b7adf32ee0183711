import { setTimeout as delay } from 'node:timers/promises';
import { openClient } from '@app/database';
import { DatabaseProxy } from './support/database-proxy';
import { nameObject, staleLists, withSharedLooks, type NameOperation, type Shown } from './support/domain-history';
import { linearize } from './support/linearizability';
import { numbers } from './support/numbers';
import { ApiClient, startSystem, type Answer, type System } from './support/processes';
import { sample } from './support/sample';

const seed = Number(process.env.SEED ?? Date.now() % 100_000);
const forMs = sample(25_000, 300_000);
/** Each name is used for a while by all clients; so the history of one stays short enough to be decided. */
const nameForMs = 5_000;
const namesAtOnce = 3;
/** Milliseconds after which a client waits no more. */
const patienceMs = 8_000;

type Kind = NameOperation['kind'];
type Asked = { readonly name: string; readonly kind: Kind } & Record<string, unknown>;
interface Domain {
  readonly id: string;
  readonly domain: string;
  readonly verification_status: string;
  readonly deleting: boolean;
}

const shownOf = ({ id, verification_status: status, deleting }: Domain): Shown => ({ id, status, deleting });
const codeOf = ({ body }: Answer) => (body as { error?: { code: string } }).error?.code;
/** No gateway has seen it. */
const isRefused = (error: unknown) => (error as { cause?: { code?: string } }).cause?.code === 'ECONNREFUSED';

/** Clients of two teams that all want the same few names, at two gateways, and what they were answered. */
class Clients {
  readonly history: NameOperation[] = [];
  private readonly random = numbers(seed);
  /** The domains that each team has heard of, by name. */
  private readonly heardOf = new Map<string, Map<string, string>>();
  private readonly begunAt = performance.now();

  constructor(
    private readonly system: System,
    private readonly doors: readonly number[],
  ) {}

  names(): string[] {
    const turn = Math.floor((performance.now() - this.begunAt) / nameForMs);
    return Array.from({ length: namesAtOnce }, (_, i) => `h${turn}-${i}.acme.com`);
  }

  async live(client: number, team: string, key: string, until: number): Promise<void> {
    while (performance.now() < until) {
      await this.act(client, team, key);
      await delay(this.random() * 150);
    }
  }

  /** Asks for all domains of a team, and keeps what it shows of some names. */
  async list(client: number, team: string, key: string, names: readonly string[]): Promise<void> {
    const invokedAt = performance.now();
    const answer = await this.answered(this.api(key).list('?limit=100'));
    if (answer?.status !== 200) return;
    const answeredAt = performance.now();
    const { data, pagination } = answer.body as { data: Domain[]; pagination: { has_more: boolean } };
    for (const name of names) {
      const found = data.find(({ domain }) => domain === name);
      if (!found && pagination.has_more) continue;
      if (found) this.heard(team).set(name, found.id);
      this.history.push({
        kind: 'list',
        name,
        client,
        team,
        invokedAt,
        answeredAt,
        answer: found ? shownOf(found) : 'absent',
      });
    }
  }

  private async act(client: number, team: string, key: string): Promise<void> {
    const names = this.names();
    const name = names[Math.floor(this.random() * names.length)]!;
    const id = this.heard(team).get(name);
    const chance = this.random();
    if (chance < 0.2) return this.list(client, team, key, names);
    if (id === undefined || chance < 0.4) return this.add(client, team, key, name);
    if (chance < 0.6) {
      const get = this.api(key).get(id);
      await this.keep({ kind: 'get', name, id }, client, team, get, ({ status, body }) =>
        status === 200 ? shownOf((body as { data: Domain }).data) : status === 404 ? 'absent' : undefined,
      );
    } else if (chance < 0.8) await this.verify(client, team, key, name, id);
    else
      await this.keep({ kind: 'delete', name, id }, client, team, this.api(key).delete(id), ({ status }) =>
        status === 200 ? 'deleted' : status === 404 ? 'absent' : 'unknown',
      );
  }

  private async add(client: number, team: string, key: string, name: string): Promise<void> {
    const answer = await this.keep({ kind: 'add', name }, client, team, this.api(key).add(name), (answer) => {
      const { status } = answer;
      if (status === 201) return { id: (answer.body as { data: Domain }).data.id };
      if (status === 409 && codeOf(answer) === 'conflict') return 'held';
      return status === 502 || status === 504 ? 'failed' : 'unknown';
    });
    if (answer?.status !== 201) return;
    const { id } = (answer.body as { data: Domain }).data;
    this.heard(team).set(name, id);
    const invokedAt = performance.now();
    await this.system.sandbox.place(answer.body);
    this.history.push({ kind: 'place', name, client, team, id, invokedAt, answeredAt: performance.now() });
    await this.verify(client, team, key, name, id);
  }

  private async verify(client: number, team: string, key: string, name: string, id: string): Promise<void> {
    await this.keep({ kind: 'verify', name, id }, client, team, this.api(key).verify(id), ({ status, body }) => {
      if (status === 200) return { status: (body as { data: { status: string } }).data.status };
      return status === 404 ? 'absent' : status === 409 ? 'deleting' : 'unknown';
    });
  }

  /** Keeps an operation with its times; a read that was not answered says nothing. */
  private async keep(
    asked: Asked,
    client: number,
    team: string,
    asking: Promise<Answer>,
    read: (answer: Answer) => unknown,
  ): Promise<Answer | undefined> {
    const invokedAt = performance.now();
    let isUnseen = false;
    const answer = await this.answered(asking, (error) => (isUnseen = isRefused(error)));
    const said = answer ? read(answer) : asked.kind === 'get' ? undefined : 'unknown';
    if (said === undefined || isUnseen) return answer;
    const answeredAt = said === 'unknown' ? Infinity : performance.now();
    this.history.push({ ...asked, client, team, invokedAt, answeredAt, answer: said } as unknown as NameOperation);
    return answer;
  }

  /** Waits for an answer for as long as a client does. */
  private async answered(asking: Promise<Answer>, onError = (_: unknown): unknown => undefined) {
    const late = delay(patienceMs, undefined, { ref: false });
    return Promise.race([asking.catch((error: unknown) => void onError(error)), late]).then(
      (answer) => answer ?? undefined,
    );
  }

  private api(key: string): ApiClient {
    const door = this.doors[Math.floor(this.random() * this.doors.length)]!;
    return new ApiClient(`http://127.0.0.1:${door}/api/v1`, key);
  }

  private heard(team: string): Map<string, string> {
    const known = this.heardOf.get(team) ?? new Map<string, string>();
    this.heardOf.set(team, known);
    return known;
  }
}

describe('while gateways die and connections to the database break', () => {
  let system: System;
  let proxy: DatabaseProxy;
  let doors: number[];

  beforeAll(async () => {
    system = await startSystem({
      apps: ['sandbox', 'gateway', 'provisioning'],
      env: { SES_CALLS_PER_SECOND: '10000', RATE_LIMIT_PER_MINUTE: '1000000', PROVISIONING_DEADLINE: '10s' },
    });
    proxy = await DatabaseProxy.open(system.databaseUrl);
    doors = [system.port, await system.another('gateway', { DATABASE_URL: proxy.url })];
  });
  afterAll(async () => {
    await system?.end();
    proxy?.away();
  });

  it('what clients are answered about each name is linearizable, and no list is older than an answer', async () => {
    const clients = new Clients(system, doors);
    const teams = [await system.team({ name: 'First' }), await system.team({ name: 'Second' })];
    const until = performance.now() + forMs;
    const faults = { kills: 0, cuts: 0, ends: 0 };
    const next = numbers(seed + 1);
    const break_ = async () => {
      for (let turn = 0; performance.now() < until - 3_000; turn++) {
        await delay(300 + next() * 1_500);
        if (turn % 3 === 0) {
          await system.kill('gateway');
          faults.kills += 1;
          await system.start('gateway');
        } else if (turn % 3 === 1) {
          proxy.away();
          faults.cuts += 1;
          await delay(next() * 1_000);
          await proxy.back();
        } else {
          await endSessions(system.databaseUrl);
          faults.ends += 1;
        }
      }
    };
    const asking = [0, 0, 0, 1, 1, 1].map((team, client) =>
      clients.live(client, teams[team]!.id, teams[team]!.key, until),
    );
    await Promise.all([break_(), ...asking]);

    const { history } = clients;
    const names = [...new Set(history.map(({ name }) => name))];
    // What had no answer may be done by now, and is seen.
    await delay(1_000);
    for (const { id, key } of teams) await clients.list(9, id, key, names);
    const counts = new Map<string, number>();
    for (const op of history) {
      const answer = 'answer' in op ? (typeof op.answer === 'object' ? 'done' : op.answer) : 'done';
      counts.set(`${op.kind} ${answer}`, (counts.get(`${op.kind} ${answer}`) ?? 0) + 1);
    }
    let most = 0;
    const wrong: object[] = [];
    for (const name of names) {
      const own = withSharedLooks(history.filter((op) => op.name === name));
      const { is, configurations, stuck } = linearize(own, nameObject(own));
      most = Math.max(most, configurations);
      if (is !== 'linearizable') wrong.push({ name, is, stuck, own });
    }
    console.log(
      `${history.length} operations on ${names.length} names, seed ${seed}, at most ${most} configurations: ` +
        JSON.stringify({ ...faults, ...Object.fromEntries([...counts].sort()) }),
    );
    expect({ seed, wrong }).toEqual({ seed, wrong: [] });
    expect(staleLists(history)).toEqual([]);
    // Without faults, and without clients that meet, nothing would be shown.
    for (const each of Object.values(faults)) expect(each).toBeGreaterThan(0);
    for (const what of [
      'add done',
      'add held',
      'add unknown',
      'list done',
      'get absent',
      'verify done',
      'delete deleted',
    ])
      expect(`${what} ${(counts.get(what) ?? 0) > 0}`).toBe(`${what} true`);
  });
});

/** Ends every session in a database, as its server could. */
async function endSessions(url: string): Promise<void> {
  const client = await openClient({ connectionString: url });
  await client.query(
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
  );
  await client.end();
}
