import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { slotOf } from '@app/cycle';
import { MoveIdentity } from '@app/mail-domain';
import type { Observed } from '../support/invariants';
import { until } from './until';
import type { World } from './world';

interface Answer {
  readonly status: number;
  readonly body: unknown;
}
interface Shown {
  readonly id: string;
  readonly verification_status: string;
  readonly status: string;
  readonly domain_id?: string;
}
const dataOf = ({ body }: Answer): Shown => (body as { data: Shown }).data;

/** A client that asks again, in the same words, until it has an answer that says what has become of its request. */
class Client {
  constructor(
    private readonly world: World,
    readonly team: string,
    private readonly key: string,
  ) {}

  async call(method: string, path: string, body?: object): Promise<Answer> {
    const idempotencyKey = method === 'POST' ? { 'idempotency-key': randomUUID() } : {};
    return until(`${method} ${path} is answered`, async () => {
      const answer = await this.once(method, path, body, idempotencyKey).catch(() => undefined);
      if (!answer || answer.status === 500 || isRunning(answer)) return undefined;
      return answer.status !== 503 || isRolledBack(answer) ? answer : undefined;
    });
  }

  private async once(method: string, path: string, body: object | undefined, headers: object): Promise<Answer> {
    const response = await fetch(`${await this.world.api()}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.key}`, ...(body && { 'content-type': 'application/json' }), ...headers },
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(20_000),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : (JSON.parse(text) as unknown) };
  }
}

/** Whether an answer says that an earlier request with the same key is still being worked on. */
const isRunning = ({ status, body }: Answer): boolean =>
  status === 409 && (body as { error: { code: string } }).error.code === 'idempotency_conflict';

/** Whether an answer says that SES has refused what we ask of it for the domain. */
const isRolledBack = ({ status, body }: Answer): boolean =>
  status === 503 &&
  (body as { error: { errors?: { code: string }[] } }).error.errors?.some(({ code }) => code === 'ses_unavailable') ===
    true;

/** One scenario on a world: a domain name and teams of its own. */
export class Stage {
  readonly acknowledged: Observed['acknowledged'][number][] = [];
  /** Whether SES refuses the domain. */
  isRefused = false;
  readonly name = `${randomUUID().slice(0, 13)}.example.com`;

  constructor(readonly world: World) {}

  async team(): Promise<Client> {
    const { accounts } = this.world;
    const { id } = await accounts.createTeam('Acme', [`owner-${randomUUID().slice(0, 8)}@owners.example`]);
    const { key } = await accounts.createKey(id, { role: 'root:full' });
    await this.world.addWebhook(id);
    return new Client(this.world, id, key);
  }

  /** Adds the domain, anew where it was rolled back, and gives its id. */
  async add(client: Client): Promise<string> {
    return until(`${this.name} is added`, async () => {
      const answer = await client.call('POST', '/domains', { domain: this.name });
      if (answer.status === 201) {
        const { id } = dataOf(answer);
        this.acknowledged.push({ domain: id, type: 'DomainProvisioned' });
        return id;
      }
      if (!(await this.isGivenUp(answer))) throw unexpected('POST /domains', answer);
      return undefined;
    });
  }

  /** Whether an answer says that the domain was not added in time, or that what is left of that is being removed. */
  async isGivenUp({ status }: Answer): Promise<boolean> {
    if (status !== 409) return status === 504;
    const { rowCount } = await this.world.pool.query(
      `SELECT FROM events added JOIN events failed ON failed.stream = added.stream AND failed.type = 'ProvisioningFailed'
       WHERE added.type = 'DomainAdded' AND added.data ->> 'name' = $1`,
      [this.name],
    );
    return rowCount! > 0;
  }

  async place(client: Client, id: string): Promise<void> {
    await this.world.sandbox.place((await client.call('GET', `/domains/${id}`)).body);
  }

  async verified(client: Client, id: string): Promise<void> {
    await until(`${this.name} is verified`, async () => {
      const answer = await client.call('POST', `/domains/${id}/verify`);
      if (answer.status !== 200) throw unexpected('verify', answer);
      if (dataOf(answer).status !== 'verified') return false;
      this.acknowledged.push({ domain: id, type: 'DomainVerified' });
      return true;
    });
  }

  async has(id: string, type: string): Promise<boolean> {
    const sql = 'SELECT FROM events WHERE stream = $1 AND type = $2';
    return (await this.world.pool.query(sql, [id, type])).rowCount! > 0;
  }

  async happened(id: string, type: string): Promise<void> {
    await until(`${type} of ${this.name}`, () => this.has(id, type));
  }
}

const unexpected = (what: string, { status, body }: Answer): Error =>
  new Error(`${what} was answered with ${status}: ${JSON.stringify(body)}`);

/** A part of the life of a domain: what is there before, and what is done while something breaks. */
type Scenario = (stage: Stage) => Promise<() => Promise<void>>;

export const scenarios = {
  // What happens in it, happens at all times.
  rest: () => Promise.resolve(() => delay(2_500)),

  add: async (stage) => {
    const client = await stage.team();
    return async () => void (await stage.add(client));
  },

  'roll-back': async (stage) => {
    const client = await stage.team();
    stage.isRefused = true;
    // It is the last step: both the mail server and SES have the domain by then. What is refused is ours, not the name.
    const operations = ['PutEmailIdentityMailFromAttributes'];
    await stage.world.sandbox.fault('ses', { mode: 'refuse', operations, name: stage.name });
    return async () => {
      await until(`${stage.name} is refused`, async () => {
        const answer = await client.call('POST', '/domains', { domain: stage.name });
        if (!isRolledBack(answer) && !(await stage.isGivenUp(answer))) throw unexpected('POST /domains', answer);
        return isRolledBack(answer);
      });
    };
  },

  verify: async (stage) => {
    const client = await stage.team();
    const id = await stage.add(client);
    await stage.place(client, id);
    return () => stage.verified(client, id);
  },

  'fail-and-tell': async (stage) => {
    const client = await stage.team();
    const id = await stage.add(client);
    await stage.place(client, id);
    await stage.verified(client, id);
    await stage.world.sandbox.remove((await client.call('GET', `/domains/${id}`)).body);
    return async () => {
      // A look that no answer decides changes nothing, and the next cycle looks again.
      for (const type of ['VerificationLapsed', 'VerificationFailed'])
        await until(`${type} of ${stage.name}`, async () => {
          await stage.world.passCycle(slotOf(id));
          return stage.has(id, type);
        });
      await stage.happened(id, 'OwnersTold');
    };
  },

  repair: async (stage) => {
    const client = await stage.team();
    const id = await stage.add(client);
    await stage.place(client, id);
    await stage.verified(client, id);
    stage.world.loseIdentity(stage.name);
    return async () => {
      await until('the repair is asked for', async () => {
        await client.call('POST', `/domains/${id}/verify`);
        return stage.has(id, 'IdentityRepairRequested');
      });
      await stage.happened(id, 'IdentityRepaired');
    };
  },

  claim: async (stage) => {
    const holder = await stage.team();
    const claimant = await stage.team();
    await stage.add(holder);
    await stage.world.sandbox.set(`_sendmux.${stage.name}`, 'TXT', [`sendmux-verify=${claimant.team}`]);
    return async () => {
      const opened = await claimant.call('POST', '/domains/claims', { domain: stage.name });
      if (opened.status !== 201) throw unexpected('POST /domains/claims', opened);
      const { id } = dataOf(opened);
      const won = await until('the claim succeeds', async () => {
        const answer = await claimant.call('POST', `/domains/claims/${id}/verify`);
        // It has succeeded by a request whose answer was lost.
        const now = answer.status === 409 ? await claimant.call('GET', `/domains/claims/${id}`) : answer;
        if (now.status !== 200) throw unexpected('the verification of a claim', now);
        return dataOf(now).domain_id;
      });
      stage.acknowledged.push({ domain: won, type: 'DomainAdded' });
      // The winner may be rolled back at its deadline, as every add.
      await until('the winner is provisioned, or not', async () => {
        return (await stage.has(won, 'DomainProvisioned')) || stage.has(won, 'ProvisioningRolledBack');
      });
    };
  },

  move: async (stage) => {
    const client = await stage.team();
    const id = await stage.add(client);
    await stage.place(client, id);
    await stage.verified(client, id);
    const sql = `SELECT data ->> 'sesShard' AS shard FROM events WHERE stream = $1 AND type = 'DomainAdded'`;
    const { rows } = await stage.world.pool.query<{ shard: string }>(sql, [id]);
    const from = rows[0]!.shard;
    const to = from === 'default' ? 'us-1' : 'default';
    return async () => {
      const context = { at: new Date().toISOString(), actor: 'operator', correlationId: randomUUID() };
      await stage.world.commands.execute(new MoveIdentity(id, { from, to }, context));
      await stage.happened(id, 'IdentityMovePrepared');
      await stage.place(client, id);
      await stage.happened(id, 'IdentityMoveCompleted');
    };
  },

  delete: async (stage) => {
    const client = await stage.team();
    const id = await stage.add(client);
    return async () => {
      const answer = await client.call('DELETE', `/domains/${id}`);
      if (answer.status === 200) stage.acknowledged.push({ domain: id, type: 'DomainDeleted' });
      else if (answer.status !== 404) throw unexpected('DELETE', answer);
      await stage.happened(id, 'DomainDeleted');
    };
  },
} as const satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof scenarios;
/** The scenarios in which something is done. */
export const scenarioNames = (Object.keys(scenarios) as ScenarioName[]).filter((name) => name !== 'rest');
