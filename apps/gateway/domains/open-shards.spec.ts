import { Logger } from '@nestjs/common';
import { ShardClosed } from '@app/commands';
import type { ShardUse } from '@app/read-model';
import { register } from 'prom-client';
import { AllShardsClosed, OpenShards } from './open-shards';

const use = (name: string, identities: number, more: Partial<ShardUse> = {}): ShardUse => ({
  name,
  region: 'eu-west-1',
  capacity: 100,
  identities,
  isDraining: false,
  isFailing: false,
  errors: 0,
  lastError: null,
  lastErrorAt: null,
  ...more,
});

const said: string[] = [];
const alarms = async () => {
  const { values } = await register.getSingleMetric('sendmux_counterpart_alarms_total')!.get();
  return values.find(({ labels }) => labels.reason === 'shard_nearly_full')?.value ?? 0;
};

describe('the shards of SES that take domains', () => {
  let uses: ShardUse[];
  let looks: number;
  const shards = () =>
    new OpenShards({
      uses: () => {
        looks++;
        return Promise.resolve(uses);
      },
      chooseOpen: () => Promise.resolve('default'),
    });
  const add = async (open: OpenShards) => {
    expect(await open.inOne((shard) => Promise.resolve(shard))).toBe('default');
    await new Promise<void>((done) => setImmediate(done));
  };

  beforeAll(() => {
    const log = (...words: unknown[]) => void said.push(JSON.stringify(words));
    Logger.overrideLogger({ error: log, warn: log, log });
  });
  afterAll(() => void Logger.overrideLogger(false));
  beforeEach(() => {
    looks = 0;
    said.length = 0;
  });

  it.each([
    [[use('default', 79), use('us-1', 0)], undefined],
    [[use('default', 80), use('us-1', 0)], 'default has 80 of 100'],
    [[use('default', 80), use('us-1', 100)], 'default has 80 of 100; us-1 has 100 of 100'],
    [[use('default', 9_000, { capacity: null })], undefined],
  ])(
    'are alarmed about from 80 % of what they may have on, by the add that finds it: case %#',
    async (given, expected) => {
      uses = given;
      const before = await alarms();
      await add(shards());
      expect((await alarms()) - before).toBe(expected ? 1 : 0);
      expect(said).toEqual(expected ? [expect.stringContaining(`nearly full: ${expected}.`)] : []);
    },
  );

  it('are looked at once a minute at most, however many domains are added', async () => {
    uses = [use('default', 95)];
    const before = await alarms();
    const open = shards();
    for (let n = 0; n < 3; n++) await add(open);
    expect([looks, (await alarms()) - before]).toEqual([1, 1]);
  });

  it('take the domain even where they cannot be looked at', async () => {
    const open = new OpenShards({
      uses: () => Promise.reject(new Error('the database is away')),
      chooseOpen: () => Promise.resolve('default'),
    });
    await add(open);
    expect(said).toEqual([]);
  });

  it('are measured, each by its name', async () => {
    uses = [
      use('default', 80, { isFailing: true }),
      use('us-1', 3, { isDraining: true, capacity: 50 }),
      use('us-2', 0, { capacity: null }),
    ];
    shards();
    const lines = (await register.metrics()).split('\n').filter((line) => line.startsWith('sendmux_ses_shard_'));
    expect(lines).toEqual([
      'sendmux_ses_shard_identities{shard="default"} 80',
      'sendmux_ses_shard_identities{shard="us-1"} 3',
      'sendmux_ses_shard_identities{shard="us-2"} 0',
      'sendmux_ses_shard_capacity{shard="default"} 100',
      'sendmux_ses_shard_capacity{shard="us-1"} 50',
      'sendmux_ses_shard_capacity{shard="us-2"} 0',
      'sendmux_ses_shard_draining{shard="default"} 0',
      'sendmux_ses_shard_draining{shard="us-1"} 1',
      'sendmux_ses_shard_draining{shard="us-2"} 0',
      'sendmux_ses_shard_failing{shard="default"} 1',
      'sendmux_ses_shard_failing{shard="us-1"} 0',
      'sendmux_ses_shard_failing{shard="us-2"} 0',
    ]);
  });

  it('that close between the choice and the add give way to others, and are named where all are closed', async () => {
    let choices = ['us-1', 'default'];
    const open = new OpenShards({
      uses: () => Promise.resolve(uses),
      chooseOpen: () => Promise.resolve(choices.shift()),
    });
    const closed = (shard: string) =>
      shard === 'us-1' ? Promise.reject(new ShardClosed(shard)) : Promise.resolve(shard);
    expect(await open.inOne(closed)).toBe('default');
    choices = ['us-1'];
    uses = [
      use('default', 100),
      use('us-1', 1, { isDraining: true }),
      use('us-2', 1, { isFailing: true, lastError: 'AccessDenied' }),
    ];
    await expect(open.inOne(closed)).rejects.toThrow(AllShardsClosed);
    await expect(open.inOne(closed)).rejects.toThrow(
      'default has 100 of 100 identities; us-1 is drained; us-2 fails (AccessDenied)',
    );
  });
});
