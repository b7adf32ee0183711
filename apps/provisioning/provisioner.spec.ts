import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { DomainCommandHandler, MailboxCommandHandler, type Commands } from '@app/commands';
import { WrongExpectedVersion, type Append, type EventStore, type RecordedEvent } from '@app/event-store';
import {
  AddDomain,
  CancelIdentityMove,
  MoveIdentity,
  ReleaseDomain,
  RequestDeletion,
  RequestIdentityRepair,
  type DomainCommand,
  type MailDomain,
  type IdentityFault,
} from '@app/mail-domain';
import { CreateMailbox } from '@app/mailbox';
import { MailServerDenied, type MailServer } from '@app/mail-server';
import { commandsTo } from '../../test/support/commands';
import { adoptedTag, SesDenied, SesRefused, SesUnavailable, type Call, type SesIdentity } from '@app/ses';
import type { SesWriter } from '@app/ses-writer';
import { Provisioner, ProvisioningTimes, type Convergence } from './provisioner';
import { concurrency, ShardPlaces } from './shard-places';
import { oneKey } from '../../test/support/mailbox-keys';

type SesTrouble =
  | 'refuses'
  | 'denies'
  | 'refuses MAIL FROM'
  | 'denies MAIL FROM'
  | 'denies tenants'
  | 'hangs'
  | 'does not answer'
  | 'deletes late';

const never = new Promise<never>(() => undefined);

/**
 * Keeps the mail server, SES and the event store in memory. Each effect has two points: just before it, and just after
 * it, before the process has its answer. The process dies at point `crashAt`: what it did stays, and it has no effect
 * from then on.
 */
class World {
  readonly mail = new Map<string, string>();
  readonly ses = new Map<string, string | null>();
  readonly streams = new Map<string, RecordedEvent[]>();
  readonly trouble: { ses?: SesTrouble; mail?: 'down' | 'denies' } = {};
  /** Requests that SES has received but not answered: they may take effect later. */
  readonly late: (() => void)[] = [];
  /** Runs while a request to create an identity is under way. */
  onCreate: () => Promise<void> = () => Promise.resolve();
  /** Those of the calls of SES. */
  readonly priorities = new Set<string>();
  points = 0;
  crashAt = 0;
  moveGraceMs = 0;
  private alive = 0;
  private died: () => void = () => undefined;

  private async effect<T>(act: () => T): Promise<T> {
    if (++this.points === this.crashAt) return this.die();
    const result = act();
    if (++this.points === this.crashAt) return this.die();
    return Promise.resolve(result);
  }

  private die(): Promise<never> {
    this.alive++;
    this.died();
    return never;
  }

  /** Wraps an adapter so that the calls of a dead process have no effect and never return. */
  private while<Adapter extends object>(process: number, adapter: Adapter): Adapter {
    return new Proxy(adapter, {
      get: (target, name): unknown =>
        process === this.alive ? (target as Record<string | symbol, () => unknown>)[name] : () => never,
    });
  }

  /** Notes the priority of each call. */
  private noting(ses: SesWriter): SesWriter {
    return new Proxy(ses, {
      get:
        (target, name) =>
        (...given: unknown[]) => {
          this.priorities.add((given.at(-1) as Call).priority ?? 'background');
          return (target as unknown as Record<string | symbol, (...given: unknown[]) => unknown>)[name]!(...given);
        },
    });
  }

  private readonly store = {
    readStream: (stream: string) => Promise.resolve([...(this.streams.get(stream) ?? [])]),
    append: async (append: Append) => {
      await Promise.resolve();
      return this.effect(() => {
        const stream = this.streams.get(append.stream) ?? [];
        if (stream.length !== append.expectedVersion)
          throw new WrongExpectedVersion(append.stream, append.expectedVersion, stream.length);
        const { metadata } = append;
        const recorded = append.events.map((event, index) => ({
          ...(JSON.parse(JSON.stringify(event)) as typeof event),
          metadata,
          stream: append.stream,
          version: stream.length + index + 1,
          position: 0,
        }));
        this.streams.set(append.stream, [...stream, ...recorded]);
        return stream.length + recorded.length;
      });
    },
  } as unknown as EventStore;

  private readonly mailServer = {
    add: async (name: string, domainId: string) => {
      await Promise.resolve();
      if (this.trouble.mail === 'down') throw new Error('It is down.');
      if (this.trouble.mail === 'denies') throw new MailServerDenied('password authentication failed');
      return this.effect(() => {
        const owner = this.mail.get(name) ?? domainId;
        if (owner !== domainId) return { outcome: 'foreign' as const, domainId: owner };
        this.mail.set(name, domainId);
        return { outcome: 'added' as const };
      });
    },
    remove: async (name: string, domainId: string) => {
      await this.effect(() => this.mail.get(name) === domainId && this.mail.delete(name));
    },
  } as unknown as MailServer;

  /** The DKIM tokens that SES gives to the next identity. */
  tokens = ['a', 'b', 'c'];
  /** The DKIM status of all identities in the domain's first shard, and in others. */
  status = 'pending';
  statusElsewhere = 'pending';

  /** The MAIL FROM domains, by the names of their identities; they go with them. */
  readonly mailFrom = new Map<string, string>();

  private readonly identity = (key: string): SesIdentity | null => {
    const [name, shard] = key.split(' in ');
    return this.ses.has(key)
      ? ({
          name,
          domainId: this.ses.get(key),
          tokens: shard ? this.tokens.map((token) => `${shard}-${token}`) : this.tokens,
          hostedZone: 'dkim.amazonses.com',
          region: shard ? `region-of-${shard}` : 'eu-west-1',
          status: shard ? this.statusElsewhere : this.status,
          mailFrom: this.mailFrom.has(key) ? { domain: this.mailFrom.get(key)!, status: 'pending' } : null,
        } as unknown as SesIdentity)
      : null;
  };

  /** The shards that have tenants, and the teams in whose tenants identities are, by the names of the identities. */
  readonly shardsWithTenants = new Set<string>();
  readonly tenants = new Map<string, string>();

  /** The identities of another shard are kept under names that end with it. */
  private readonly shards = {
    of: (shard = 'default') => {
      if (shard === 'default') return this.identities;
      const elsewhere =
        (method: keyof SesWriter) =>
        (about: string | SesIdentity, ...rest: unknown[]) => {
          const there = (name: string) => `${name} in ${shard}`;
          const key = typeof about === 'string' ? there(about) : { ...about, name: there(about.name) };
          return (this.identities[method] as (...all: unknown[]) => unknown)(key, ...rest);
        };
      const methods = ['get', 'create', 'restartDkim', 'setMailFrom', 'joinTenant', 'delete'] as const;
      return Object.fromEntries(methods.map((method) => [method, elsewhere(method)])) as unknown as SesWriter;
    },
  };

  /** Whether the listings of shards are known. */
  isListed = true;
  private readonly statuses = {
    listed: (name: string, shard: string) =>
      Promise.resolve(this.isListed ? (this.identity(`${name} in ${shard}`)?.status ?? null) : undefined),
  };

  private readonly identities = {
    create: async (name: string, domainId: string, { signal }: { signal: AbortSignal }) => {
      await this.onCreate();
      if (this.trouble.ses === 'refuses') throw new SesRefused('no such name');
      if (this.trouble.ses === 'denies') throw new SesDenied('arn:aws:iam::123456789012:user/x');
      const create = () => {
        if (!this.ses.has(name)) this.ses.set(name, domainId);
      };
      if (this.trouble.ses === 'hangs') {
        this.late.push(create);
        await new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
        );
      }
      return this.effect(() => {
        create();
        return this.identity(name)!;
      });
    },
    get: async (name: string) => {
      await Promise.resolve();
      if (this.trouble.ses === 'does not answer') throw new SesUnavailable('no answer');
      return this.identity(name);
    },
    setMailFrom: async (name: string, domain: string) => {
      if (this.trouble.ses === 'denies MAIL FROM') throw new SesDenied('arn:aws:iam::123456789012:user/x');
      if (this.trouble.ses === 'refuses MAIL FROM') throw new SesRefused('no such name');
      return this.effect(() => {
        if (!this.ses.has(name)) return null;
        this.mailFrom.set(name, domain);
        return { domain, status: 'pending' };
      });
    },
    restartDkim: async (name: string) => {
      await this.effect(() => (name.includes(' in ') ? (this.statusElsewhere = 'pending') : (this.status = 'pending')));
      return this.identity(name)?.tokens ?? null;
    },
    joinTenant: async ({ name }: SesIdentity, team: string) => {
      if (!this.shardsWithTenants.has(name.split(' in ')[1] ?? 'default')) return undefined;
      if (this.trouble.ses === 'denies tenants') throw new SesDenied('arn:aws:iam::123456789012:user/x');
      return this.effect(() => {
        if (!this.ses.has(name)) throw new SesUnavailable('no such identity');
        this.tenants.set(name, team);
        return team;
      });
    },
    delete: async (name: string) => {
      if (this.trouble.ses === 'deletes late') {
        this.late.push(() => this.lose(name));
        throw new Error('no answer');
      }
      if (this.tenants.has(name)) await this.effect(() => this.tenants.delete(name));
      await this.effect(() => this.lose(name));
    },
  } as unknown as SesWriter;

  readonly places = new ShardPlaces(2);

  private readonly readModel = {
    idsOn: (_: string, after: string) =>
      Promise.resolve([...this.streams.keys()].filter((id) => id.startsWith('mbx_') && id > after).sort()),
  };

  /** Takes an identity out of SES, with all that it has. */
  lose(name: string): void {
    this.ses.delete(name);
    this.mailFrom.delete(name);
  }

  /** Starts a process, with an empty memory. */
  private start(): { provisioner: Provisioner; commands: Commands; domains: DomainCommandHandler } {
    const process = this.alive;
    const domains = new DomainCommandHandler(this.while(process, this.store));
    const commands = commandsTo(domains, new MailboxCommandHandler(this.while(process, this.store), oneKey));
    const times = new ProvisioningTimes(1, 5, 1_000, 1, this.moveGraceMs);
    const mailServer = this.while(process, this.mailServer);
    const ses = { of: (shard?: string) => this.while(process, this.noting(this.shards.of(shard))) };
    return {
      commands,
      domains,
      provisioner: new Provisioner(
        commands,
        domains,
        mailServer,
        ses,
        times,
        this.readModel,
        this.statuses,
        this.places,
      ),
    };
  }

  async execute(command: DomainCommand): Promise<void> {
    await this.start().commands.execute(command);
  }

  async create(mailbox: CreateMailbox): Promise<void> {
    await this.start().commands.execute(mailbox);
  }

  async state(id: string): Promise<MailDomain> {
    return (await this.start().domains.load(id)).state;
  }

  converge(id: string, triedBefore = false, signal = new AbortController().signal): Promise<Convergence> {
    return this.start().provisioner.converge(id, signal, triedBefore);
  }

  /** Converges as the task list does once, with a new process where this one dies; undefined then. */
  async turn(id: string): Promise<Convergence | undefined> {
    const death = new Promise<undefined>((died) => (this.died = () => died(undefined)));
    return Promise.race([this.start().provisioner.converge(id, new AbortController().signal), death]);
  }

  /** Converges as the task list does until the state needs no more, with a new process after each death. */
  async settle(id: string): Promise<void> {
    const working = ['provisioning', 'rolling_back', 'deleting', 'released'];
    const asks = (state: MailDomain) => working.includes(state.status) || ('inRepair' in state && state.inRepair);
    for (let turn = 0; asks(await this.state(id)); turn++) {
      if (turn > 20) throw new Error('never settles');
      const death = new Promise<void>((died) => (this.died = died));
      await Promise.race([this.start().provisioner.converge(id, new AbortController().signal), death]);
    }
  }
}

const name = 'mail.acme.com';
const context = { at: '2026-04-15T10:00:00.000Z', actor: 'key_1', correlationId: 'req_1' };
const add = (id: string, withinMs = 60_000) =>
  new AddDomain(id, { name, team: 'team_a', deadline: new Date(Date.now() + withinMs).toISOString() }, context);

beforeAll(() => {
  Logger.overrideLogger(false);
});

/**
 * Runs a scenario once to count its points, then once for each point at which the process dies. Returns how many points
 * there are.
 */
async function atEveryPoint(life: (world: World) => Promise<void>): Promise<number> {
  const whole = new World();
  await life(whole);
  for (let crashAt = 1; crashAt <= whole.points; crashAt++) {
    const world = new World();
    world.crashAt = crashAt;
    try {
      await life(world);
    } catch (error) {
      throw new Error(`dies at point ${crashAt} of ${whole.points}: ${(error as Error).message}`, { cause: error });
    }
  }
  return whole.points;
}

/** Adds a domain by another process, the gateway, which does not die. */
async function added(world: World, command: AddDomain): Promise<void> {
  const { crashAt } = world;
  world.crashAt = 0;
  await world.execute(command);
  world.points = 0;
  world.crashAt = crashAt;
}

const nothingLeft = (world: World) => {
  expect([...world.mail.keys()]).toEqual([]);
  expect([...world.ses.keys()]).toEqual([]);
  expect([...world.mailFrom.keys()]).toEqual([]);
  expect([...world.tenants.keys()]).toEqual([]);
};
const retryWorks = async (world: World) => {
  world.crashAt = 0;
  delete world.trouble.ses;
  delete world.trouble.mail;
  await world.execute(add('mdom_2'));
  await world.settle('mdom_2');
  expect((await world.state('mdom_2')).status).toBe('pending');
  expect([world.mail.get(name), world.ses.get(name)]).toEqual(['mdom_2', 'mdom_2']);
};

describe('a name that a claim has won, with a death at every point', () => {
  const claimed = new AddDomain('mdom_2', { ...add('mdom_2').data, claim: 'claim_1', replaces: 'mdom_1' }, context);
  const release = new ReleaseDomain('mdom_1', { claim: 'claim_1', ownership: 'absent', graceMs: 0 }, context);
  const mailbox = (id: string) =>
    new CreateMailbox(
      id,
      { address: `${id}@${name}`, team: 'team_a', home: { domainId: 'mdom_1', status: 'verified' }, provider: null },
      context,
    );
  /** Has the name won, by another process, the gateway, which does not die. */
  const win = async (world: World) => {
    const { crashAt } = world;
    world.crashAt = 0;
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    for (const id of ['mbx_1', 'mbx_2']) await world.create(mailbox(id));
    await world.execute(release);
    await world.execute(claimed);
    Object.assign(world, { points: 0, crashAt, tokens: ['x', 'y', 'z'] });
  };

  it('the loser is gone from both before the winner has anything, and its mailboxes are suspended', async () => {
    const points = await atEveryPoint(async (world) => {
      await win(world);
      expect(await world.converge('mdom_2')).toMatchObject({ error: 'Waits for another domain of the name to go' });
      expect([world.mail.get(name), world.ses.get(name)]).toEqual(['mdom_1', 'mdom_1']);
      await world.settle('mdom_1');
      nothingLeft(world);
      await world.settle('mdom_2');
      expect((await world.state('mdom_1')).status).toBe('deleted');
      expect(await world.state('mdom_2')).toMatchObject({ status: 'pending', dkimTokens: ['x', 'y', 'z'] });
      expect([world.mail.get(name), world.ses.get(name)]).toEqual(['mdom_2', 'mdom_2']);
      for (const id of ['mbx_1', 'mbx_2'])
        expect(world.streams.get(id)!.map(({ type, data }) => [type, data])).toEqual([
          ['MailboxCreated', expect.anything()],
          ['MailboxSuspended', { reason: 'domain_released' }],
        ]);
      // The last look a while later touches nothing of the winner. No process dies any more.
      world.crashAt = 0;
      await world.converge('mdom_1');
      expect([world.mail.get(name), world.ses.get(name)]).toEqual(['mdom_2', 'mdom_2']);
    });
    expect(points).toBeGreaterThanOrEqual(16);
  });

  it('a fault of ours does not take it from the winner', async () => {
    const world = new World();
    await win(world);
    await world.settle('mdom_1');
    world.trouble.ses = 'denies';
    const mended = setTimeout(() => delete world.trouble.ses, 20);
    await world.settle('mdom_2');
    clearTimeout(mended);
    expect((await world.state('mdom_2')).status).toBe('pending');
  });
});

describe('both or neither, with a death at every point', () => {
  it('an add ends with both', async () => {
    const points = await atEveryPoint(async (world) => {
      await added(world, add('mdom_1'));
      await world.settle('mdom_1');
      expect((await world.state('mdom_1')).status).toBe('pending');
      expect([world.mail.get(name), world.ses.get(name)]).toEqual(['mdom_1', 'mdom_1']);
      expect(world.mailFrom.get(name)).toBe(`bounce.${name}`);
      expect(await world.state('mdom_1')).toMatchObject({ mailFromDomain: `bounce.${name}` });
    });
    expect(points).toBeGreaterThanOrEqual(8);
  });

  it.each<SesTrouble>(['refuses', 'refuses MAIL FROM'])(
    'SES %s: it ends with neither, the name free, and a retry works',
    async (trouble) => {
      const points = await atEveryPoint(async (world) => {
        world.trouble.ses = trouble;
        await added(world, add('mdom_1'));
        await world.settle('mdom_1');
        expect((await world.state('mdom_1')).status).toBe('rolled_back');
        nothingLeft(world);
        await retryWorks(world);
      });
      expect(points).toBeGreaterThanOrEqual(8);
    },
  );

  it.each([
    ['ses', { ses: 'denies' }],
    ['ses', { ses: 'denies MAIL FROM' }],
    ['mail_server', { mail: 'denies' }],
  ] as const)(
    'P1: a refusal of this installation by %s ends with neither, at once, and a retry works',
    async (step, trouble) => {
      await atEveryPoint(async (world) => {
        Object.assign(world.trouble, trouble);
        await added(world, add('mdom_1'));
        await world.settle('mdom_1');
        const failed = world.streams.get('mdom_1')!.filter(({ type }) => type === 'ProvisioningFailed');
        expect(failed.map(({ data }) => data)).toMatchObject([{ step, kind: 'refused', isOurs: true }]);
        expect(JSON.stringify(failed)).not.toMatch(/arn:|123456789012|password/);
        nothingLeft(world);
        await retryWorks(world);
      });
    },
  );

  it('an SES that hangs past the deadline ends with neither, even if the request takes effect later', async () => {
    await atEveryPoint(async (world) => {
      world.trouble.ses = 'hangs';
      await added(world, add('mdom_1', 20));
      const lateEffect = setTimeout(() => world.late.splice(0).forEach((act) => act()), 22);
      await world.settle('mdom_1');
      clearTimeout(lateEffect);
      expect(await world.state('mdom_1')).toMatchObject({ status: 'rolled_back' });
      nothingLeft(world);
      await retryWorks(world);
    });
  });

  it('an effect of SES after the rollback does not block a retry with the name', async () => {
    const world = new World();
    world.trouble.ses = 'hangs';
    await world.execute(add('mdom_1', 10));
    await world.settle('mdom_1');
    world.late.splice(0).forEach((act) => act());
    expect(world.ses.get(name)).toBe('mdom_1');
    await retryWorks(world);
  });

  it('and is removed by the last look, which changes no foreign identity', async () => {
    const world = new World();
    world.trouble.ses = 'hangs';
    await world.execute(add('mdom_1', 10));
    await world.settle('mdom_1');
    world.late.splice(0).forEach((act) => act());
    await world.converge('mdom_1');
    nothingLeft(world);
    await retryWorks(world);
    await world.converge('mdom_1');
    expect([world.mail.get(name), world.ses.get(name)]).toEqual(['mdom_2', 'mdom_2']);
  });

  it('a mail server that is down past the deadline ends with neither', async () => {
    const world = new World();
    world.trouble.mail = 'down';
    await world.execute(add('mdom_1', 20));
    await world.settle('mdom_1');
    expect(await world.state('mdom_1')).toMatchObject({ status: 'rolled_back' });
    expect(world.streams.get('mdom_1')!.map(({ data }) => data)).toContainEqual({
      step: 'mail_server',
      kind: 'deadline',
      isOurs: false,
      reason: 'The mail server was not ready in time.',
    });
    nothingLeft(world);
    await retryWorks(world);
  });

  it('a deletion continues until both are gone', async () => {
    await atEveryPoint(async (world) => {
      await added(world, add('mdom_1'));
      const { crashAt } = world;
      world.crashAt = 0;
      await world.settle('mdom_1');
      await world.execute(new RequestDeletion('mdom_1', context));
      world.points = 0;
      world.crashAt = crashAt;
      await world.settle('mdom_1');
      expect((await world.state('mdom_1')).status).toBe('deleted');
      nothingLeft(world);
    });
  });

  it('a deletion does not end, and its name is not free, while SES does not answer', async () => {
    const world = new World();
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    await world.execute(new RequestDeletion('mdom_1', context));
    world.trouble.ses = 'does not answer';
    for (let tries = 0; tries < 3; tries++)
      await expect(world.converge('mdom_1', tries > 0)).rejects.toThrow(SesUnavailable);
    expect((await world.state('mdom_1')).status).toBe('deleting');
    expect(world.ses.get(name)).toBe('mdom_1');
    delete world.trouble.ses;
    await world.settle('mdom_1');
    nothingLeft(world);
  });
});

it('calls SES before others for what a customer waits for, and after them for the rest', async () => {
  const world = new World();
  const prioritiesOf = async (work: () => Promise<unknown>) => {
    world.priorities.clear();
    await work();
    return [...world.priorities];
  };
  await world.execute(add('mdom_1'));
  expect(await prioritiesOf(() => world.settle('mdom_1'))).toEqual(['change']);
  world.status = 'failed';
  await world.execute(new RequestIdentityRepair('mdom_1', { fault: 'gave_up' }, context));
  expect(await prioritiesOf(() => world.settle('mdom_1'))).toEqual(['background']);
  await world.execute(new RequestDeletion('mdom_1', context));
  expect(await prioritiesOf(() => world.settle('mdom_1'))).toEqual(['change']);
  expect(await prioritiesOf(() => world.converge('mdom_1'))).toEqual(['background']);
  world.trouble.ses = 'refuses';
  await world.execute(add('mdom_2'));
  expect(await prioritiesOf(() => world.settle('mdom_2'))).toEqual(['change']);
});

describe('F9 an identity that SES has lost', () => {
  const request = (fault: IdentityFault = 'missing') => new RequestIdentityRepair('mdom_1', { fault }, context);
  /** Provisions a domain completely before the process may die. */
  const provisioned = async (world: World, breaking: () => void, ...commands: DomainCommand[]) => {
    const { crashAt } = world;
    world.crashAt = 0;
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    breaking();
    for (const command of commands) await world.execute(command);
    world.points = 0;
    world.crashAt = crashAt;
  };

  it('is created again with the new tokens of SES, wherever the process dies', async () => {
    await atEveryPoint(async (world) => {
      await provisioned(
        world,
        () => {
          world.lose(name);
          world.tokens = ['d', 'e', 'f'];
        },
        request(),
      );
      await world.settle('mdom_1');
      expect(await world.state('mdom_1')).toMatchObject({
        status: 'pending',
        inRepair: false,
        dkimTokens: ['d', 'e', 'f'],
      });
      expect([world.mail.get(name), world.ses.get(name)]).toEqual(['mdom_1', 'mdom_1']);
      expect(world.mailFrom.get(name)).toBe(`bounce.${name}`);
      const repaired = world.streams.get('mdom_1')!.filter(({ type }) => type === 'IdentityRepaired');
      expect(repaired.map(({ data }) => data)).toMatchObject([{ recordsChanged: true }]);
    });
  });
  it.each([
    ['F7', 'not_started', 'not_started'],
    ['F5', 'gave_up', 'failed'],
  ] as const)('%s restarts the DKIM detection that SES has given up: %s', async (_, fault, status) => {
    await atEveryPoint(async (world) => {
      await provisioned(world, () => (world.status = status), request(fault));
      await world.settle('mdom_1');
      expect(world.status).toBe('pending');
      expect(await world.state('mdom_1')).toMatchObject({ inRepair: false, dkimTokens: ['a', 'b', 'c'] });
    });
  });
  it('gets its MAIL FROM domain when an operator asks for it, and nothing else changes', async () => {
    await atEveryPoint(async (world) => {
      const breaking = () => {
        world.mailFrom.clear();
        world.status = 'failed';
      };
      await provisioned(world, breaking, request('no_mail_from'));
      await world.settle('mdom_1');
      expect(world.mailFrom.get(name)).toBe(`bounce.${name}`);
      // SES gave up on DKIM records that nobody has asked it to look for again.
      expect(world.status).toBe('failed');
      const state = await world.state('mdom_1');
      expect(state).toMatchObject({ inRepair: false, mailFromDomain: `bounce.${name}`, dkimTokens: ['a', 'b', 'c'] });
      expect(state).toMatchObject({ repairRequestedAt: undefined });
      const repaired = world.streams.get('mdom_1')!.filter(({ type }) => type === 'IdentityRepaired');
      expect(repaired.map(({ data }) => data)).toMatchObject([{ recordsChanged: false }]);
    });
  });
  it('is left alone when it is foreign by now, which is recorded once, wherever the process dies', async () => {
    await atEveryPoint(async (world) => {
      await provisioned(world, () => world.ses.set(name, null), request());
      await world.settle('mdom_1');
      expect(world.ses.get(name)).toBeNull();
      expect(await world.state('mdom_1')).toMatchObject({ status: 'pending', inRepair: false });
      const failed = world.streams.get('mdom_1')!.filter(({ type }) => type === 'IdentityRepairFailed');
      const reason = 'Amazon SES has mail.acme.com without our tag; an operator has to settle that.';
      expect(failed.map(({ data }) => data)).toEqual([{ reason }]);
    });
  });
  it('ends deleted when the domain is deleted meanwhile', async () => {
    await atEveryPoint(async (world) => {
      await provisioned(world, () => world.lose(name), request(), new RequestDeletion('mdom_1', context));
      await world.settle('mdom_1');
      expect((await world.state('mdom_1')).status).toBe('deleted');
      nothingLeft(world);
    });
  });
});

describe('F9 a repair during which something else happens', () => {
  const gone = async () => {
    const world = new World();
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    world.lose(name);
    await world.execute(new RequestIdentityRepair('mdom_1', { fault: 'missing' }, context));
    return world;
  };
  it('ends deleted when the domain is deleted while the identity is being created', async () => {
    const world = await gone();
    world.onCreate = async () => {
      await world.execute(new RequestDeletion('mdom_1', context));
      await world.settle('mdom_1');
    };
    await world.converge('mdom_1');
    expect((await world.state('mdom_1')).status).toBe('deleted');
    nothingLeft(world);
  });
  it('reports no new records when the tokens only have another order', async () => {
    const world = await gone();
    world.tokens = ['c', 'a', 'b'];
    await world.settle('mdom_1');
    expect(world.streams.get('mdom_1')!.at(-1)!.data).toMatchObject({ recordsChanged: false });
  });
});

describe('the places of a process', () => {
  const take = (world: World, priority: 'change' | 'background') => () => world.places.take('default', priority)!;
  const places = concurrency / 2;

  it('are not all taken by what nobody waits for, nor by one shard', async () => {
    const world = new World();
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    await world.execute(new RequestIdentityRepair('mdom_1', { fault: 'missing' }, context));
    const repairs = Array.from({ length: places / 2 }, take(world, 'background'));
    expect(await world.converge('mdom_1')).toMatchObject({ retryInMs: 10_000 });
    await world.execute(new RequestDeletion('mdom_1', context));
    const adds = Array.from({ length: places / 2 }, take(world, 'change'));
    expect(await world.converge('mdom_1')).toMatchObject({ retryInMs: 1_000 });
    expect(world.places.take('us-1', 'background')).toBeDefined();
    adds[0]!();
    expect(await world.converge('mdom_1')).toBe('done');
    expect((await world.state('mdom_1')).status).toBe('deleted');
    for (const giveBack of repairs) giveBack();
    expect(await world.converge('mdom_1')).toBe('done');
  });

  it('are four in a shard where there are more shards than places', () => {
    const many = new ShardPlaces(10_000);
    const takes = (priority: 'change' | 'background') => many.take('us-1', priority) !== undefined;
    expect([1, 2, 3].map(() => takes('background'))).toEqual([true, true, false]);
    expect([1, 2, 3].map(() => takes('change'))).toEqual([true, true, false]);
  });
});

describe('a deletion that SES did not answer', () => {
  it('frees the name only when the request can no longer affect the next domain with it', async () => {
    const world = new World();
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    await world.execute(new RequestDeletion('mdom_1', context));
    world.trouble.ses = 'deletes late';
    await expect(world.converge('mdom_1')).rejects.toThrow('no answer');
    delete world.trouble.ses;
    // The first request takes effect while the second attempt waits.
    const effect = setTimeout(() => world.late.splice(0).forEach((act) => act()), 2);
    await world.converge('mdom_1', true);
    clearTimeout(effect);
    expect((await world.state('mdom_1')).status).toBe('deleted');
    expect(world.late).toEqual([]);
    await retryWorks(world);
  });
});

describe('foreign domains and identities', () => {
  it('a foreign SES identity is refused and not changed', async () => {
    const world = new World();
    world.ses.set(name, null);
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    const events = world.streams.get('mdom_1')!.map(({ type, data }) => ({ type, data }));
    expect(events).toContainEqual({
      type: 'ProvisioningFailed',
      data: {
        step: 'ses',
        kind: 'foreign',
        isOurs: false,
        reason: expect.stringContaining('Our support can settle that') as string,
      },
    });
    expect([...world.ses]).toEqual([[name, null]]);
    expect(world.mail.size).toBe(0);
  });

  it('a foreign entry of the mail server is refused and not changed', async () => {
    const world = new World();
    world.mail.set(name, 'somebody');
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    expect((await world.state('mdom_1')).status).toBe('rolled_back');
    expect([...world.mail]).toEqual([[name, 'somebody']]);
    expect(world.ses.size).toBe(0);
  });

  it('P2: takes an adopted identity for its own, which goes with the domain', async () => {
    const world = new World();
    world.ses.set(name, adoptedTag);
    world.mailFrom.set(name, 'envelope.acme.com');
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    expect((await world.state('mdom_1')).status).toBe('pending');
    expect([...world.ses]).toEqual([[name, adoptedTag]]);
    expect(world.mailFrom.get(name)).toBe('envelope.acme.com');
    await world.execute(new RequestDeletion('mdom_1', context));
    await world.settle('mdom_1');
    nothingLeft(world);
  });

  it('P2: leaves an adopted identity where the add is rolled back', async () => {
    const world = new World();
    world.ses.set(name, adoptedTag);
    world.trouble.ses = 'denies';
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    await world.converge('mdom_1');
    expect((await world.state('mdom_1')).status).toBe('rolled_back');
    expect([...world.ses]).toEqual([[name, adoptedTag]]);
  });

  it('an identity with the domain’s own tag is accepted', async () => {
    const world = new World();
    world.ses.set(name, 'mdom_1');
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    expect((await world.state('mdom_1')).status).toBe('pending');
  });
});

describe('tenants of SES, with a death at every point', () => {
  const id = 'mdom_1';
  const there = `${name} in us-1`;
  /** Has other processes do something, which do not die. */
  const elsewhere = async (world: World, work: () => Promise<void>) => {
    const { crashAt, points } = world;
    world.crashAt = 0;
    await work();
    Object.assign(world, { crashAt, points });
  };
  const tenantOf = async (world: World) => ((await world.state(id)) as { sesTenant?: string }).sesTenant;
  const tenants = (world: World) => Object.fromEntries(world.tenants);

  it('an add is in that of its team, which its event names, and a deletion takes it out', async () => {
    const points = await atEveryPoint(async (world) => {
      world.shardsWithTenants.add('default');
      await added(world, add(id));
      await world.settle(id);
      expect([tenants(world), await tenantOf(world)]).toEqual([{ [name]: 'team_a' }, 'team_a']);
      await elsewhere(world, () => world.execute(new RequestDeletion(id, context)));
      await world.settle(id);
      nothingLeft(world);
    });
    expect(points).toBeGreaterThanOrEqual(18);
  });

  it('an account that refuses them ends an add with neither, and a retry works', async () => {
    await atEveryPoint(async (world) => {
      world.shardsWithTenants.add('default');
      world.trouble.ses = 'denies tenants';
      await added(world, add(id));
      await world.settle(id);
      const failed = world.streams.get(id)!.filter(({ type }) => type === 'ProvisioningFailed');
      expect(failed.map(({ data }) => data)).toMatchObject([{ step: 'ses', kind: 'refused', isOurs: true }]);
      nothingLeft(world);
      await retryWorks(world);
    });
  });

  it('a domain from before gets one when an operator asks for it, and nothing else changes', async () => {
    await atEveryPoint(async (world) => {
      await elsewhere(world, async () => {
        await world.execute(add(id));
        await world.settle(id);
        world.shardsWithTenants.add('default');
        world.status = 'failed';
        await world.execute(new RequestIdentityRepair(id, { fault: 'no_tenant' }, context));
      });
      await world.settle(id);
      expect([tenants(world), await tenantOf(world), world.status]).toEqual([{ [name]: 'team_a' }, 'team_a', 'failed']);
      expect(world.streams.get(id)!.at(-1)).toMatchObject({
        type: 'IdentityRepaired',
        data: { recordsChanged: false },
      });
    });
  });

  it.each([
    ['both shards have them', ['default', 'us-1'], 'team_a'],
    ['only the new one has them', ['us-1'], 'team_a'],
    ['only the old one has them', ['default'], undefined],
  ])('a move where %s names that of the shard from which it sends', async (_, having, after) => {
    await atEveryPoint(async (world) => {
      const before = having.includes('default') ? 'team_a' : undefined;
      for (const shard of having) world.shardsWithTenants.add(shard);
      await elsewhere(world, async () => {
        await world.execute(add(id));
        await world.settle(id);
        world.status = 'success';
        await world.execute(new MoveIdentity(id, { from: 'default', to: 'us-1' }, context));
      });
      const isMoving = async () => ((await world.state(id)) as { move?: object }).move !== undefined;
      while (!world.ses.has(there)) await world.turn(id);
      expect(await tenantOf(world)).toBe(before);
      world.statusElsewhere = 'success';
      while (await isMoving()) await world.turn(id);
      expect([tenants(world), await tenantOf(world)]).toEqual([after ? { [there]: after } : {}, after]);
      await elsewhere(world, () => world.execute(new RequestDeletion(id, context)));
      await world.settle(id);
      nothingLeft(world);
    });
  });
});

describe('a move to another shard of SES, with a death at every point', () => {
  const id = 'mdom_1';
  const there = `${name} in us-1`;
  /** Adds a domain and asks for its move, by other processes, which do not die. */
  const asked = async (world: World) => {
    const { crashAt } = world;
    world.crashAt = 0;
    await world.execute(add(id));
    await world.settle(id);
    world.status = 'success';
    await world.execute(new MoveIdentity(id, { from: 'default', to: 'us-1' }, context));
    Object.assign(world, { points: 0, crashAt });
  };
  const typesOf = (world: World) => world.streams.get(id)!.map(({ type }) => type);
  const moving = async (world: World) => {
    const state = await world.state(id);
    return 'move' in state ? state.move?.step : undefined;
  };
  /** Takes turns until none is left, or something has to happen outside. */
  const turnsUntil = async (world: World, step: string | undefined) => {
    for (let turn = 0; (await moving(world)) !== step; turn++) {
      if (turn > 20) throw new Error(`never is at ${step}`);
      await world.turn(id);
    }
  };
  const identities = (world: World) => Object.fromEntries(world.ses);
  it('ends whole, and the old identity is there until SES has seen the new one', async () => {
    const points = await atEveryPoint(async (world) => {
      await asked(world);
      await turnsUntil(world, 'prepared');
      // Nobody has placed the records.
      expect(await world.turn(id)).not.toBe('done');
      expect(await moving(world)).toBe('prepared');
      expect(identities(world)).toEqual({ [name]: id, [there]: id });
      const before = await world.state(id);
      expect(before).toMatchObject({ dkimTokens: ['a', 'b', 'c'], sesShard: undefined, sesRegion: 'eu-west-1' });
      expect(before).toMatchObject({ nextDkim: { dkimTokens: ['us-1-a', 'us-1-b', 'us-1-c'] } });
      world.statusElsewhere = 'success';
      await turnsUntil(world, undefined);
      expect(identities(world)).toEqual({ [there]: id });
      expect(world.mailFrom.get(there)).toBe(`bounce.${name}`);
      expect(await world.state(id)).toMatchObject({
        dkimTokens: ['us-1-a', 'us-1-b', 'us-1-c'],
        nextDkim: undefined,
        sesShard: 'us-1',
        sesRegion: 'region-of-us-1',
        sesDkimStatus: 'success',
      });
      expect(typesOf(world).slice(2).join(' ')).toBe(
        'IdentityMoveRequested IdentityMovePrepared IdentityMoved IdentityMoveCompleted',
      );
    });
    expect(points).toBe(12);
  });

  it('is cancelled, and nothing of it is left', async () => {
    await atEveryPoint(async (world) => {
      await asked(world);
      await turnsUntil(world, 'prepared');
      const { crashAt, points } = world;
      world.crashAt = 0;
      await world.execute(new CancelIdentityMove(id, context));
      Object.assign(world, { crashAt, points });
      await turnsUntil(world, undefined);
      expect(identities(world)).toEqual({ [name]: id });
      expect(typesOf(world).slice(-2)).toEqual(['IdentityMoveCancelled', 'IdentityMoveFailed']);
      expect(await world.state(id)).toMatchObject({ dkimTokens: ['a', 'b', 'c'], nextDkim: undefined });
    });
  });

  it('is cancelled while a request is under way, which takes effect after that', async () => {
    const world = new World();
    await asked(world);
    world.trouble.ses = 'hangs';
    const replaced = new AbortController();
    const begun = world.converge(id, false, replaced.signal);
    while (world.late.length === 0) await delay(1);
    replaced.abort(new Error('the task was replaced'));
    await expect(begun).rejects.toThrow();
    delete world.trouble.ses;
    await world.execute(new CancelIdentityMove(id, context));
    const cancelled = world.turn(id);
    setTimeout(() => world.late.forEach((act) => act()), 1);
    await cancelled;
    expect(identities(world)).toEqual({ [name]: id });
    expect(typesOf(world).at(-1)).toBe('IdentityMoveFailed');
  });

  it.each(['requested', 'prepared', 'moved'] as const)('a deletion at the step %s leaves nothing', async (step) => {
    await atEveryPoint(async (world) => {
      await asked(world);
      if (step === 'moved') {
        world.statusElsewhere = 'success';
        world.moveGraceMs = 60_000;
      }
      await turnsUntil(world, step);
      const { crashAt, points } = world;
      world.crashAt = 0;
      await world.execute(new RequestDeletion(id, context));
      Object.assign(world, { crashAt, points });
      await world.settle(id);
      expect((await world.state(id)).status).toBe('deleted');
      nothingLeft(world);
    });
  });

  it('fails where the other shard has the name for somebody else, or refuses it, and changes nothing', async () => {
    for (const trouble of ['foreign', 'refuses', 'refuses MAIL FROM'] as const) {
      const world = new World();
      await asked(world);
      if (trouble === 'foreign') world.ses.set(there, null);
      else world.trouble.ses = trouble;
      await turnsUntil(world, undefined);
      expect(typesOf(world).at(-1)).toBe('IdentityMoveFailed');
      expect(world.ses.get(name)).toBe(id);
      expect(world.ses.get(there)).toBe(trouble === 'foreign' ? null : undefined);
    }
  });

  it('has SES look again where it has given up, and fails where the new identity is lost', async () => {
    const world = new World();
    await asked(world);
    await turnsUntil(world, 'prepared');
    world.statusElsewhere = 'failed';
    await world.turn(id);
    expect([world.statusElsewhere, world.status]).toEqual(['pending', 'success']);
    world.isListed = false;
    world.statusElsewhere = 'success';
    await world.turn(id);
    expect(await moving(world)).toBe('prepared');
    world.isListed = true;
    world.lose(there);
    await turnsUntil(world, undefined);
    expect(typesOf(world).at(-1)).toBe('IdentityMoveFailed');
    expect(identities(world)).toEqual({ [name]: id });
  });

  it('fails where somebody has made the new identity anew, and leaves none behind', async () => {
    await atEveryPoint(async (world) => {
      await asked(world);
      await turnsUntil(world, 'prepared');
      Object.assign(world, { tokens: ['x', 'y', 'z'], statusElsewhere: 'success' });
      await turnsUntil(world, undefined);
      expect(typesOf(world).at(-1)).toBe('IdentityMoveFailed');
      expect(identities(world)).toEqual({ [name]: id });
    });
  });

  it('goes on after a repair that was asked for meanwhile', async () => {
    await atEveryPoint(async (world) => {
      await asked(world);
      await turnsUntil(world, 'prepared');
      const { crashAt, points } = world;
      world.crashAt = 0;
      world.lose(name);
      await world.execute(new RequestIdentityRepair(id, { fault: 'missing' }, context));
      Object.assign(world, { crashAt, points });
      await world.settle(id);
      expect(identities(world)).toEqual({ [name]: id, [there]: id });
      world.statusElsewhere = 'success';
      await turnsUntil(world, undefined);
      expect(identities(world)).toEqual({ [there]: id });
    });
  });
});
