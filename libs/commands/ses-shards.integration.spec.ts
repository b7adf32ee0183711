import { Logger } from '@nestjs/common';
import { openPool } from '@app/database';
import type { CommandContext } from '@app/decider';
import { EventStore, eventStoreMigrations } from '@app/event-store';
import { AddDomain, CompleteRollback, FailProvisioning } from '@app/mail-domain';
import { domainsProjection, readModelMigrations, StoredShards } from '@app/read-model';
import { newId, SettingsInvalid, type SesShard } from '@app/runtime';
import type { Pool } from 'pg';
import { countedAndHeld } from '../../test/support/replayed-read-model';
import { sample } from '../../test/support/sample';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { CommandToDomain, DomainCommandHandler } from './domain-command.handler';
import { ShardClosed } from './quota-errors';

/** Stands for one gateway: its store shares nothing with that of another but the database. */
class Gateway {
  readonly pool: Pool;
  readonly shards: StoredShards;
  private readonly domains: DomainCommandHandler;

  constructor(url: string) {
    this.pool = openPool(url, 8);
    this.shards = new StoredShards(this.pool);
    this.domains = new DomainCommandHandler(new EventStore(this.pool, domainsProjection));
  }

  async addTo(sesShard: string, id = newId('mdom')): Promise<string> {
    const data = { name: `${id.slice(5)}.example.com`, team: 'team_1', deadline: context().at, sesShard };
    await this.domains.execute(new CommandToDomain(new AddDomain(id, data, context())));
    return id;
  }

  async rollBack(id: string): Promise<void> {
    const failure = { step: 'ses', kind: 'refused', reason: 'No.' } as const;
    await this.domains.execute(new CommandToDomain(new FailProvisioning(id, failure, context())));
    await this.domains.execute(new CommandToDomain(new CompleteRollback(id, context())));
  }
}

const context = (): CommandContext => ({ at: new Date().toISOString(), actor: 'key_1', correlationId: 'req_1' });
const shard = (name: string, capacity: number): SesShard => ({
  name,
  region: 'eu-west-1',
  capacity,
  callsPerSecond: 1,
});
const outcomesOf = async (adds: Promise<string>[]) => {
  const settled = await Promise.allSettled(adds);
  const errors = settled.flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []));
  return { ids: settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : [])), errors };
};

let database: TestDatabase;
let gateways: readonly [Gateway, Gateway];
const useOf = async (name: string) => (await gateways[0].shards.uses()).find((use) => use.name === name);

beforeEach(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith([...eventStoreMigrations, ...readModelMigrations]);
  gateways = [new Gateway(database.url), new Gateway(database.url)];
});
afterEach(async () => {
  const { counted, held } = await countedAndHeld(database.url);
  expect(counted).toEqual(held);
  await Promise.all(gateways.map(({ pool }) => pool.end()));
  await database.drop();
});

describe('a shard of SES', () => {
  it('has as many identities as it may have, however many adds come at once', async () => {
    await gateways[0].shards.store([shard('default', 1_000), shard('us-1', 7)]);
    for (let round = 0; round < sample(3, 50); round++) {
      const { ids, errors } = await outcomesOf(Array.from({ length: 30 }, (_, i) => gateways[i % 2]!.addTo('us-1')));
      expect(ids).toHaveLength(7);
      for (const error of errors) expect(error).toEqual(new ShardClosed('us-1'));
      expect(await useOf('us-1')).toMatchObject({ identities: 7, capacity: 7 });
      await Promise.all(ids.map((id, i) => gateways[i % 2]!.rollBack(id)));
      expect(await useOf('us-1')).toMatchObject({ identities: 0 });
    }
  });

  it('takes none while it is drained, also an add that has chosen it before', async () => {
    const [{ shards }] = gateways;
    await shards.store([shard('default', 10)]);
    const id = await gateways[0].addTo('default');
    expect(await shards.drain('default', true)).toBe(true);
    expect(await shards.drain('us-9', true)).toBe(false);
    await expect(gateways[1].addTo('default')).rejects.toThrow(ShardClosed);
    expect(await shards.chooseOpen()).toBeUndefined();
    // What is there is repeated, changed and removed as before.
    await gateways[1].addTo('default', id);
    await gateways[1].rollBack(id);
    await shards.drain('default', false);
    await gateways[1].addTo('default');
  });

  it('is chosen in proportion to its room, and not while it fails', async () => {
    const [{ shards }] = gateways;
    await shards.store([shard('default', 1), shard('us-1', 30), shard('us-2', 10)]);
    await gateways[0].addTo('default');
    const chosen = async (times = 40) => {
      const names = await Promise.all(Array.from({ length: times }, () => shards.chooseOpen()));
      return names.sort().filter((name, i) => name !== names[i - 1]);
    };
    const draws = await Promise.all(Array.from({ length: 600 }, () => shards.chooseOpen()));
    const share = (name: string) => draws.filter((each) => each === name).length / draws.length;
    expect(share('us-1')).toBeGreaterThan(0.65);
    expect(share('us-2')).toBeGreaterThan(0.15);
    expect(share('us-1') + share('us-2')).toBe(1);
    await shards.failed('us-1', 4, 'no_answer', true);
    expect(await chosen()).toEqual(['us-2']);
    await shards.failed('us-2', 1, 'no_answer', false);
    expect(await chosen()).toEqual(['us-2']);
    await shards.failed('us-2', 1, 'AccessDenied', true);
    expect(await chosen(1)).toEqual([undefined]);
    expect(await useOf('us-1')).toMatchObject({ isFailing: true, errors: 4, lastError: 'no_answer' });
    await shards.answers('us-1');
    expect(await chosen()).toEqual(['us-1']);
    expect(await useOf('us-1')).toMatchObject({ isFailing: false, errors: 4 });
    expect(await shards.chooseOpen('us-1')).toBeUndefined();
    await gateways[0].pool.query(`UPDATE ses_shards SET failing_until = now() - interval '1 ms' WHERE name = 'us-2'`);
    expect(await useOf('us-2')).toMatchObject({ isFailing: false });
    expect(await shards.chooseOpen('us-1')).toBe('us-2');
  });

  it('is tried although it fails where it is the only one', async () => {
    const [{ shards }] = gateways;
    await shards.store([shard('default', 10)]);
    await shards.failed('default', 4, 'no_answer', true);
    expect(await shards.chooseOpen()).toBe('default');
  });

  it('cannot be taken out of the settings while it has an identity', async () => {
    const [{ shards }] = gateways;
    await shards.store([shard('default', 10), shard('us-1', 10)]);
    const ids = [await gateways[0].addTo('us-1'), await gateways[0].addTo('us-1')];
    const without = () => shards.store([shard('default', 99)]);
    await expect(without()).rejects.toThrow(SettingsInvalid);
    await expect(without()).rejects.toThrow(/SES_SHARDS has no shard us-1, which has 2 identities: .*move --from us-1/);
    expect(await useOf('default')).toMatchObject({ capacity: 10 });
    await Promise.all(ids.map((id) => gateways[1].rollBack(id)));
    await without();
    expect((await shards.uses()).map(({ name, capacity }) => [name, capacity])).toEqual([['default', 99]]);
    await expect(gateways[0].addTo('us-1')).rejects.toThrow(ShardClosed);
  });

  it('needs the name that the domains from before shards have', async () => {
    const [{ shards }] = gateways;
    const before = newId('mdom');
    // As a release adds it that knows no shards, where no process has told its settings yet.
    await gateways[0].addTo(undefined as unknown as string, before);
    await expect(shards.store([shard('eu-1', 10)])).rejects.toThrow(
      /SES_SHARDS has no shard default, which has 1 identity: give this name to the shard of their account and Region/,
    );
    await shards.store([shard('default', 1)]);
    await expect(gateways[0].addTo('default')).rejects.toThrow(ShardClosed);
  });
});
