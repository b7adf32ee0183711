import { Logger } from '@nestjs/common';
import { StoredShards } from '@app/read-model';
import { newId } from '@app/runtime';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

const shard = (name: string, region: string, capacity: number) => ({ name, region, capacity });
const SES_SHARDS = [shard('default', 'eu-west-1', 6), shard('us-1', 'us-east-1', 5), shard('us-2', 'us-west-2', 5)];

let database: TestDatabase;
let gateways: readonly [TestGateway, TestGateway];
let stored: StoredShards;
let names = 0;

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateways = [await startGateway(database.url, { SES_SHARDS }), await startGateway(database.url, { SES_SHARDS })];
  stored = gateways[0].app.get(StoredShards, { strict: false });
});
afterAll(async () => {
  for (const gateway of gateways) await gateway.close();
  await database.drop();
});

const add = (key: string, at = 0, id = newId('req'), domain = `mail${++names}.example.com`) =>
  gateways[at % 2]!.call('POST', '/api/v1/domains', { key, body: { domain }, headers: { 'Idempotency-Key': id } });
const held = async () => Object.fromEntries((await stored.uses()).map(({ name, identities }) => [name, identities]));

describe('the shards of SES', () => {
  it('share the domains, and none has more than it may', async () => {
    const { key } = await gateways[0].key();
    for (let i = 0; i < 6; i++) expect((await add(key, i)).status).toBe(201);
    await stored.drain('us-2', true);
    const drained = (await held())['us-2']!;
    const alarms = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    try {
      const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => add(key, i)));
      expect(answers.filter(({ status }) => status === 201)).toHaveLength(11 - (6 - drained));
      expect(await held()).toEqual({ default: 6, 'us-1': 5, 'us-2': drained });
      const refused = answers.find(({ status }) => status === 503)!;
      expect(refused.headers.get('retry-after')).toBe('60');
      expect(refused.body.error).toMatchObject({
        code: 'service_unavailable',
        retryable: true,
        message: 'We cannot take any more domains just now. We know about it; please try again later.',
      });
      expect(alarms).toHaveBeenCalledWith(
        { reason: 'shards_closed' },
        'Adds are refused with 503. No shard of SES takes new domains: default has 6 of 6 identities; us-1 has 5 of 5 identities; us-2 is drained.',
      );
    } finally {
      alarms.mockRestore();
      await stored.drain('us-2', false);
    }
  });

  it('an add that was begun before goes on when no shard takes another one', async () => {
    const { key } = await gateways[0].key();
    const [id, name] = [newId('req'), `mail${++names}.example.com`];
    const added = await add(key, 0, id, name);
    expect(added.status).toBe(201);
    await stored.drain('us-2', true);
    try {
      expect((await add(key, 1, id, name)).body.data).toEqual(added.body.data);
      // A refusal keeps neither the key nor its body.
      const other = newId('req');
      expect((await add(key, 0, other)).status).toBe(503);
      expect((await add(key, 1, other)).status).toBe(503);
    } finally {
      await stored.drain('us-2', false);
    }
  });

  it('a gateway whose settings lack a shard with identities does not start', async () => {
    await expect(startGateway(database.url, { SES_SHARDS: SES_SHARDS.slice(0, 2) })).rejects.toThrow(
      /SES_SHARDS has no shard us-2, which has \d+ identit(y|ies):/,
    );
  });
});
