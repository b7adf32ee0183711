/** What customers do all the time: each lives on, one thing after another, so that what lives stays about as many. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Observed } from '../support/invariants';
import { numbers } from '../support/numbers';
import type { System } from '../support/processes';
import type { MoodyEndpoints } from './endpoints';

interface Answer {
  readonly status: number;
  readonly body: {
    readonly data?: Readonly<Record<string, unknown>> & { readonly id?: string };
    readonly error?: { readonly code: string };
  };
  readonly headers: Headers;
}

/** A team of customers, with its endpoint that is kept. */
interface Team {
  readonly id: string;
  readonly key: string;
  /** The end of the work of whoever holds what only one of the team may do at a time. */
  turn: Promise<unknown>;
}

/** Milliseconds for which a request is repeated until its answer says what has become of it. */
const patienceMs = 120_000;
/** Milliseconds that a customer thinks before a request, at most. */
const thinksMs = 3_500;
/** Answers after which the same request is sent again. */
const isToRepeat = ({ status, body }: Answer): boolean =>
  status === 503 || status === 429 || (status === 409 && body.error?.code === 'idempotency_conflict');

/** Leaves out the headers that are not to be sent. */
const definedOf = (headers: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));

/** A life that has ended early, as lives do while faults are made: its name was rolled back, or is another one's. */
class LifeOver extends Error {}

export class Load {
  /** What was answered, by operation and status. */
  readonly answers = new Map<string, number>();
  /** What no customer should see. */
  readonly faults: string[] = [];
  readonly acknowledged: Observed['acknowledged'][number][] = [];
  readonly lives = new Map<string, number>();
  requests = 0;
  private readonly teams: Team[] = [];
  private readonly running: Promise<void>[] = [];
  private isEnding = false;
  private names = 0;

  constructor(
    private readonly system: System,
    private readonly endpoints: MoodyEndpoints,
    private readonly seed: number,
  ) {}

  /** Makes the teams, each with a webhook that stays. */
  async prepare(teams: number): Promise<void> {
    for (let i = 0; i < teams; i++) {
      const owners = [`ada${i}@owners.example`, ...(i === 0 ? [`eve${i}@owners.example`] : [])];
      const { id, key } = await this.system.team({ name: `Team ${i}`, owners });
      const team = { id, key, turn: Promise.resolve() };
      this.teams.push(team);
      const name = `kept-${i}`;
      const answer = await this.ask(team, 'POST', '/webhooks', { url: this.endpoints.url(name) });
      const { id: webhook, secret } = answer.body.data as { id: string; secret: string };
      this.endpoints.keep(name, secret);
      this.kept.set(webhook, name);
    }
  }

  /** The name of the endpoint of each webhook that is kept, by the id of the webhook. */
  readonly kept = new Map<string, string>();

  begin(customers: number): void {
    for (let i = 0; i < customers; i++) this.running.push(this.customer(i));
  }

  /** Lets each customer come to the end of what it does. */
  async end(): Promise<void> {
    this.isEnding = true;
    await Promise.all(this.running);
  }

  private async customer(number: number): Promise<void> {
    const random = numbers(1_000 * this.seed + number);
    while (!this.isEnding) {
      const team = this.teams[Math.floor(random() * this.teams.length)]!;
      const sum = kinds.reduce((total, [weight]) => total + weight, 0);
      let at = random() * sum;
      const [, kind] = kinds.find(([weight]) => (at -= weight) < 0)!;
      const customer = new Customer(this, team, random, `${kind}-${this.seed}-${this.names++}.example.com`);
      try {
        await customer[kind]();
        this.count(this.lives, kind);
      } catch (error) {
        if (error instanceof LifeOver) this.count(this.lives, `${kind}, which ended early`);
        else this.faults.push(`${customer.name}: ${(error as Error).message}`);
      }
      await customer.leave().catch((error: Error) => this.faults.push(`${customer.name} stays: ${error.message}`));
    }
  }

  /** Sends a request until it has an answer that says what has become of it. */
  async ask(team: Team, method: string, path: string, body?: object, headers: object = {}): Promise<Answer> {
    const key = method === 'POST' ? { 'idempotency-key': randomUUID() } : {};
    let last = 'nothing';
    for (const giveUpAt = performance.now() + patienceMs; performance.now() < giveUpAt; await delay(500)) {
      try {
        const answer = await this.once(team, method, path, body, { ...key, ...headers });
        this.requests += 1;
        const operation = `${method} ${path.replace(/\/(mdom|mbx|whk|claim|wdlv|rpl|key)_[^/?]+|\?.*|\/[^/]+@.*/g, '/…')}`;
        this.count(this.answers, `${operation} ${answer.status} ${answer.body.error?.code ?? ''}`.trim());
        if (!isToRepeat(answer)) {
          if (answer.status >= 500 && ![502, 504].includes(answer.status))
            this.faults.push(`${operation}: ${answer.status} ${JSON.stringify(answer.body)}`);
          return answer;
        }
        last = `${answer.status} ${answer.body.error?.code}`;
      } catch (error) {
        // The gateway is away, paused, or ended while it answered.
        last = (error as Error).message;
      }
    }
    throw new Error(`${method} ${path} was not answered within ${patienceMs} ms: ${last}`);
  }

  private async once({ key }: Team, method: string, path: string, body: object | undefined, headers: object) {
    const response = await fetch(`${this.origin}/api/v1${path}`, {
      method,
      headers: definedOf({
        authorization: `Bearer ${key}`,
        ...(body && { 'content-type': 'application/json' }),
        ...headers,
      }),
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(45_000),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json');
    return {
      status: response.status,
      headers: response.headers,
      body: (isJson ? JSON.parse(text) : {}) as Answer['body'],
    };
  }

  /** Sends a request and hangs up before its answer, as a client that is closed does. */
  async hangUp({ key }: Team, method: string, path: string, body: object, headers: object, afterMs: number) {
    await fetch(`${this.origin}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(Math.max(1, Math.round(afterMs))),
    }).catch(() => undefined);
  }

  get sandbox() {
    return this.system.sandbox;
  }

  /** Where the pages of the console come from. */
  get origin(): string {
    return `http://127.0.0.1:${this.system.port}`;
  }

  get ends(): boolean {
    return this.isEnding;
  }

  get others(): readonly Team[] {
    return this.teams;
  }

  endpoint(name: string): string {
    return this.endpoints.url(name);
  }

  private count(where: Map<string, number>, what: string): void {
    where.set(what, (where.get(what) ?? 0) + 1);
  }
}

/** One life of one domain, or of what else a team has. */
class Customer {
  /** What is still there, in the order in which it has to go. */
  private readonly left: (() => Promise<unknown>)[] = [];

  constructor(
    private readonly load: Load,
    private readonly team: Team,
    private readonly random: () => number,
    readonly name: string,
  ) {}

  /** Removes what this life has left. */
  async leave(): Promise<void> {
    for (const remove of this.left.reverse()) await remove();
    await this.load.sandbox.removeName(this.name);
  }

  /** A domain that is verified, has mailboxes, and is deleted. */
  async settled(): Promise<void> {
    const id = await this.verified(this.random() < 0.2 ? { mode: 'send_only' } : {});
    await this.expect(200, 'GET', '/domains?limit=20');
    await this.expect(200, 'GET', `/domains/${id}/history`);
    await this.expect(200, 'GET', `/domains/${id}/zone-file`);
    const { data } = (await this.expect(200, 'GET', `/domains/${id}`)).body;
    if (data!.mode === 'send_only') {
      await this.expect(200, 'PATCH', `/domains/${id}`, { mode: 'send_receive' });
      await this.place(id);
      await this.verify(id);
    }
    const address = `ada@${this.name}`;
    const mailbox = await this.create('/mailboxes', { address }, '/mailboxes');
    await this.expect(200, 'PATCH', `/mailboxes/${mailbox}`, { display_name: 'Ada' });
    await this.expect(200, 'PUT', `/domains/${id}/filters`, {
      mode: 'denylist',
      rules: [{ type: 'deny', pattern: 'spam.example' }],
    });
    await this.expect(200, 'POST', `/mailboxes/${mailbox}/suspend`);
    await this.expect(200, 'POST', `/mailboxes/${mailbox}/resume`);
    await this.expect(409, 'POST', '/mailboxes', { address });
    await this.expect(200, 'GET', '/mailboxes');
  }

  /** A domain that fails, is told of, and is mended. */
  async failing(): Promise<void> {
    const id = await this.verified();
    await this.alone(async () => {
      await this.load.sandbox.set(this.name, 'MX', []);
      await this.until(() => this.statusIs(id, 'failed'), 240_000);
      await this.place(id);
      await this.verify(id);
    });
  }

  /** A domain whose identity is lost in SES, and made anew. */
  async repaired(): Promise<void> {
    const id = await this.verified();
    await this.alone(async () => {
      await this.load.sandbox.loseIdentity(this.name).catch(() => undefined);
      await this.until(async () => {
        await this.ask('POST', `/domains/${id}/verify`);
        await this.place(id);
        return this.statusIs(id, 'verified');
      });
    });
    await this.expect(200, 'GET', `/domains/${id}/dns-plan`);
  }

  /** A name that another team claims, and gets. */
  async claimed(): Promise<void> {
    const claimant = this.load.others.find(({ id }) => id !== this.team.id)!;
    if (this.random() < 0.5) await this.verified();
    else await this.added();
    await this.alone(() => this.lostTo(claimant));
  }

  private async lostTo(claimant: Team): Promise<void> {
    await this.load.sandbox.set(`_sendmux.${this.name}`, 'TXT', [`sendmux-verify=${claimant.id}`]);
    const opened = await this.load.ask(claimant, 'POST', '/domains/claims', { domain: this.name });
    if (opened.status !== 201) throw new Error(`the claim: ${opened.status} ${JSON.stringify(opened.body)}`);
    const { id: claim } = opened.body.data!;
    this.left.push(() => this.load.ask(claimant, 'DELETE', `/domains/claims/${claim}`));
    let won = '';
    await this.until(async () => {
      const verified = await this.load.ask(claimant, 'POST', `/domains/claims/${claim}/verify`);
      const now = verified.status === 409 ? await this.load.ask(claimant, 'GET', `/domains/claims/${claim}`) : verified;
      won = (now.body.data?.domain_id as string | undefined) ?? '';
      return won !== '';
    });
    this.load.acknowledged.push({ domain: won, type: 'DomainAdded' });
    this.left.push(() => this.remove(won, claimant));
  }

  /** A domain that is never verified: somebody is mailed how, and it expires. */
  async forgotten(): Promise<void> {
    const id = await this.added();
    await this.ask('POST', `/domains/${id}/setup-instructions`, { email: `dns@${this.name}` });
    await this.expect(201, 'POST', `/domains/${id}/setup-link`, { expires_in_days: 1 });
    await this.until(async () => this.load.ends || (await this.ask('GET', `/domains/${id}`)).status === 404, 400_000);
  }

  /** A webhook that is tried, turned off and on, and deleted. */
  async told(): Promise<void> {
    const id = await this.create('/webhooks', { url: this.load.endpoint('passing') }, '/webhooks');
    await this.expect(200, 'POST', `/webhooks/${id}/test`);
    await this.expect(200, 'POST', `/webhooks/${id}/rotate-secret`, { overlap_seconds: 30 });
    await this.expect(200, 'PATCH', `/webhooks/${id}`, { enabled: false });
    await this.expect(200, 'PATCH', `/webhooks/${id}`, { enabled: true, description: this.name });
    const from = new Date(Date.now() - 20_000).toISOString();
    const replay = await this.ask('POST', `/webhooks/${id}/replay`, { from });
    if (replay.status === 201) await this.ask('POST', `/webhooks/${id}/replays/${replay.body.data!.id}/stop`);
    const list = await this.expect(200, 'GET', `/webhooks/${id}/deliveries`);
    const [first] = list.body.data as unknown as { id: string }[];
    if (!first) return;
    // It may have become old meanwhile, and have another id.
    await this.ask('GET', `/webhooks/${id}/deliveries/${first.id}/payload`);
    await this.ask('POST', `/webhooks/${id}/deliveries/${first.id}/redeliver`);
  }

  /** Whoever manages the account: sessions, keys, invitations. */
  async managed(): Promise<void> {
    await this.expect(200, 'GET', '/me');
    const session = await this.ask('POST', '/session', { api_key: this.team.key });
    const cookie = session.headers.get('set-cookie')?.split(';')[0] ?? '';
    if (session.status === 201 && this.random() < 0.5)
      await this.expect(200, 'DELETE', '/session', undefined, {
        cookie,
        origin: this.load.origin,
        authorization: undefined,
      });
    await this.ask('POST', '/owners/invitations', { email: `invited@${this.name}` });
    if (this.random() < 0.5) await this.ask('DELETE', `/owners/invitations/invited@${this.name}`);
    const key = await this.ask('POST', '/keys', { name: 'soak', permissions: ['domain.read'] });
    if (key.status === 201) this.left.push(() => this.ask('DELETE', `/keys/${key.body.data!.id}`));
    await this.expect(200, 'POST', '/domains/preflight', { domain: this.name });
  }

  private async added(more: object = {}): Promise<string> {
    const body = { domain: this.name, ...more };
    const key = { 'idempotency-key': randomUUID() };
    await this.think();
    if (this.random() < 0.15) await this.load.hangUp(this.team, 'POST', '/domains', body, key, 80 * this.random());
    let answer = await this.load.ask(this.team, 'POST', '/domains', body, key);
    // An add at its deadline is rolled back, and its name is free again.
    for (let tries = 0; [409, 502, 504].includes(answer.status); tries++) {
      if (tries > 20) throw new LifeOver();
      await delay(2_000);
      answer = await this.load.ask(this.team, 'POST', '/domains', body);
    }
    if (answer.status !== 201) throw new Error(`POST /domains: ${answer.status} ${JSON.stringify(answer.body)}`);
    const id = answer.body.data!.id!;
    this.load.acknowledged.push({ domain: id, type: 'DomainProvisioned' });
    this.left.push(() => this.remove(id, this.team));
    return id;
  }

  private async verified(more: object = {}): Promise<string> {
    const id = await this.added(more);
    await this.place(id);
    await this.verify(id);
    this.load.acknowledged.push({ domain: id, type: 'DomainVerified' });
    return id;
  }

  private async verify(id: string): Promise<void> {
    await this.until(async () => {
      const { body } = await this.ask('POST', `/domains/${id}/verify`);
      return body.data?.status === 'verified';
    });
  }

  private async place(id: string): Promise<void> {
    const { status, body } = await this.ask('GET', `/domains/${id}`);
    if (status === 200) await this.load.sandbox.place(body);
  }

  private async statusIs(id: string, wanted: string): Promise<boolean> {
    return (await this.ask('GET', `/domains/${id}`)).body.data?.verification_status === wanted;
  }

  private async create(path: string, body: object, collection: string): Promise<string> {
    const key = { 'idempotency-key': randomUUID() };
    const answer = await this.expect(201, 'POST', path, body, key);
    const again = await this.load.ask(this.team, 'POST', path, body, key);
    const { id } = answer.body.data!;
    if (again.body.data?.id !== id)
      throw new Error(`POST ${path} again: ${again.status} ${JSON.stringify(again.body)}`);
    this.left.push(() => this.load.ask(this.team, 'DELETE', `${collection}/${id}`));
    return id!;
  }

  /** Deletes a domain, whose deletion goes on by itself where a request does not wait for it. */
  private async remove(id: string, team: Team): Promise<void> {
    const { status, body } = await this.load.ask(team, 'DELETE', `/domains/${id}`);
    if (status === 200) this.load.acknowledged.push({ domain: id, type: 'DomainDeleted' });
    else if (status !== 404) throw new Error(`DELETE /domains: ${status} ${JSON.stringify(body)}`);
  }

  private async expect(status: number, ...request: Parameters<Customer['ask']>): Promise<Answer> {
    const answer = await this.ask(...request);
    if (answer.status === status) return answer;
    throw new Error(`${request[0]} ${request[1]}: ${answer.status} ${JSON.stringify(answer.body)}, and not ${status}`);
  }

  private async ask(method: string, path: string, body?: object, headers?: object): Promise<Answer> {
    await this.think();
    return this.load.ask(this.team, method, path, body, headers);
  }

  private think = () => delay(this.load.ends ? 50 : this.random() * thinksMs);

  private async until(probe: () => Promise<boolean>, withinMs = patienceMs): Promise<void> {
    for (const giveUpAt = performance.now() + withinMs; !(await probe()); await delay(1_000))
      if (performance.now() > giveUpAt) throw new Error(`not within ${withinMs} ms`);
  }

  /**
   * Does what may make a domain fail, after all that the team does of that. Domains that fail together are told of in
   * one mail, and the invariant is about mails of one.
   */
  private async alone(work: () => Promise<void>): Promise<void> {
    const mine = this.team.turn.then(work);
    this.team.turn = mine.catch(() => undefined);
    await mine;
  }
}

/** The kinds of lives, each with how often it is taken. */
const kinds = [
  [8, 'settled'],
  [2, 'failing'],
  [2, 'repaired'],
  [3, 'claimed'],
  [1, 'forgotten'],
  [3, 'told'],
  [2, 'managed'],
] as const satisfies readonly (readonly [number, keyof Customer])[];
