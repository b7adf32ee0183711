import { Logger } from '@nestjs/common';
import type { CommandBus } from '@nestjs/cqrs';
import { DomainCommandHandler } from '@app/commands';
import { WrongExpectedVersion, type Append, type EventStore, type RecordedEvent } from '@app/event-store';
import {
  AddDomain,
  RequestDeletion,
  RequestIdentityRepair,
  type DomainCommand,
  type MailDomain,
} from '@app/mail-domain';
import type { MailServer } from '@app/mail-server';
import { SesRefused, type SesIdentities, type SesIdentity } from '@app/ses';
import { Provisioner, ProvisioningTimes } from './provisioner';

const never = new Promise<never>(() => undefined);

/**
 * The counterparts and the store in memory. Each effect is two points: just before it, and just after it when nobody
 * has heard of it yet. A process dies at point `crashAt`: what it did stays, and it never does anything again.
 */
class World {
  readonly mail = new Map<string, string>();
  readonly ses = new Map<string, string | null>();
  readonly streams = new Map<string, RecordedEvent[]>();
  readonly trouble: { ses?: 'refuses' | 'hangs' | 'deletes late'; mail?: 'down' } = {};
  /** Requests that SES got and answered to nobody: they may still happen. */
  readonly late: (() => void)[] = [];
  /** Happens while a request to make an identity is on its way. */
  onCreate: () => Promise<void> = () => Promise.resolve();
  points = 0;
  crashAt = 0;
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

  /** What a dead process calls has no answer, and no effect. */
  private while<Adapter extends object>(process: number, adapter: Adapter): Adapter {
    return new Proxy(adapter, {
      get: (target, name): unknown =>
        process === this.alive ? (target as Record<string | symbol, () => unknown>)[name] : () => never,
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

  /** Those that SES gives to the next identity. */
  tokens = ['a', 'b', 'c'];
  /** Of all identities. */
  status = 'pending';

  private readonly identity = (name: string): SesIdentity | null =>
    this.ses.has(name)
      ? ({
          name,
          domainId: this.ses.get(name),
          tokens: this.tokens,
          hostedZone: 'dkim.amazonses.com',
          region: 'eu-west-1',
          status: this.status,
        } as unknown as SesIdentity)
      : null;

  private readonly identities = {
    create: async (name: string, domainId: string, { signal }: { signal: AbortSignal }) => {
      await this.onCreate();
      if (this.trouble.ses === 'refuses') throw new SesRefused('no more identities');
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
      return this.identity(name);
    },
    restartDkim: async (name: string) => {
      await this.effect(() => (this.status = 'pending'));
      return this.identity(name)?.tokens ?? null;
    },
    delete: async (name: string) => {
      if (this.trouble.ses === 'deletes late') {
        this.late.push(() => this.ses.delete(name));
        throw new Error('no answer');
      }
      await this.effect(() => this.ses.delete(name));
    },
  } as unknown as SesIdentities;

  /** A new process: nothing in memory. */
  private start(): { provisioner: Provisioner; domains: DomainCommandHandler } {
    const process = this.alive;
    const domains = new DomainCommandHandler(this.while(process, this.store));
    const bus = { execute: (command: DomainCommand) => domains.execute(command) } as unknown as CommandBus;
    const times = new ProvisioningTimes(1, 5, 1_000);
    const mailServer = this.while(process, this.mailServer);
    const ses = this.while(process, this.identities);
    return { domains, provisioner: new Provisioner(bus, domains, mailServer, ses, times) };
  }

  async execute(command: DomainCommand): Promise<void> {
    await this.start().domains.execute(command);
  }

  async state(id: string): Promise<MailDomain> {
    return (await this.start().domains.load(id)).state;
  }

  async converge(id: string, triedBefore = false): Promise<void> {
    await this.start().provisioner.converge(id, new AbortController().signal, triedBefore);
  }

  /** What the list of tasks does: converge until the state asks for nothing, in a new process after each death. */
  async settle(id: string): Promise<void> {
    const working = ['provisioning', 'rolling_back', 'deleting'];
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

/** Runs a life once to count its points, then once for each point at which the process dies. */
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

/** An add by the customer's side, which is not the process that dies here. */
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

describe('both or neither, with a death at every point', () => {
  it('an add ends with both', async () => {
    const points = await atEveryPoint(async (world) => {
      await added(world, add('mdom_1'));
      await world.settle('mdom_1');
      expect((await world.state('mdom_1')).status).toBe('pending');
      expect([world.mail.get(name), world.ses.get(name)]).toEqual(['mdom_1', 'mdom_1']);
    });
    expect(points).toBeGreaterThanOrEqual(6);
  });

  it('a refusal of SES ends with neither, the name free, and a retry works', async () => {
    const points = await atEveryPoint(async (world) => {
      world.trouble.ses = 'refuses';
      await added(world, add('mdom_1'));
      await world.settle('mdom_1');
      expect((await world.state('mdom_1')).status).toBe('rolled_back');
      nothingLeft(world);
      await retryWorks(world);
    });
    expect(points).toBeGreaterThanOrEqual(8);
  });

  it('an SES that hangs past the deadline ends with neither, even when it acts after all', async () => {
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

  it('an effect of SES that comes later still does not keep the name from a retry', async () => {
    const world = new World();
    world.trouble.ses = 'hangs';
    await world.execute(add('mdom_1', 10));
    await world.settle('mdom_1');
    world.late.splice(0).forEach((act) => act());
    expect(world.ses.get(name)).toBe('mdom_1');
    await retryWorks(world);
  });

  it('and is removed by the last look, which touches nobody else’s', async () => {
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
      ...{ step: 'mail_server', kind: 'deadline' },
      reason: 'The mail server was not ready in time: It is down.',
    });
    nothingLeft(world);
    await retryWorks(world);
  });

  it('a deletion goes forward until both are gone', async () => {
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
});

describe('F9 an identity that SES has lost', () => {
  const request = (fault: 'missing' | 'not_started' = 'missing') =>
    new RequestIdentityRepair('mdom_1', { fault }, context);
  /** A domain that both have; dies no more until it is broken. */
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

  it('is made anew, with what SES gives it now, whatever dies on the way', async () => {
    await atEveryPoint(async (world) => {
      await provisioned(
        world,
        () => {
          world.ses.delete(name);
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
      const repaired = world.streams.get('mdom_1')!.filter(({ type }) => type === 'IdentityRepaired');
      expect(repaired.map(({ data }) => data)).toMatchObject([{ recordsChanged: true }]);
    });
  });
  it('F7 begins to look for the DKIM records where SES has not', async () => {
    await atEveryPoint(async (world) => {
      await provisioned(world, () => (world.status = 'not_started'), request('not_started'));
      await world.settle('mdom_1');
      expect(world.status).toBe('pending');
      expect(await world.state('mdom_1')).toMatchObject({ inRepair: false, dkimTokens: ['a', 'b', 'c'] });
    });
  });
  it('stays somebody else’s when it is by now, and is tried again', async () => {
    const world = new World();
    await provisioned(world, () => world.ses.set(name, null), request());
    await expect(world.converge('mdom_1')).rejects.toThrow('for somebody else');
    expect(world.ses.get(name)).toBeNull();
    world.ses.delete(name);
    await world.settle('mdom_1');
    expect(world.ses.get(name)).toBe('mdom_1');
  });
  it('ends deleted when the domain is deleted meanwhile', async () => {
    await atEveryPoint(async (world) => {
      await provisioned(world, () => world.ses.delete(name), request(), new RequestDeletion('mdom_1', context));
      await world.settle('mdom_1');
      expect((await world.state('mdom_1')).status).toBe('deleted');
      nothingLeft(world);
    });
  });
});

describe('F9 a repair that something else happens in', () => {
  const gone = async () => {
    const world = new World();
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    world.ses.delete(name);
    await world.execute(new RequestIdentityRepair('mdom_1', { fault: 'missing' }, context));
    return world;
  };
  it('ends deleted when the domain is deleted while the identity is being made', async () => {
    const world = await gone();
    world.onCreate = async () => {
      await world.execute(new RequestDeletion('mdom_1', context));
      await world.settle('mdom_1');
    };
    await world.converge('mdom_1');
    expect((await world.state('mdom_1')).status).toBe('deleted');
    nothingLeft(world);
  });
  it('tells nobody of the same tokens in another order', async () => {
    const world = await gone();
    world.tokens = ['c', 'a', 'b'];
    await world.settle('mdom_1');
    expect(world.streams.get('mdom_1')!.at(-1)!.data).toMatchObject({ recordsChanged: false });
  });
});

describe('a deletion that SES did not answer', () => {
  it('frees the name only when the request can no longer hit whoever has it next', async () => {
    const world = new World();
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    await world.execute(new RequestDeletion('mdom_1', context));
    world.trouble.ses = 'deletes late';
    await expect(world.converge('mdom_1')).rejects.toThrow('no answer');
    delete world.trouble.ses;
    // The first request takes effect while the second try waits.
    const effect = setTimeout(() => world.late.splice(0).forEach((act) => act()), 2);
    await world.converge('mdom_1', true);
    clearTimeout(effect);
    expect((await world.state('mdom_1')).status).toBe('deleted');
    expect(world.late).toEqual([]);
    await retryWorks(world);
  });
});

describe('what is not ours stays as it is', () => {
  it('refuses a foreign SES identity and does not touch it', async () => {
    const world = new World();
    world.ses.set(name, null);
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    const events = world.streams.get('mdom_1')!.map(({ type, data }) => ({ type, data }));
    expect(events).toContainEqual({
      type: 'ProvisioningFailed',
      data: { step: 'ses', kind: 'foreign', reason: 'Amazon SES has mail.acme.com for somebody else.' },
    });
    expect([...world.ses]).toEqual([[name, null]]);
    expect(world.mail.size).toBe(0);
  });

  it('refuses a foreign entry of the mail server and does not touch it', async () => {
    const world = new World();
    world.mail.set(name, 'somebody');
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    expect((await world.state('mdom_1')).status).toBe('rolled_back');
    expect([...world.mail]).toEqual([[name, 'somebody']]);
    expect(world.ses.size).toBe(0);
  });

  it('takes an identity with its own tag for its own', async () => {
    const world = new World();
    world.ses.set(name, 'mdom_1');
    await world.execute(add('mdom_1'));
    await world.settle('mdom_1');
    expect((await world.state('mdom_1')).status).toBe('pending');
  });
});
