import { Logger } from '@nestjs/common';
import { inTransaction, openPool } from '@app/database';
import type { CommandContext } from '@app/decider';
import { EventStore, eventStoreMigrations } from '@app/event-store';
import {
  AddDomain,
  CompleteDeletion,
  CompleteProvisioning,
  CompleteRollback,
  DomainRuleBroken,
  FailProvisioning,
  RecordCheck,
  RequestDeletion,
  type DomainCommand,
} from '@app/mail-domain';
import type { Finding } from '@app/mail-records';
import { CreateMailbox, DeleteMailbox } from '@app/mailbox';
import {
  allow,
  closeQuotas,
  domainsProjection,
  mailboxesProjection,
  Quotas,
  readModelMigrations,
} from '@app/read-model';
import { newId } from '@app/runtime';
import type { Pool } from 'pg';
import { commandsTo } from '../../test/support/commands';
import { mailboxKeysMigrations } from '@app/mailbox-keys';
import { mailboxKeysIn } from '../../test/support/mailbox-keys';
import { numbers } from '../../test/support/numbers';
import { countedAndHeld } from '../../test/support/replayed-read-model';
import { sample } from '../../test/support/sample';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import type { Commands } from './commands';
import { DomainCommandHandler } from './domain-command.handler';
import { MailboxCommandHandler } from './mailbox-command.handler';
import { InstallationFull, QuotaExceeded } from './quota-errors';

/** Stands for one gateway: its stores share nothing with those of another but the database. */
class Gateway {
  readonly pool: Pool;
  readonly commands: Commands;

  constructor(url: string) {
    this.pool = openPool(url, 8);
    this.commands = commandsTo(
      new DomainCommandHandler(new EventStore(this.pool, domainsProjection)),
      new MailboxCommandHandler(new EventStore(this.pool, mailboxesProjection), mailboxKeysIn(this.pool)),
    );
  }

  async add(team: string, id = newId('mdom'), name = `${id.slice(5)}.example.com`): Promise<string> {
    await this.commands.execute(new AddDomain(id, { name, team, deadline: context().at }, context()));
    return id;
  }

  async verified(team: string): Promise<string> {
    const id = await this.add(team);
    await this.execute(new CompleteProvisioning(id, identity, context()));
    await this.execute(new RecordCheck(id, passed, context()));
    return id;
  }

  async create(team: string, domainId: string): Promise<string> {
    const id = newId('mbx');
    const address = `${id.slice(4)}@${domainId.slice(5)}.example.com`;
    const home = { domainId, status: 'verified' };
    await this.commands.execute(new CreateMailbox(id, { address, team, home, provider: null }, context()));
    return id;
  }

  execute(command: DomainCommand): Promise<unknown> {
    return this.commands.execute(command);
  }

  async rollBack(id: string): Promise<void> {
    const failure = { step: 'ses', kind: 'refused', reason: 'No.' } as const;
    await this.execute(new FailProvisioning(id, failure, context()));
    await this.execute(new CompleteRollback(id, context()));
  }

  async remove(id: string): Promise<void> {
    await this.execute(new CompleteProvisioning(id, identity, context()));
    await this.execute(new RequestDeletion(id, context()));
    await this.execute(new CompleteDeletion(id, context()));
  }
}

const context = (): CommandContext => ({ at: new Date().toISOString(), actor: 'key_1', correlationId: 'req_1' });
const identity = {
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
  sesDkimStatus: 'success',
} as const;
const passed = {
  findings: (['mx', 'verification_txt', 'spf', 'dmarc', 'dkim'] as const).map((check): Finding => ({
    check,
    outcome: 'pass',
    code: 'ok',
    message: '',
    name: 'n',
    type: 'TXT',
    expected: 'e',
    observed: ['e'],
  })),
  sesDkimStatus: 'success',
  trigger: 'requested',
  cycle: null,
} as const;
const failed = (outcomes: readonly PromiseSettledResult<unknown>[]): unknown[] =>
  outcomes
    .filter(({ status }) => status === 'rejected')
    .map((each) => (each as PromiseRejectedResult).reason as unknown);

let database: TestDatabase;
let gateways: readonly [Gateway, Gateway];
let quotas: Quotas;
let teams = 0;
const newTeam = () => `team_${++teams}`;
const limits = { perTeam: { domains: 5, mailboxes: 3 }, domainsInAll: 1_000_000 };
const setQuota = (team: string, kind: 'domains' | 'mailboxes', most: number | null) =>
  inTransaction(gateways[0].pool, (client) => allow(client, team, kind, most));

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith([...eventStoreMigrations, ...readModelMigrations, ...mailboxKeysMigrations]);
  gateways = [new Gateway(database.url), new Gateway(database.url)];
  quotas = new Quotas(gateways[0].pool);
});
beforeEach(() => quotas.setCommon(limits));
afterEach(async () => {
  const { counted, held } = await countedAndHeld(database.url);
  expect(counted).toEqual(held);
});
afterAll(async () => {
  await Promise.all(gateways.map(({ pool }) => pool.end()));
  await database.drop();
});

it('of many concurrent adds of a team, by two gateways, exactly as many succeed as it may have', async () => {
  const [full, roomy] = [newTeam(), newTeam()];
  await setQuota(roomy, 'domains', 100);
  const outcomes = await Promise.allSettled(
    Array.from({ length: 60 }, (_, i) => [gateways[i % 2]!.add(full), gateways[i % 2]!.add(roomy)]).flat(),
  );
  const refusals = failed(outcomes) as QuotaExceeded[];
  expect(refusals).toHaveLength(55);
  for (const refusal of refusals) {
    expect(refusal).toBeInstanceOf(QuotaExceeded);
    expect(refusal).toMatchObject({ kind: 'domains', count: { current: 5, limit: 5 } });
  }
  expect(await quotas.ofAll([roomy, full])).toMatchObject([
    { domains: { current: 60, limit: 100 } },
    { domains: { current: 5, limit: 5 } },
  ]);
});

it('of many concurrent creations of mailboxes exactly as many succeed as the team may have', async () => {
  const team = newTeam();
  const home = await gateways[0].verified(team);
  const outcomes = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => gateways[i % 2]!.create(team, home)));
  expect(failed(outcomes)).toHaveLength(37);
  expect((failed(outcomes)[0] as Error).message).toBe(
    'Your team has 3 mailboxes, and 3 is the most that it may have. Delete a mailbox that you no longer need, or ask support for a higher limit.',
  );
  const [first] = outcomes.filter(({ status }) => status === 'fulfilled') as PromiseFulfilledResult<string>[];
  const remove = () => gateways[1].commands.execute(new DeleteMailbox(first!.value, context()));
  await remove();
  await expect(remove()).rejects.toThrow('There is no mailbox');
  await gateways[1].create(team, home);
  await expect(gateways[0].create(team, home)).rejects.toThrow(QuotaExceeded);
});

it('a domain holds its place until it is rolled back or deleted, and gives it back once', async () => {
  const team = newTeam();
  await setQuota(team, 'domains', 1);
  const [one] = gateways;
  const uses = async () => (await quotas.of(team)).domains.current;
  for (const end of ['rollBack', 'remove'] as const) {
    const id = await one.add(team);
    const others = one.add(team);
    await expect(others).rejects.toThrow('Your team has 1 domain, and 1 is the most that it may have.');
    for (let again = 0; again < 2; again++) {
      await one[end](id).catch((error: Error) => expect(error).toBeInstanceOf(DomainRuleBroken));
      expect(await uses()).toBe(0);
    }
  }
  // What is refused for another reason takes no place.
  const id = await one.add(newTeam());
  await expect(one.add(team, newId('mdom'), `${id.slice(5)}.example.com`)).rejects.toThrow('is taken');
  expect(await uses()).toBe(0);
});

it('a repeated add with the id of one that succeeded is not refused, however full the team is', async () => {
  const team = newTeam();
  await setQuota(team, 'domains', 1);
  const id = newId('mdom');
  const repeated = await Promise.allSettled(Array.from({ length: 6 }, (_, i) => gateways[i % 2]!.add(team, id)));
  expect(failed(repeated)).toEqual([]);
  expect((await quotas.of(team)).domains.current).toBe(1);
});

it('a limit below what a team has refuses further ones only, and what it has can be changed and deleted', async () => {
  const team = newTeam();
  const [one] = gateways;
  const ids = [await one.add(team), await one.add(team), await one.add(team)];
  await setQuota(team, 'domains', 1);
  await expect(one.add(team)).rejects.toMatchObject({ count: { current: 3, limit: 1 } });
  for (const id of ids) await one.remove(id);
  await one.add(team);
  await setQuota(team, 'domains', null);
  await one.add(team);
  expect(await quotas.of(team)).toMatchObject({ domains: { current: 2, limit: 5 } });
});

it('a limit of all teams together refuses the next domain of any', async () => {
  const { current } = await quotas.domainsInAll();
  await quotas.setCommon({ ...limits, domainsInAll: current + 3 });
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => gateways[i % 2]!.add(newTeam())));
  expect(failed(outcomes)).toHaveLength(17);
  for (const error of failed(outcomes)) expect(error).toBeInstanceOf(InstallationFull);
  expect(failed(outcomes)[0]).toMatchObject({ count: { current: current + 3, limit: current + 3 } });
  expect(await quotas.domainsInAll()).toEqual({ current: current + 3, limit: current + 3 });
});

it('closing the quotas of a team ends creations that are under way', async () => {
  for (let i = 0; i < sample(20, 200); i++) {
    const team = newTeam();
    const [added, closed] = await Promise.allSettled([
      gateways[0].add(team),
      inTransaction(gateways[1].pool, (client) => closeQuotas(client, team)),
    ]);
    const seen = (closed as PromiseFulfilledResult<Awaited<ReturnType<typeof closeQuotas>>>).value;
    expect(seen.domains.current).toBe(added.status === 'fulfilled' ? 1 : 0);
    await expect(gateways[0].add(team)).rejects.toThrow('Your team may have no domains.');
  }
});

it('appends that travel together, of many teams in any order, never deadlock', async () => {
  const random = numbers(3);
  const mine = Array.from({ length: 30 }, newTeam);
  for (let round = 0; round < 10; round++) {
    const shuffled = () =>
      mine
        .map((team) => [random(), team] as const)
        .sort()
        .map(([, team]) => team);
    const adds = gateways.flatMap((gateway) => shuffled().map((team) => gateway.add(team)));
    // The other gateway rolls them back.
    const ended = (await Promise.allSettled(adds)).flatMap((each, i) =>
      each.status === 'fulfilled' ? [gateways[i < mine.length ? 1 : 0].rollBack(each.value)] : [],
    );
    await Promise.all(ended);
  }
  const deadlocks = `SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()`;
  expect((await gateways[0].pool.query(deadlocks)).rows).toEqual([{ deadlocks: 0 }]);
});

it('counts what is held, whatever teams do at once', async () => {
  const random = numbers(7);
  const mine = Array.from({ length: 4 }, newTeam);
  await Promise.all(
    Array.from({ length: sample(150, 4_000) }, async (_, i) => {
      const [gateway, team] = [gateways[i % 2]!, mine[Math.floor(random() * mine.length)]!];
      const end = random();
      try {
        const id = await gateway.add(team);
        if (end < 0.4) await gateway.rollBack(id);
        else if (end < 0.8) await gateway.remove(id);
      } catch (error) {
        expect(error).toBeInstanceOf(QuotaExceeded);
      }
    }),
  );
  for (const { domains } of await quotas.ofAll(mine)) expect(domains.current).toBeLessThanOrEqual(domains.limit!);
});
